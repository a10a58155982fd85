#!/bin/sh
# SPDX-License-Identifier: MIT
# A short run of placement_study, far too small to confirm anything: its files are there, each claim
# has a verdict, and the number of threads changes nothing.
#
#   placement_study_short_run.sh PROGRAM
set -eu
program=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

run() { # DIRECTORY OPTIONS...
  out=$1
  shift
  "$program" --quick --layers 2 --largest-depth 4 --channels 8 --heads 2 --context 8 --batch 2 \
    --steps 10 --repeats 1 --out "$out" "$@" >"$out.stdout" 2>"$out.log"
}

out="$scratch/it's all"
run "$out" --threads 2
for table in a_last_matrix_theorem a_every_matrix_characters a_stream_bounds b_runs \
  b_losses_warm_up c_largest_trained c_half d_embedding_norm d_losses claims; do
  [ -s "$out/$table.csv" ]
done
[ "$(wc -l <"$out/a_last_matrix_theorem.csv")" -eq 3 ]  # a header, 2 and 4 blocks
[ "$(wc -l <"$out/b_runs.csv")" -eq 65 ]                # 8 kinds, 4 rates, with and without
grep -q '^1,0,0,0,0$' "$out/c_half.csv"                 # as it was trained, nothing overflows
grep -q '^262144,1,1,' "$out/c_half.csv"
claims=$(grep -c '^[abcd],' "$out/claims.csv")
[ "$claims" -ge 25 ]
[ "$(grep -c '^[abcd],.*confirmed$' "$out/claims.csv")" -eq "$claims" ]
grep -q '^claim .* verdict$' "$out.stdout"
grep -q '100 %.*(d) embedding norm' "$out.log"
if command -v gnuplot >/dev/null 2>&1; then
  for picture in a_last_matrix a_every_matrix a_stream b_losses b_curves b_warm_up c_largest \
    c_half d_embedding_norm; do
    [ -s "$out/$picture.svg" ] && [ -s "$out/$picture.png" ]
  done
fi

mkdir "$scratch/bin" # without gnuplot
ln -s "$(command -v sh)" "$scratch/bin/sh"
PATH="$scratch/bin" run "$scratch/again" --threads 1
[ ! -e "$scratch/again/b_losses.png" ]
for table in "$out"/*.csv; do
  cmp "$table" "$scratch/again/$(basename "$table")"
done

# One part alone: c trains what it needs.
run "$scratch/alone" --part c --threads 1
cmp "$out/c_largest_trained.csv" "$scratch/alone/c_largest_trained.csv"
[ ! -e "$scratch/alone/b_runs.csv" ]

# Bad input is one line.
if "$program" --channels 10 --heads 4 2>"$scratch/error"; then exit 1; fi
grep -q '^placement_study: .*4 does not divide 10 channels' "$scratch/error"
