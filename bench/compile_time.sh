#!/usr/bin/env bash
# What including tokennorm costs: the user seconds (median of three) that g++ and clang++ take at
# -O2 for a unit of <Eigen/Core> alone and for one with the umbrella, a LayerNorm and a PreLN, and
# the size of the latter's code and data.
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

# compile UNIT: its object, and the user seconds on stdout
compile() {
  TIMEFORMAT=%3U
  { time "$compiler" -std=c++20 -O2 -I "$root/include" -isystem "$eigen" \
    -c "$root/bench/compile_time/$1.cpp" -o "$scratch/$1.o"; } 2>&1
}
median_of_three() {
  for _ in 1 2 3; do compile "$1"; done | sort -n | sed -n 2p
}

compilers=${CXX:-g++ clang++}
printf '%-10s  %12s  %10s  %10s  %7s  %12s\n' \
  compiler '<Eigen/Core>' tokennorm difference target object
for compiler in $compilers; do
  command -v "$compiler" >/dev/null || continue
  base=$(median_of_three eigen_only)
  full=$(median_of_three tokennorm)
  bytes=$(size "$scratch/tokennorm.o" | awk 'NR == 2 { print $1 + $2 + $3 }')
  awk -v name="$(basename "$compiler")" -v base="$base" -v full="$full" -v target="$target" \
    -v bytes="$bytes" 'BEGIN {
      printf "%-10s  %10.2f s  %8.2f s  %8.2f s  %5.2f s  %9.1f kB%s\n", name, base, full,
        full - base, target, bytes / 1000, (full - base > target) ? "  missed" : ""
    }'
done
