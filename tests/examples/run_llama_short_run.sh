#!/bin/sh
# SPDX-License-Identifier: MIT
# run_llama goes on with a text by a model that train_gpt has just trained: the same text whatever
# the threads and sessions, in which what was learned shows.
#
#   run_llama_short_run.sh PROGRAM TRAIN_GPT
set -eu
program=$1
train_gpt=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
yes 'enough text to learn from, and some more to make it longer' | head -n 200 >"$scratch/text"
"$train_gpt" --architecture llama --corpus "$scratch/text" --layers 2 --channels 16 --heads 2 \
  --context 48 --batch 8 --steps 150 --learning-rate 1e-2 --save "$scratch/llama.bin" \
  >"$scratch/train.stdout" 2>/dev/null
grep -q "checkpoint .*llama.bin and .*tokenizer.bin, in llama2.c's format" "$scratch/train.stdout"

run() {
  "$program" --checkpoint "$scratch/llama.bin" --tokenizer "$scratch/tokenizer.bin" "$@"
}
run --temperature 0 --prompt 'enough text to ' --threads 1 >"$scratch/one" 2>"$scratch/log"
grep -q '^enough text to learn from, and some' "$scratch/one"
grep -q 'prefill .* tokens/s' "$scratch/log"
grep -q 'decoding .* tokens/s' "$scratch/log"
run --temperature 0 --prompt 'enough text to ' --threads 2 2>/dev/null | cmp - "$scratch/one"

# Two sessions over one model: both texts, each as it is alone.
run --temperature 0 --prompt 'and some ' 2>/dev/null >"$scratch/other"
for threads in 1 2; do
  run --temperature 0 --prompt 'enough text to ' --prompt 'and some ' --threads $threads \
    2>/dev/null >"$scratch/both"
  { cat "$scratch/one" && echo && cat "$scratch/other" && echo; } | cmp - "$scratch/both"
done
run --temperature 0 --prompt 'and some ' --sessions 2 2>"$scratch/log" >"$scratch/both"
grep -q ' 50 % ' "$scratch/log" && grep -q '100 %' "$scratch/log" # of what does not show yet
{ cat "$scratch/other" && echo && cat "$scratch/other" && echo; } | cmp - "$scratch/both"

# Drawn by a seed.
run --seed 3 2>/dev/null >"$scratch/drawn"
run --seed 3 --threads 2 2>/dev/null | cmp - "$scratch/drawn"
run --steps 11 --temperature 0 --prompt 'and some ' 2>/dev/null | grep -qx 'and some .'
