#!/bin/sh
# SPDX-License-Identifier: MIT
# A short run of train_gpt in each placement: it reports both losses and leaves its files, and the
# same seed gives the same result.
#
#   short_run.sh PROGRAM
set -eu
program=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
yes 'enough text to learn from, and some more to make it longer' | head -n 200 >"$scratch/a text"

run() { # DIRECTORY OPTIONS...
  out=$1
  shift
  "$program" --corpus "$scratch/a text" --layers 2 --channels 8 --heads 2 --context 16 --batch 4 \
    --steps 20 --learning-rate 1e-2 --out "$out" "$@" 2>"$out.log"
}

for placement in pre post sandwich; do
  for norm in layer rms; do
    out="$scratch/it's $placement $norm"
    run "$out" --placement $placement --norm $norm >"$out.stdout"
    grep -q 'validation loss .* nats per character' "$out.stdout"
    grep -q 'bigram model .* nats per character' "$out.stdout"
    grep -q 'generation  *[0-9]* tokens/s' "$out.stdout"
    grep -q 'step 20/20' "$out.log"
    [ "$(wc -l <"$out/loss.csv")" -eq 3 ]
    [ "$(grep -c '^blocks\.' "$out/gradient_norms.csv")" -eq 2 ]
    if command -v gnuplot >/dev/null 2>&1; then
      [ -s "$out/training.svg" ] && [ -s "$out/training.png" ]
    else
      grep -q 'no plot: gnuplot is not installed' "$out.stdout"
    fi
  done
done

run "$scratch/again" >/dev/null
cmp "$scratch/it's pre layer/loss.csv" "$scratch/again/loss.csv"

# In micro-batches: the same training and validation losses up to rounding.
run "$scratch/micro" --micro-batches 4 >/dev/null
paste -d , "$scratch/again/loss.csv" "$scratch/micro/loss.csv" | awk -F, 'NR > 1 {
  for (i = 2; i <= 3; ++i) if (($i - $(i + 5)) ^ 2 > (1e-3 * $i) ^ 2) exit 1
}'

# Without gnuplot: the CSV files, and one line about it.
mkdir "$scratch/bin"
ln -s "$(command -v sh)" "$scratch/bin/sh"
PATH="$scratch/bin" run "$scratch/no_gnuplot" >"$scratch/no_gnuplot.stdout"
[ "$(grep -c gnuplot "$scratch/no_gnuplot.stdout")" -eq 1 ]
[ -s "$scratch/no_gnuplot/loss.csv" ] && [ ! -e "$scratch/no_gnuplot/training.png" ]
