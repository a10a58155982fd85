#!/bin/sh
# SPDX-License-Identifier: MIT
# Bad input to run_llama: one line on stderr, nothing on stdout, exit code 2.
#
#   run_llama_bad_input.sh PROGRAM TRAIN_GPT
set -u
program=$1
. "$(dirname "$0")/expect_refusal.sh"
printf '' >"$scratch/empty.bin"
printf 'not a model at all, but some text' >"$scratch/text.bin"
printf '{"model_type": "gpt2"}' >"$scratch/config.json"
printf 'too short' >"$scratch/broken.safetensors"

expect_refusal checkpoint
expect_refusal tokenizer --checkpoint "$scratch/empty.bin"
with_files() { # WORD CHECKPOINT ARGUMENTS...
  word=$1
  checkpoint=$2
  shift 2
  expect_refusal "$word" --checkpoint "$scratch/$checkpoint" --tokenizer "$scratch/text.bin" "$@"
}
with_files 'missing.bin: cannot be read' missing.bin
with_files 'too short' empty.bin
with_files 'the number of' text.bin
with_files 'broken.safetensors' broken.safetensors
with_files 'missing.safetensors' missing.safetensors
with_files 'nonsense' text.bin --nonsense
for option in steps threads sessions; do
  for value in 0 -3 x 1.5 99999999999999999999 ''; do
    with_files "$option" text.bin "--$option" "$value"
  done
done
for value in -1 nan inf x ''; do
  with_files temperature text.bin --temperature "$value"
done
for value in -0.1 1.1 x; do
  with_files top-p text.bin --top-p "$value"
done
with_files seed text.bin --seed -1

yes 'text to learn from' | head -n 200 >"$scratch/text"
"$2" --architecture llama --corpus "$scratch/text" --layers 1 --channels 8 --heads 2 --context 16 \
  --steps 1 --save "$scratch/llama.bin" >/dev/null 2>&1
cp "$scratch/tokenizer.bin" "$scratch/good.bin"
{ cat "$scratch/good.bin" && echo; } >"$scratch/long.bin"
with_files 'text.bin: is no tokenizer of 259 tokens' llama.bin
expect_refusal 'prompt has 17 tokens; expected at most the 16' --checkpoint "$scratch/llama.bin" \
  --tokenizer "$scratch/good.bin" --prompt 'sixteen letters'
expect_refusal 'long.bin: goes on behind 259' --checkpoint "$scratch/llama.bin" \
  --tokenizer "$scratch/long.bin" --prompt x

report_refusals
