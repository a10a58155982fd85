# SPDX-License-Identifier: MIT
# Part a: the gradient of the feed-forward matrix of every block, at the largest depth.
plots = ARG1; directory = ARG2; caption = ARG3
load plots . "/style.gp"

array kinds[2] = ["theorem", "characters"]
array titles[2] = ["The theorem's network (mean attention, ReLU)", \
                   "A character model (softmax attention, GELU)"]
stats csv("a_every_matrix_theorem") using 1 every ::1 nooutput name "block"

do for [format in "svg png"] {
  eval terminal(format, 1200, 660)
  set output picture("a_every_matrix", format)
  set multiplot title sprintf("Which blocks get the large gradients? (%d blocks)", block_max) \
    font title_font offset 0,-0.3
  eval words
  set logscale y
  set format y "%g"
  set xlabel "block, from the input to the output"
  set ylabel "‖∂loss / ∂W₂‖ of each block, at initialization"
  set xrange [0:block_max + 1]
  set xtics 1, int(ceil(block_max / 12.0)), block_max
  eval legend
  do for [i = 1:2] {
    eval side(i)
    set title titles[i]
    plot for [p = 1:6] csv("a_every_matrix_" . kinds[i]) using 1:(column(p + 1)) every ::1 \
      with linespoints linewidth 2.2 pointtype points[p] pointsize 0.9 \
      pointinterval int(ceil(block_max / 12.0)) linecolor rgb colours[p] title names[p]
    unset label 1
    unset key
  }
  unset multiplot
}
