# SPDX-License-Identifier: MIT
# The library beside its peers, as SVG and as PNG:
#
#     gnuplot -c peers.gp DIRECTORY MACHINE SENTENCE
#
# reads peers_*.csv in DIRECTORY and writes peers.svg and peers.png there: bars of the share of the
# floor, higher is faster, and what is seen.

directory = ARG1
machine = ARG2
sentence = ARG3
array operations[3] = ["layer_norm", "layer_norm_backward", "layer_norm_residual_add"]
array titles[3] = ["LayerNorm", "LayerNorm backward", \
  "residual add + LayerNorm (oneDNN and libtorch: two calls)"]
array colours[6] = ["#0072b2", "#e69f00", "#999999", "#f6d77e", "#009e73", "#cc79a7"]

set datafile separator comma

do for [format in "svg png"] {
  if (format eq "svg") {
    set terminal svg size 1400,1060 font "Helvetica,15" background "white"
  } else {
    set terminal pngcairo size 1400,1060 font "Sans,12" background "white"
  }
  set output directory . "/peers." . format
  set multiplot layout 3,1 margins 0.06,0.98,0.19,0.90 spacing 0,0.09
  set label 1 "Share of the memory floor, float: higher is faster" at screen 0.5,0.97 center \
    font ",17"
  set label 2 machine at screen 0.5,0.94 center noenhanced font ",11" textcolor "#555555"
  set label 3 sentence at screen 0.5,0.045 center noenhanced font ",12"
  set border 3
  set style data histograms
  set style histogram clustered gap 1.2
  set style fill solid 1 noborder
  set boxwidth 0.92
  set grid ytics linetype 1 linecolor "#e6e6e6"
  set xtics nomirror scale 0 noenhanced font ",10"
  set ytics nomirror out 0,25
  set ylabel "%" offset 1
  set xrange [-0.7:*]
  do for [panel = 1:3] {
    file = directory . "/peers_" . operations[panel] . ".csv"
    columns = int(system("head -1 '" . file . "' | tr , '\n' | wc -l"))
    highest = 110
    do for [i = 2:columns] {
      stats file using i every ::1 nooutput
      highest = STATS_max > highest ? STATS_max : highest
    }
    set yrange [0:1.02 * highest]
    set title titles[panel] offset 0,-0.5
    if (panel == 1) {
      set key at screen 0.5,0.08 bottom center horizontal Left reverse noenhanced samplen 1.5 \
        width -1 maxrows 2
    } else {
      unset key
      unset label
    }
    plot for [i = 2:columns] file using (column(i)):xtic(1) every ::1 \
           linecolor rgb colours[i - 1] title system("head -1 '" . file . "' | cut -d, -f" . i), \
         100 with lines linewidth 1.5 dashtype "-" linecolor rgb "#555555" title "the floor"
  }
  unset multiplot
}
