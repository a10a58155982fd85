#!/bin/sh
# Compiles every_call.cpp as a program with compiled kernels does, and fails if kernels are in it.
#
#   check.sh COMPILER DIRECTORY SCALAR FLAGS…       the object goes to the directory
set -eu
unit=$(dirname "$0")/every_call.cpp
compiler=$1 object=$2/every_call_of_$3.o
flag=TOKENNORM_COMPILED_$(echo "$3" | tr '[:lower:]' '[:upper:]')
case $3 in
bfloat16 | half) scalar=Eigen::$3 ;;
*) scalar=$3 ;;
esac
shift 3

"$compiler" -std=c++20 "$@" "-D$flag" "-DSCALAR=$scalar" -c "$unit" -o "$object"
kernels=$(nm -C --defined-only "$object" | grep -E '(Baseline|Avx2|Avx512)::call<' || true)
if [ -n "$kernels" ]; then
  printf 'Not in include/tokennorm/kernels/compiled.hpp:\n%s\n' "$kernels"
  exit 1
fi
