#!/bin/sh
# SPDX-License-Identifier: MIT
# Trains the same GPT with its norms in three places, and shows the three side by side.
#
#   compare_placements.sh PROGRAM OUT_DIR [options of train_gpt...]
#
# PROGRAM is train_gpt. Each placement starts from the same weights and sees the same batches. In
# OUT_DIR: pre/, post/ and sandwich/ with what each run leaves, and placements.svg and .png.
set -eu
if [ $# -lt 2 ]; then
  echo "usage: compare_placements.sh PROGRAM OUT_DIR [options of train_gpt...]" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
program=$1
out=$2
shift 2

for placement in pre post sandwich; do
  mkdir -p "$out/$placement"
  "$program" --layers 6 --channels 64 --batch 8 --steps 600 --seed 1 "$@" \
    --placement $placement --out "$out/$placement" >"$out/$placement/log.txt"
done

printf '%-10s  %15s  %12s  %25s  %7s\n' \
  '' 'validation loss' 'bigram model' 'gradient, last/first block' 'seconds'
for placement in pre post sandwich; do
  # The quotient of the gradient norms at the first step: above 1 where gradients fade on the way
  # from the output back to the input.
  quotient=$(awk -F, '/^blocks\./ { if (!first) first = $2; last = $2 }
    END { printf "%.2f", last / first }' "$out/$placement/gradient_norms.csv")
  awk -F, -v placement="$placement" -v quotient="$quotient" 'NR == 2 {
    printf "%-10s  %15.3f  %12.3f  %26s  %7.0f\n", placement, $1, $2, quotient, $3
  }' "$out/$placement/summary.csv"
done

if command -v gnuplot >/dev/null 2>&1; then
  gnuplot -c "$here/plot.gp" "$out/placements" 'Three placements, the same weights and batches' \
    "$out/pre" Pre-LN "$out/post" Post-LN "$out/sandwich" Sandwich-LN
  echo "plots: $out/placements.svg and $out/placements.png"
else
  echo "no plot: gnuplot is not installed; the CSV files are in $out"
fi
