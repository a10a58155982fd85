# SPDX-License-Identifier: MIT
# How near the library is to what the memory system allows, as SVG and as PNG:
#
#     gnuplot -c share_of_floor.gp DIRECTORY MACHINE SENTENCE
#
# reads bandwidth.csv and share_of_floor.csv in DIRECTORY and writes share_of_floor.svg and .png
# there. Left: the roof, which is the floor's bandwidth at each shape, and the LayerNorm under it.
# Right: the share of the floor that each operation reaches. Below: what is seen.

directory = ARG1
machine = ARG2
sentence = ARG3
bandwidth = directory . "/bandwidth.csv"
share = directory . "/share_of_floor.csv"
columns = int(system("head -1 '" . share . "' | tr , '\n' | wc -l"))

array colours[5] = ["#0072b2", "#56b4e9", "#009e73", "#d55e00", "#cc79a7"]
array points[5] = [7, 5, 9, 11, 13]
set datafile separator comma

do for [format in "svg png"] {
  if (format eq "svg") {
    set terminal svg size 1300,680 font "Helvetica,15" background "white"
  } else {
    set terminal pngcairo size 1300,680 font "Sans,12" background "white"
  }
  set output directory . "/share_of_floor." . format
  set multiplot layout 1,2 margins 0.06,0.98,0.36,0.83 spacing 0.08,0
  set label 1 "Against the memory floor" at screen 0.5,0.96 center font ",17"
  set label 2 machine at screen 0.5,0.91 center noenhanced font ",11" textcolor "#555555"
  set label 3 sentence at screen 0.5,0.06 center noenhanced font ",12"
  set border 3
  set grid ytics linetype 1 linecolor "#e6e6e6"
  set xtics nomirror out scale 0 rotate by 40 right noenhanced font ",11"
  set ytics nomirror out
  set xlabel "one token; few channels; many channels (tokens x channels)" offset 0,0.3
  set xrange [-0.7:*]
  set offsets 0,0.7,0,0
  set style fill solid 1 noborder

  set title "LayerNorm, float: bandwidth" offset 0,-0.3
  set ylabel "GB/s" offset 1
  set yrange [0:*]
  set key at screen 0.28,0.10 bottom center horizontal Left reverse noenhanced samplen 2
  plot bandwidth using 0:2:(0.9):xtic(1) every ::1 with boxes linecolor rgb "#d4d4d4" \
         title "floor: the same bytes, no arithmetic", \
       "" using 0:3:(0.5) every ::1 with boxes linecolor rgb colours[1] title "tokennorm"
  unset label

  set title "Share of the floor"
  set ylabel "%"
  set yrange [0:*]
  set key at screen 0.76,0.10 maxcols 3 width -2
  plot 100 with lines linewidth 1.5 dashtype "-" linecolor rgb "#555555" title "the floor", \
       for [i = 2:columns] share every ::1 \
         using 0:(valid(i) ? column(i) : NaN):xtic(1) with linespoints \
         linewidth 2 pointtype points[i - 1] pointsize 1.1 linecolor rgb colours[i - 1] \
         title system("head -1 '" . share . "' | cut -d, -f" . i)
  unset multiplot
}
