# SPDX-License-Identifier: MIT
# Draws one or several runs of train_gpt, as SVG and as PNG:
#
#     gnuplot -c plot.gp OUTPUT TITLE DIRECTORY LABEL [DIRECTORY LABEL ...]      (up to three runs)
#
# writes OUTPUT.svg and OUTPUT.png. Left: the loss curves, with the bigram model as the yardstick.
# Right: the gradient norm of each block, at the first step and as the mean over all steps. Below:
# what is seen, and why.

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

# Of one run, how it ends; of several, which ends lowest, which in a shallow model with a warm-up is
# Post-LN.
array validation[3]
lowest = 1
do for [run = 1:runs] {
  stats file(run, "summary.csv") using 1 every ::1 nooutput name "summary"
  validation[run] = summary_min
  lowest = validation[run] < validation[lowest] ? run : lowest
}
if (runs == 1) {
  compared = validation[1] < bigram_min ? "below" : "not yet below"
  sentence = sprintf("It ends at %.2f nats per character on text that it has not seen, %s the "\
    . "%.2f of a table of pairs of characters:\nwhat it knows beyond pairs came through "\
    . "attention. Blocks whose gradients are alike learn at one pace.", \
    validation[1], compared, bigram_min)
} else {
  why = name(lowest, "") eq "Post-LN" \
    ? "Its norm keeps the stream at one length, so that all blocks get gradients of one size;\n"\
      . "in Pre-LN those behind a grown stream get less. Six blocks can afford it: 24 of them learn "\
      . "nothing (example 07)." \
    : "In a short run of few blocks the placements differ little:\nwhat they are for, depth and "\
      . "high rates, is in example 07."
  sentence = sprintf("%s ends lowest (%.2f). ", name(lowest, ""), validation[lowest]) . why
}

do for [format in "svg png"] {
  if (format eq "svg") {
    set terminal svg size 1200,650 font "Helvetica,15" background "white"
  } else {
    set terminal pngcairo size 1200,650 font "Sans,12" background "white"
  }
  set output output . "." . format
  set multiplot layout 1,2 title title noenhanced font ",16" offset 0,0.3 \
    margins 0.08,0.98,0.32,0.86 spacing 0.1,0
  set label 1 sentence at screen 0.5,0.06 center noenhanced font (format eq "svg" ? ",14" : ",11")
  set border 3
  set grid linetype 1 linecolor "#e6e6e6"
  set xtics nomirror out
  set ytics nomirror out
  set key at screen 0.28,0.1 bottom center horizontal Left reverse noenhanced samplen 2.5

  set title "Loss (solid: validation, dotted: training)"
  set xlabel "step" offset 0,0.4
  set ylabel "nats per character"
  set xtics autofreq
  set xrange [0:*] noextend
  plot for [run = 1:runs] file(run, "loss.csv") using 1:3 every ::1 with lines \
         linewidth 2.5 linecolor rgb colours[run] title name(run, "validation"), \
       for [run = 1:runs] file(run, "loss.csv") using 1:2 every ::1 with lines \
         linewidth 1.5 dashtype "." linecolor rgb colours[run] title (runs > 1 ? "" : "training"), \
       bigram_min with lines linewidth 1.5 dashtype "-" linecolor "#555555" \
         title "bigram model"

  unset label 1
  set key at screen 0.76,0.1
  set title "Gradient norm of each block (solid: mean, dotted: first step)"
  set xlabel "block, from the input to the output" offset 0,0.4
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
