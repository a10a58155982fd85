# SPDX-License-Identifier: MIT
# Draws one or several runs of train_gpt, as SVG and as PNG:
#
#     gnuplot -c plot.gp OUTPUT TITLE DIRECTORY LABEL [DIRECTORY LABEL ...]      (up to three runs)
#
# writes OUTPUT.svg and OUTPUT.png. Left: the loss curves, with the bigram model as the yardstick.
# Right: the gradient norm of each block, at the first step and as the mean over all steps.

output = ARG1
title = ARG2
array arguments[9] = [ARG1, ARG2, ARG3, ARG4, ARG5, ARG6, ARG7, ARG8, ARG9]
runs = (ARGC - 2) / 2
name(run, what) = arguments[2 * run + 2] eq "" ? what : arguments[2 * run + 2]
file(run, csv) = arguments[2 * run + 1] . "/" . csv

array colours[3] = ["#0072b2", "#d55e00", "#009e73"]
array points[3] = [7, 5, 9]
array open_points[3] = [6, 4, 8]

set datafile separator comma
stats file(1, "summary.csv") using 2 every ::1 nooutput name "bigram"

# The number of a block, from 1; nothing for the embedding, the head and the norms outside blocks.
block(layer) = substr(layer, 1, 7) eq "blocks." ? int(substr(layer, 8, strlen(layer))) + 1 : NaN
stats file(1, "gradient_norms.csv") using (block(strcol(1))) every ::1 nooutput name "block"

do for [format in "svg png"] {
  if (format eq "svg") {
    set terminal svg size 1200,560 font "Helvetica,15" background "white"
  } else {
    set terminal pngcairo size 1200,560 font "Sans,12" background "white"
  }
  set output output . "." . format
  set multiplot layout 1,2 title title noenhanced font ",16" offset 0,0.3
  set border 3
  set grid linetype 1 linecolor "#e6e6e6"
  set xtics nomirror out
  set ytics nomirror out
  set key outside bottom center horizontal Left reverse noenhanced samplen 2.5 height 1

  set title "Loss (solid: validation, dotted: training)"
  set xlabel "step"
  set ylabel "nats per character"
  set xtics autofreq
  set xrange [0:*] noextend
  plot for [run = 1:runs] file(run, "loss.csv") using 1:3 every ::1 with lines \
         linewidth 2.5 linecolor rgb colours[run] title name(run, "validation"), \
       for [run = 1:runs] file(run, "loss.csv") using 1:2 every ::1 with lines \
         linewidth 1.5 dashtype "." linecolor rgb colours[run] title (runs > 1 ? "" : "training"), \
       bigram_min with lines linewidth 1.5 dashtype "-" linecolor "#555555" \
         title "bigram model"

  set title "Gradient norm of each block (solid: mean, dotted: first step)"
  set xlabel "block, from the input to the output"
  set ylabel "‖gradient‖"
  set logscale y
  set format y "%g"
  set xtics 1, int(ceil(block_max / 12.0)), block_max
  set xrange [0.6:block_max + 0.4]
  set yrange [*:*]
  plot for [run = 1:runs] file(run, "gradient_norms.csv") using (block(strcol(1))):2 every ::1 \
         with linespoints linewidth 1.5 dashtype "." pointtype open_points[run] pointsize 1.1 \
         linecolor rgb colours[run] title (runs > 1 ? "" : "first step"), \
       for [run = 1:runs] file(run, "gradient_norms.csv") using (block(strcol(1))):3 every ::1 \
         with linespoints linewidth 2.5 pointtype points[run] pointsize 1.1 \
         linecolor rgb colours[run] title name(run, "mean of all steps")
  unset logscale y
  set format y "% h"
  unset multiplot
}
