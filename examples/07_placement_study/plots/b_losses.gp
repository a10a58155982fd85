# SPDX-License-Identifier: MIT
# Part b: the final validation loss over learning rates, with and without warm-up.
plots = ARG1; directory = ARG2; caption = ARG3
load plots . "/style.gp"

array files[2] = ["b_losses_warm_up", "b_losses_no_warm_up"]
array titles[2] = ["With warm-up", "Without warm-up"]
stats csv("b_yardsticks") using 1 every ::1::1 nooutput name "unigram"
stats csv("b_yardsticks") using 2 every ::1::1 nooutput name "bigram"
stats csv("b_yardsticks") using 3 every ::1::1 nooutput name "plateau"
unigram = unigram_min; bigram = bigram_min; plateau = plateau_min
top = unigram + 0.35
stats csv(files[1]) using 1 every ::1 nooutput name "rate"
# A run that ends above the picture, or nowhere, is shown at its top.
shown(column_number) = strcol(column_number) eq "nan" ? top : \
  column(column_number) < top ? column(column_number) : top
failed(column_number) = shown(column_number) >= plateau ? shown(column_number) : NaN

do for [format in "svg png"] {
  eval terminal(format, 1200, 660)
  set output picture("b_losses", format)
  set multiplot title "Which placements learn at which learning rates?" font title_font \
    offset 0,-0.3
  eval words
  set logscale x
  set xlabel "peak learning rate"
  set ylabel "validation loss after training, nats per character"
  set yrange [*:top + 0.1]
  set xrange [rate_min * 0.75:rate_max * 1.35]
  set xtics (0.001, 0.003, 0.01, 0.03)
  eval legend
  do for [i = 1:2] {
    eval side(i)
    set title titles[i]
    set label 2 "unigram model" at graph 0.99, first unigram + 0.1 right font ",12" \
      textcolor "#555555"
    set label 3 "bigram model" at graph 0.99, first bigram + 0.04 right font ",12" \
      textcolor "#555555"
    plot unigram with lines dashtype "-" linecolor "#555555" notitle, \
      bigram with lines dashtype "-" linecolor "#555555" notitle, \
      for [p = 1:6] csv(files[i]) using 1:(shown(p + 1)) every ::1 with linespoints linewidth 2.2 \
        pointtype points[p] pointsize 1.1 linecolor rgb colours[p] title names[p], \
      for [p = 1:6] csv(files[i]) using 1:(failed(p + 1)) every ::1 with points pointtype 2 \
        pointsize 2.2 linewidth 2.5 linecolor rgb colours[p] notitle
    unset label 1
    unset key
  }
  unset multiplot
}
