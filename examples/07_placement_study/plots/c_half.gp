# SPDX-License-Identifier: MIT
# Part c: the first block whose output overflows half, against the factor on every update.
plots = ARG1; directory = ARG2; caption = ARG3
load plots . "/style.gp"

stats csv("c_half") using 1 every ::1 nooutput name "gain"
stats csv("c_largest_trained") using 1 every ::1 nooutput name "block"
none = block_max + 2
shown(number) = number == 0 ? none : number
array shift[4] = [0.3, 0.1, -0.1, -0.3]  # so that lines on one another can be told apart
array series[4] = ["Pre-LN, updates in half", "Sandwich-LN, updates in half", \
                   "Pre-LN, updates in float", "Sandwich-LN, updates in float"]
array series_colours[4] = ["#0072b2", "#009e73", "#0072b2", "#009e73"]
array series_points[4] = [7, 9, 6, 8]
array dashes[4] = [1, 1, 2, 2]

do for [format in "svg png"] {
  eval terminal(format, 1200, 660)
  set output picture("c_half", format)
  set multiplot title "Where does a residual stream in half precision first overflow?" \
    font title_font offset 0,-0.3
  eval words
  set lmargin at screen 0.09; set rmargin at screen 0.975
  set tmargin at screen 0.87; set bmargin at screen 0.26
  set logscale x 2
  set xlabel "gain: factor on the last matrix and bias of every sublayer of the trained model"
  set ylabel "first block with an infinity or NaN"
  set format x "2^{%L}"
  set xrange [gain_min * 0.8:gain_max * 1.25]
  set yrange [0:none + 1]
  set ytics (1, int(block_max / 4), int(block_max / 2), int(3 * block_max / 4), int(block_max), \
    "none" none)
  set key at graph 0.02,0.6 left top Left reverse samplen 3
  plot for [s = 1:4] csv("c_half") using 1:(shown(column(s + 1)) + shift[s]) every ::1 \
    with linespoints linewidth 2.2 dashtype dashes[s] pointtype series_points[s] pointsize 1.1 \
    linecolor rgb series_colours[s] title series[s]
  unset multiplot
}
