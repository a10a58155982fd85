# SPDX-License-Identifier: MIT
# Part a: how the residual stream grows, beside the bounds of lemma 2.
plots = ARG1; directory = ARG2; caption = ARG3
load plots . "/style.gp"

stats csv("a_stream_bounds") using 1 every ::1 nooutput name "block"

do for [format in "svg png"] {
  eval terminal(format, 1200, 660)
  set output picture("a_stream", format)
  set multiplot title \
    "How long does the residual stream get? (the theorem's network, at initialization)" \
    font title_font offset 0,-0.3
  eval words
  set xlabel "block l, from the input to the output"
  set xrange [0:block_max + 1]
  set xtics 0, int(ceil(block_max / 12.0)), block_max
  set ylabel "E‖h‖² / d after block l"
  set yrange [0:*]
  set key top left Left reverse samplen 2
  eval side(1)
  set title "The stream after each block, and lemma 2's bounds for Pre-LN"
  plot csv("a_stream_bounds") using 1:2:3 every ::1 with filledcurves linecolor "#d9e8f3" \
      title "1 + l/2 to 1 + 3l/2", \
    for [p = 1:6] csv("a_stream_theorem") using 1:(column(p + 1)) every ::1 with linespoints \
      linewidth 2.2 pointtype points[p] pointsize 0.9 pointinterval int(ceil(block_max / 12.0)) \
      linecolor rgb colours[p] title names[p]
  unset label 1
  eval side(2)
  set title "Post-LN: what the last norm of each block is given"
  set ylabel "E‖h + f(h)‖² / d in block l"
  set yrange [0:2.5]
  plot 1.5 with lines dashtype "-" linewidth 1.5 linecolor "#555555" title "lemma 2: 3/2", \
    csv("a_stream_bounds") using 1:4 every ::1 with linespoints linewidth 2.2 \
      pointtype points[2] pointsize 0.9 linecolor rgb colours[2] title "Post-LN"
  unset multiplot
}
