#!/bin/sh
# SPDX-License-Identifier: MIT
# Bad input to train_gpt: one line on stderr, nothing on stdout, exit code 2.
#
#   bad_input.sh PROGRAM
set -u
program=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
printf '' >"$scratch/empty"
printf 'too short for the context' >"$scratch/short"
yes 'enough text to learn from' | head -n 200 >"$scratch/text"
failures=0

# expect_refusal WORD ARGUMENTS...: refused, in one line that has WORD in it.
expect_refusal() {
  word=$1
  shift
  timeout 10 "$program" "$@" >"$scratch/stdout" 2>"$scratch/stderr"
  code=$?
  lines=$(wc -l <"$scratch/stderr")
  if [ "$code" -ne 2 ] || [ "$lines" -ne 1 ] || [ -s "$scratch/stdout" ] ||
    ! grep -q -e "$word" "$scratch/stderr"; then
    echo "train_gpt $*: exit code $code, expected 2 and one line with '$word'; stderr:"
    cat "$scratch/stderr"
    failures=$((failures + 1))
  fi
}

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
for option in layers channels heads context batch steps; do
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

if [ "$failures" -ne 0 ]; then
  echo "$failures failures"
  exit 1
fi
