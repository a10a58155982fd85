#!/bin/sh
# SPDX-License-Identifier: MIT
# A GPT goes from train_gpt to load_checkpoint, under both families' names: the table has its norms,
# and folding, centring and the other family's names change neither text nor logits.
#
#   load_checkpoint_short_run.sh PROGRAM TRAIN_GPT
set -eu
program=$1
train_gpt=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Bytes that are not UTF-8 are characters of the vocabulary too.
yes "$(printf 'enough text to learn from, "quoted\\", with \303\251 and \377')" | head -n 200 \
  >"$scratch/text"

# expect PATTERN FILE: one line of the file is like this.
expect() {
  [ "$(grep -c -e "$1" "$2")" -eq 1 ] && return
  echo "expected one line '$1' in:"
  cat "$2"
  exit 1
}

train() { # FAMILY
  "$train_gpt" --corpus "$scratch/text" --layers 2 --channels 16 --heads 2 --context 16 --batch 4 \
    --steps 20 --learning-rate 1e-2 --save "$scratch/new/$1" --family "$1" \
    >"$scratch/train" 2>/dev/null
  expect "^checkpoint .*$1" "$scratch/train"
}
train gpt2
train llms-from-scratch

"$program" --file "$scratch/new/gpt2" --save "$scratch/renamed" >"$scratch/gpt2"
"$program" --file "$scratch/new/llms-from-scratch" >"$scratch/llms-from-scratch"
cmp "$scratch/renamed" "$scratch/new/llms-from-scratch"
"$program" --file "$scratch/renamed" --save "$scratch/again" --save-family gpt2 >/dev/null
cmp "$scratch/again" "$scratch/new/gpt2"

for key in h.0.ln_1 h.0.ln_2 h.1.ln_1 h.1.ln_2 ln_f; do
  expect "^$key  *LayerNorm  *1e-05  *16 " "$scratch/gpt2"
done
for key in trf_blocks.0.norm1 trf_blocks.0.norm2 trf_blocks.1.norm1 trf_blocks.1.norm2 \
  final_norm; do
  expect "^$key  *LayerNorm  *1e-05  *16 " "$scratch/llms-from-scratch"
done
for output in gpt2 llms-from-scratch; do
  expect "^norms folded  *the same  *[0-9.]*e-0[6-9]$" "$scratch/$output"
  expect "^and centred: RMSNorms  *the same  *[0-9.]*e-0[6-9]$" "$scratch/$output"
done
expect "^saved under other names  *the same  *0$" "$scratch/gpt2"
printf '%s\n' '{"model_type": "gpt2", "layer_norm_epsilon": 1e-3}' >"$scratch/config.json"
# Another epsilon than the model was trained with: the table has it, and the model is refused.
if "$program" --file "$scratch/new/gpt2" --config "$scratch/config.json" 2>"$scratch/refused"; then
  echo 'a wrong epsilon was taken'
  exit 1
fi
expect 'epsilon' "$scratch/refused"
