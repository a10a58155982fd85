# SPDX-License-Identifier: MIT
# What the plots share. Each is called with the directory of these files, that of the CSV files, and
# the sentence that stands under the picture, in lines:
#
#     plots = ARG1; directory = ARG2; caption = ARG3
#     load plots . "/style.gp"
#     do for [format in "svg png"] {
#       eval terminal(format, width, height)
#       set output picture(name, format)
#       set multiplot …
#       eval words                         # the sentence
#       eval side(1); plot …; eval side(2); plot …
#
# Colours are of Okabe and Ito's set, in the order of the placements; points differ too.
set datafile separator comma
set datafile missing "nan"
set encoding utf8

array colours[6] = ["#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9"]
array points[6] = [7, 5, 9, 11, 13, 2]
array names[6] = ["Pre-LN", "Post-LN", "Sandwich-LN", "DeepNorm", "ResPostLN", "Peri-LN"]

csv(name) = directory . "/" . name . ".csv"
picture(name, format) = directory . "/" . name . "." . format
terminal(format, width, height) = format eq "svg" ? \
  sprintf("set terminal svg size %d,%d font 'Helvetica,15' background 'white'", width, height) : \
  sprintf("set terminal pngcairo size %d,%d font 'Sans,12' background 'white'", width, height)
title_font = ",17"
words = "set label 1 caption at screen 0.03,0.125 left noenhanced " . \
  "font (format eq 'svg' ? ',14' : ',12')"
# One legend of all placements, above the first of two panels.
legend = "set key at screen 0.5,0.935 center top vertical maxrows 1 Left reverse samplen 2 width 1"
side(i) = sprintf("set lmargin at screen %g; set rmargin at screen %g; " . \
  "set tmargin at screen 0.83; set bmargin at screen 0.26", \
  i == 1 ? 0.075 : 0.57, i == 1 ? 0.48 : 0.975)

set border 3
set grid linetype 1 linecolor "#e6e6e6"
set xtics nomirror out
set ytics nomirror out
