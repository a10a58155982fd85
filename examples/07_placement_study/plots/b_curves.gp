# SPDX-License-Identifier: MIT
# Part b: the training loss of every run, a panel for each placement.
plots = ARG1; directory = ARG2; caption = ARG3
load plots . "/style.gp"

stats csv("b_yardsticks") using 1 every ::1::1 nooutput name "unigram"
stats csv("b_yardsticks") using 2 every ::1::1 nooutput name "bigram"
unigram = unigram_min
array rates[4] = ["0.001", "0.003", "0.01", "0.03"]
array rate_colours[4] = ["#56b4e9", "#0072b2", "#e69f00", "#d55e00"]

do for [format in "svg png"] {
  eval terminal(format, 1200, 820)
  set output picture("b_curves", format)
  set multiplot title "When does training leave the plateau of letter frequencies, and when not?" \
    font title_font offset 0,-0.3
  eval words
  set label 1 at screen 0.03,0.085
  set yrange [bigram_min - 0.2:unigram + 0.8]
  set xrange [0:*] noextend
  do for [p = 1:6] {
    across = (p - 1) % 3; row = (p - 1) / 3
    set lmargin at screen 0.055 + 0.325 * across
    set rmargin at screen 0.33 + 0.325 * across
    set tmargin at screen 0.88 - 0.385 * row
    set bmargin at screen 0.60 - 0.385 * row
    set title names[p] offset 0,-0.6
    set xlabel row == 1 ? "step" : ""
    set ylabel across == 0 ? "training loss, nats/character" : ""
    set label 2 "unigram model" at graph 0.98, first unigram + 0.09 right font ",11" \
      textcolor "#555555"
    if (p == 2) {
      set key bottom left Left reverse samplen 1.6 font ",11" spacing 0.9 \
      title "peak learning rate\nsolid: warm-up, dotted: none" left
    } else {
      unset key
    }
    data = csv("b_curves_" . names[p])
    plot unigram with lines dashtype "-" linecolor "#555555" notitle, \
      for [r = 1:4] data using 1:(column(2 * r)) every ::1 with lines linewidth 2 \
        linecolor rgb rate_colours[r] title rates[r], \
      for [r = 1:4] data using 1:(column(2 * r + 1)) every ::1 with lines linewidth 1.7 \
        dashtype "." linecolor rgb rate_colours[r] notitle
    unset label 1
  }
  unset multiplot
}
