# SPDX-License-Identifier: MIT
# Part a: the gradient of the last feed-forward matrix against the number of blocks.
plots = ARG1; directory = ARG2; caption = ARG3
load plots . "/style.gp"

array kinds[2] = ["theorem", "characters"]
array titles[2] = ["The theorem's network (mean attention, ReLU)", \
                   "A character model (softmax attention, GELU)"]
array exponents[6]

do for [format in "svg png"] {
  eval terminal(format, 1200, 660)
  set output picture("a_last_matrix", format)
  set multiplot title "Does the gradient of the last feed-forward matrix shrink with depth?" \
    font title_font offset 0,-0.3
  eval words
  set logscale xy
  set format y "%g"
  set xlabel "number of blocks L"
  set ylabel "‖∂loss / ∂W₂‖ of the last block, at initialization"
  set key bottom left Left reverse samplen 2
  set xtics (2, 4, 8, 12, 16, 24, 32, 48)
  do for [i = 1:2] {
    data = csv("a_last_matrix_" . kinds[i])
    stats data using 1:2 every ::1 nooutput name "pre"
    stats data using 1:3 every ::1 nooutput name "post"
    set xrange [pre_min_x * 0.9:pre_max_x * 1.1]
    set yrange [*:*]
    eval side(i)
    set title titles[i]
    do for [p = 1:6] {
      stats csv("a_exponents_" . kinds[i]) using 2 every ::p::p nooutput name "e"
      exponents[p] = e_min
    }
    plot pre_max_y * 1.12 * (x / pre_min_x) ** -0.5 with lines dashtype "-" linewidth 1.3 \
        linecolor "#555555" title "theorem 1: L^{-0.5} and L^0", \
      post_mean_y with lines dashtype "-" linewidth 1.3 linecolor "#555555" notitle, \
      for [p = 1:6] data using 1:(column(p + 1)) every ::1 with linespoints linewidth 2.2 \
        pointtype points[p] pointsize 1 linecolor rgb colours[p] \
        title sprintf("%s: L^{%.2f}", names[p], exponents[p])
    unset label 1
  }
  unset multiplot
}
