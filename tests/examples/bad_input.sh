#!/bin/sh
# SPDX-License-Identifier: MIT
# Bad input to train_gpt: one line on stderr, nothing on stdout, exit code 2.
#
#   bad_input.sh PROGRAM
set -u
program=$1
. "$(dirname "$0")/expect_refusal.sh"
printf '' >"$scratch/empty"
printf 'too short for the context' >"$scratch/short"
yes 'enough text to learn from' | head -n 200 >"$scratch/text"

expect_refusal missing --corpus "$scratch/missing"
expect_refusal missing --corpus "$scratch/text" "$scratch/missing"
expect_refusal empty --corpus "$scratch/empty"
expect_refusal directory --corpus "$scratch"
expect_refusal 'too short' --corpus "$scratch/short"
expect_refusal 'too short' --corpus "$scratch/text" --context 100000
expect_refusal placement --placement middle
expect_refusal norm --norm batch
expect_refusal heads --channels 64 --heads 5
expect_refusal nonsense --nonsense
expect_refusal corpus --corpus
expect_refusal extra extra
expect_refusal micro-batches --batch 8 --micro-batches 3
expect_refusal micro-batches --batch 8 --micro-batches 16
for option in layers channels heads context batch micro-batches steps; do
  for value in 0 -3 x 1.5 99999999999999999999 1x ''; do
    expect_refusal "$option" "--$option" "$value"
  done
done
for value in 0 -1e-3 nan inf x ''; do
  expect_refusal learning-rate --learning-rate "$value"
done
expect_refusal seed --seed x
expect_refusal seed --seed -1
expect_refusal out --corpus "$scratch/text" --out "$scratch/text/below_a_file"
expect_refusal save --corpus "$scratch/text" --save "$scratch/text/below_a_file"
expect_refusal save --corpus "$scratch/text" --save "$scratch"
for model in '--placement post' '--placement sandwich' '--norm rms'; do
  # shellcheck disable=SC2086 # an option and its value
  expect_refusal save $model --save "$scratch/model.safetensors"
done
for option in '--placement post' '--norm layer' '--channels 12 --heads 4'; do
  # shellcheck disable=SC2086 # an option and its value
  expect_refusal architecture --architecture llama $option
done
expect_refusal architecture --architecture mamba
expect_refusal family --family bert --save "$scratch/model.safetensors"

report_refusals
