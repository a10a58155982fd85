# SPDX-License-Identifier: MIT
# Part c: the largest activation of the residual stream by block.
plots = ARG1; directory = ARG2; caption = ARG3
load plots . "/style.gp"

array files[2] = ["c_largest_at_first", "c_largest_trained"]
array titles[2] = ["At initialization", "After training"]
stats csv(files[1]) using 1 every ::1 nooutput name "block"
top = 0
do for [i = 1:2] {
  do for [p = 1:6] {
    stats csv(files[i]) using (column(p + 1)) every ::1 nooutput name "h"
    top = h_max > top ? h_max : top
  }
}

do for [format in "svg png"] {
  eval terminal(format, 1200, 660)
  set output picture("c_largest", format)
  set multiplot title "How large do the activations of the residual stream get?" \
    font title_font offset 0,-0.3
  eval words
  set logscale y
  set format y "%g"
  set xlabel "block, from the input to the output (0: before the first)"
  set ylabel "largest |h| over tokens and channels"
  set xrange [-0.5:block_max + 0.5]
  set xtics 0, int(ceil(block_max / 12.0)), block_max
  set yrange [0.7:top * 1.3]
  eval legend
  do for [i = 1:2] {
    eval side(i)
    set title titles[i]
    plot for [p = 1:6] csv(files[i]) using 1:(column(p + 1)) every ::1 with linespoints \
      linewidth 2.2 pointtype points[p] pointsize 0.9 linecolor rgb colours[p] title names[p]
    unset label 1
    unset key
  }
  unset multiplot
}
