# SPDX-License-Identifier: MIT
# Draws one or several runs of train_gpt, as SVG and as PNG:
#
#     gnuplot -c plot.gp OUTPUT TITLE DIRECTORY LABEL [DIRECTORY LABEL ...]
#
# writes OUTPUT.svg and OUTPUT.png. Left: the loss curves, with the bigram model as the yardstick.
# Right: the gradient norm of each block, at the first step and as the mean over all steps.

output = ARG1
title = ARG2
array arguments[9] = [ARG1, ARG2, ARG3, ARG4, ARG5, ARG6, ARG7, ARG8, ARG9]
runs = (ARGC - 2) / 2
directory(run) = arguments[2 * run + 1]
label(run) = arguments[2 * run + 2]
name(run, what) = label(run) eq "" ? what : label(run) . ": " . what
file(run, csv) = directory(run) . "/" . csv

array colours[3] = ["#0072b2", "#d55e00", "#009e73"]

set datafile separator comma
stats file(1, "summary.csv") using 2 every ::1 nooutput name "bigram"

block(layer) = substr(layer, 1, 7) eq "blocks." ? int(substr(layer, 8, strlen(layer))) + 1 : NaN

do for [format in "svg png"] {
  if (format eq "svg") {
    set terminal svg size 1200,520 enhanced font "Helvetica,15" background "white"
  } else {
    set terminal pngcairo size 1200,520 enhanced font "Sans,12" background "white"
  }
  set output output . "." . format
  set multiplot layout 1,2 title title noenhanced font ",17"
  set grid back linecolor "#dddddd"
  set border 3
  set tics nomirror out
  set key top right noenhanced samplen 2

  set xlabel "step"
  set ylabel "loss, nats per character"
  set xtics auto
  set xrange [0:*]
  plot for [run = 1:runs] file(run, "loss.csv") using 1:2 every ::1 with lines \
         linewidth 1 dashtype 3 linecolor rgb colours[run] title name(run, "training"), \
       for [run = 1:runs] file(run, "loss.csv") using 1:3 every ::1 with lines \
         linewidth 2 linecolor rgb colours[run] title name(run, "validation"), \
       bigram_min with lines linewidth 1 dashtype 2 linecolor "#555555" title "bigram model"

  set xlabel "block, from the input to the output"
  set ylabel "gradient norm of the block"
  set logscale y
  set xtics 1
  set xrange [*:*]
  set offsets 0.3, 0.3, 0, 0
  plot for [run = 1:runs] file(run, "gradient_norms.csv") using (block(strcol(1))):2 every ::1 \
         with linespoints linewidth 1 dashtype 3 pointtype 6 linecolor rgb colours[run] \
         title name(run, "first step"), \
       for [run = 1:runs] file(run, "gradient_norms.csv") using (block(strcol(1))):3 every ::1 \
         with linespoints linewidth 2 pointtype 7 linecolor rgb colours[run] \
         title name(run, "mean")
  unset logscale y
  unset offsets
  unset multiplot
}
