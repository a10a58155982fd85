#!/usr/bin/env bash
# What including tokennorm costs: the user seconds (median of three) that g++ and clang++ take at
# -O2 for a unit of <Eigen/Core> alone, and for one with the umbrella, a LayerNorm and a PreLN, which
# compiles its kernels itself or leaves them to tokennorm::compiled_kernels; the size of the unit's
# code and data; and what the compiled kernels take, once for a program.
#
#   ./bench/compile_time.sh
#
# From the environment: CXX, one compiler instead of g++ and, where it is there, clang++; EIGEN, the
# directory with Eigen/Core, for one that pkg-config does not know.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

. "$root/cmake/prepare.sh"
install_packages g++ libeigen3-dev pkg-config binutils
export CCACHE_DISABLE=1

eigen=${EIGEN:-$(pkg-config --cflags-only-I eigen3 | sed 's/^-I//; s/ .*//')}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
target=1.0

# compile UNIT [OPTION...]: the unit's object, and the user seconds on stdout
compile() {
  TIMEFORMAT=%3U
  { time "$compiler" -std=c++20 -O2 -I "$root/include" -isystem "$eigen" "${@:2}" \
    -c "$1" -o "$scratch/object.o"; } 2>&1
}
median_of_three() {
  for _ in 1 2 3; do compile "$@"; done | sort -n | sed -n 2p
}
kilobytes() {
  size "$scratch/object.o" | awk 'NR == 2 { printf "%.1f kB", ($1 + $2 + $3) / 1000 }'
}

units=$root/bench/compile_time
printf '#define TOKENNORM_DEFINE_KERNELS\n#include <tokennorm/kernels/compiled.hpp>\n' \
  >"$scratch/kernels.cpp"
compilers=${CXX:-g++ clang++}
printf '%-10s  %-18s  %12s  %10s  %10s  %7s  %10s\n' \
  compiler kernels '<Eigen/Core>' tokennorm difference target object
for compiler in $compilers; do
  command -v "$compiler" >/dev/null || continue
  name=$(basename "$compiler")
  base=$(median_of_three "$units/eigen_only.cpp")
  for kernels in "in the unit" compiled; do
    options=()
    if [ "$kernels" = compiled ]; then options=(-DTOKENNORM_COMPILED_KERNELS); fi
    full=$(median_of_three "$units/tokennorm.cpp" "${options[@]}")
    awk -v name="$name" -v kernels="$kernels" -v base="$base" -v full="$full" \
      -v target="$target" -v object="$(kilobytes)" 'BEGIN {
        printf "%-10s  %-18s  %10.2f s  %8.2f s  %8.2f s  %5.2f s  %10s%s\n", name, kernels, base,
          full, full - base, target, object, (full - base > target) ? "  missed" : ""
      }'
  done
  once=$(compile "$scratch/kernels.cpp")
  printf '%-10s  %-18s  %12s  %8.2f s  %10s  %7s  %10s\n' \
    "$name" "themselves, once" "" "$once" "" "" "$(kilobytes)"
done
