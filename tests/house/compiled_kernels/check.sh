#!/bin/sh
# Compiles every_call.cpp as a program with compiled kernels does, and fails if kernels are in it.
#
#   check.sh COMPILER DIRECTORY FLAGS…       the object goes to the directory
set -eu
unit=$(dirname "$0")/every_call.cpp
compiler=$1 object=$2/every_call.o
shift 2

"$compiler" -std=c++20 "$@" -DTOKENNORM_COMPILED_KERNELS -c "$unit" -o "$object"
kernels=$(nm -C --defined-only "$object" | grep -E '(Baseline|Avx2|Avx512)::call<' || true)
if [ -n "$kernels" ]; then
  printf 'Not in include/tokennorm/kernels/compiled.hpp:\n%s\n' "$kernels"
  exit 1
fi
