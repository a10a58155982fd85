# SPDX-License-Identifier: MIT
# Part b: what warm-up does for Pre-LN and Post-LN, with few blocks and with many.
plots = ARG1; directory = ARG2; caption = ARG3
load plots . "/style.gp"

array files[2] = ["b_warm_up_shallow", "b_warm_up_deep"]
stats csv("b_yardsticks") using 1 every ::1::1 nooutput name "unigram"
stats csv("b_yardsticks") using 2 every ::1::1 nooutput name "bigram"
stats csv("b_runs") using 2 every ::1 nooutput name "blocks"
array blocks[2] = [blocks_min, blocks_max]
top = unigram_min + 0.35
stats csv(files[1]) using 1 every ::1 nooutput name "rate"
shown(column_number) = strcol(column_number) eq "nan" ? top : \
  column(column_number) < top ? column(column_number) : top
array series[4] = ["Pre-LN, warm-up", "Pre-LN, no warm-up", "Post-LN, warm-up", "Post-LN, no warm-up"]
array series_colours[4] = ["#0072b2", "#0072b2", "#d55e00", "#d55e00"]
array series_points[4] = [7, 6, 5, 4]
array dashes[4] = [1, 2, 1, 2]

do for [format in "svg png"] {
  eval terminal(format, 1200, 660)
  set output picture("b_warm_up", format)
  set multiplot title "Who needs learning-rate warm-up?" font title_font offset 0,-0.3
  eval words
  set logscale x
  set xlabel "peak learning rate"
  set ylabel "validation loss after training, nats per character"
  set yrange [*:top + 0.1]
  set xrange [rate_min * 0.75:rate_max * 1.35]
  set xtics (0.001, 0.003, 0.01, 0.03)
  eval legend
  set label 2 "unigram model" at graph 0.99, first unigram_min + 0.1 right font ",12" \
    textcolor "#555555"
  set label 3 "bigram model" at graph 0.99, first bigram_min + 0.04 right font ",12" \
    textcolor "#555555"
  do for [i = 1:2] {
    eval side(i)
    set title sprintf("%d blocks", blocks[i])
    plot unigram_min with lines dashtype "-" linecolor "#555555" notitle, \
      bigram_min with lines dashtype "-" linecolor "#555555" notitle, \
      for [s = 1:4] csv(files[i]) using 1:(shown(s + 1)) every ::1 with linespoints linewidth 2.2 \
        dashtype dashes[s] pointtype series_points[s] pointsize 1.3 \
        linecolor rgb series_colours[s] title series[s]
    unset label 1
    unset key
  }
  unset multiplot
}
