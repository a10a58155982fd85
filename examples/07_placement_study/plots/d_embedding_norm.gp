# SPDX-License-Identifier: MIT
# Part d: Pre-LN with and without an embedding norm.
plots = ARG1; directory = ARG2; caption = ARG3
load plots . "/style.gp"

summary = csv("d_embedding_norm")
stats summary using 1 every ::1 nooutput name "rate"
do for [format in "svg png"] {
  eval terminal(format, 1200, 660)
  set output picture("d_embedding_norm", format)
  set multiplot title "What does a norm right after the embedding change in a Pre-LN?" \
    font title_font offset 0,-0.3
  eval words
  set label 1 at screen 0.03,0.11
  eval side(1)
  set title "Final loss and loss spikes over learning rates, without warm-up"
  unset logscale
  set yrange [*:*]
  set logscale x
  set xlabel "peak learning rate, and the loss spikes without and with the norm" offset 0,-0.8
  set ylabel "validation loss after training, nats per character"
  set xrange [rate_min * 0.75:rate_max * 1.35]
  set key top left Left reverse samplen 2 title ''
  plot summary using 1:2:xtic(sprintf("%s\n%d and %d", strcol(1), $4, $5)) every ::1 \
      with linespoints linewidth 2.5 pointtype 7 pointsize 1.2 \
      linecolor rgb "#d55e00" title "without embedding norm", \
    summary using 1:3 every ::1 with linespoints linewidth 2.5 pointtype 5 pointsize 1.2 \
      linecolor rgb "#0072b2" title "with embedding norm"
  unset label 1
  eval side(2)
  set title "Gradient of the embedding at a learning rate of 0.01"
  unset logscale x
  set logscale y
  set format y "%g"
  set xlabel "step" offset 0,0
  set ylabel "‖gradient of the embedding‖"
  set xrange [0:*] noextend
  set xtics autofreq
  set yrange [*:*]
  set key bottom right Left reverse samplen 2
  plot csv("d_embedding_gradients") using 1:4 every ::1 with lines linewidth 1.5 \
      linecolor rgb "#d55e00" title "without embedding norm", \
    csv("d_embedding_gradients") using 1:5 every ::1 with lines linewidth 1.5 \
      linecolor rgb "#0072b2" title "with embedding norm"
  unset multiplot
}
