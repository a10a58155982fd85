#!/bin/sh
# Runs two programs, and fails if they print something else.
set -eu
first=$("$1")
second=$("$2")
if [ "$first" != "$second" ]; then
  printf '%s prints\n%s\n\n%s\n%s\n' "$1" "$first" "$2" "$second"
  exit 1
fi
