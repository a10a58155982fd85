# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# For scripts that give a program bad input: it says one line on stderr, nothing on stdout, and
# ends with exit code 2. Sets $scratch, a directory that is there until the end.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0

# expect_refusal WORD ARGUMENTS...: $program refuses them, in one line that has WORD in it.
expect_refusal() {
  word=$1
  shift
  timeout 10 "$program" "$@" >"$scratch/stdout" 2>"$scratch/stderr"
  code=$?
  lines=$(wc -l <"$scratch/stderr")
  if [ "$code" -ne 2 ] || [ "$lines" -ne 1 ] || [ -s "$scratch/stdout" ] ||
    ! grep -q -e "$word" "$scratch/stderr"; then
    echo "$program $*: exit code $code, expected 2 and one line with '$word'; stderr:"
    cat "$scratch/stderr"
    failures=$((failures + 1))
  fi
}

# The end of a script.
report_refusals() {
  if [ "$failures" -ne 0 ]; then
    echo "$failures failures"
    exit 1
  fi
}
