#!/usr/bin/env bash
# What including tokennorm costs: for g++ and clang++ the user seconds (median of three) of a unit
# with a LayerNorm and a PreLN, in inference and in training, that compiles its kernels itself or
# leaves them to tokennorm::compiled_kernels; the same for a debugger; and the compiled kernels,
# once for a program.
#
#   ./bench/compile_time.sh
#
# /Core: the time on top of <Eigen/Core> alone at -O2, as a multiple of that; object: code and data;
# memory: the compiler's peak, at most 700 MB. In brackets the most that a figure may be, which for
# a debugger is what -O2 takes; what is above it is named as missed.
#
# From the environment: CXX, one compiler instead of g++ and, where it is there, clang++; EIGEN, the
# directory with Eigen/Core, for one that pkg-config does not know.
set -euo pipefail
shopt -s inherit_errexit
root=$(cd "$(dirname "$0")/.." && pwd)

. "$root/cmake/prepare.sh"
install_packages g++ libeigen3-dev pkg-config binutils gnu-time=time
export CCACHE_DISABLE=1
gnu_time=$(type -P time || type -P gtime)

eigen=$(eigen_directory)
units=$root/bench/compile_time
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
printf '#define TOKENNORM_DEFINE_KERNELS\n#include <tokennorm/kernels/compiled.hpp>\n' \
  >"$scratch/kernels.cpp"

# compile UNIT OPTION...: the object; user seconds and peak KiB on stdout
compile() {
  "$gnu_time" -f '%U %M' -o "$scratch/usage" "$compiler" -std=c++20 -I "$root/include" \
    -isystem "$eigen" "${@:2}" -c "$1" -o "$scratch/object.o"
  cat "$scratch/usage"
}
# once UNIT OPTION...: the time over that of <Eigen/Core>, compiled right before, as the machine may
# be slower a minute later; seconds, KiB
once() {
  local core unit
  core=$(compile "$units/eigen_only.cpp" -O2)
  unit=$(compile "$@")
  awk -v core="${core% *}" -v unit="$unit" 'BEGIN { print unit / core - 1, unit }'
}
median_of_three() {
  for _ in 1 2 3; do once "$@"; done | sort -g | sed -n 2p
}

line='%-10s  %-27s  %-6s  %12s  %11s  %11s  %8s%s\n'
# row UNIT OPTIONS [MOST_OF_CORE [MOST_KB [MOST_SECONDS]]]: the line of `measured`, what was compiled
# last, of which it leaves the `ratio`
row() {
  local seconds kib bytes cells
  read -r ratio seconds kib <<<"$measured"
  bytes=$(size "$scratch/object.o" | awk 'NR == 2 { print $1 + $2 + $3 }')
  cells=$(awk -v t="$seconds" -v ratio="$ratio" -v bytes="$bytes" -v kib="$kib" \
    -v most_t="${5:-}" -v most_ratio="${3:-}" -v most_kb="${4:-}" '
    function cell(name, format, value, most, hidden) {
      if (most != "" && value + 0 > most + 0) missed = missed " " name
      return sprintf(format, value) (most == "" || hidden ? "" : sprintf(" (%.3g)", most)) "|"
    }
    BEGIN {
      cells = cell("time", "%.2f s", t, most_t) cell("/Core", "%.2f", ratio, most_ratio)
      cells = cells cell("object", "%.0f kB", bytes / 1e3, most_kb)
      cells = cells cell("memory", "%.0f MB", kib * 1.024e-3, 700, 1)
      print cells (missed ? "  missed:" missed : "")
    }')
  IFS='|' read -r t over object memory missed <<<"$cells"
  # shellcheck disable=SC2059
  printf "$line" "$(basename "$compiler")" "$1" "$2" "$t" "$over" "$object" "$memory" "$missed"
}

# shellcheck disable=SC2059
printf "$line" compiler unit flags time /Core object memory ''
for compiler in ${CXX:-g++ clang++}; do
  command -v "$compiler" >/dev/null || continue
  measured=$(median_of_three "$units/eigen_only.cpp" -O2)
  measured="0 ${measured#* }"
  row '<Eigen/Core> alone' -O2
  for unit in inference training; do
    if [ $unit = inference ]; then mosts=(2 70) most_compiled=1; else mosts=(4) most_compiled=; fi
    measured=$(median_of_three "$units/$unit.cpp" -O2)
    row $unit -O2 "${mosts[@]}"
    optimized=$ratio
    for level in -O0 -Og; do
      measured=$(median_of_three "$units/$unit.cpp" $level -g)
      row $unit "$level -g" "$optimized"
    done
    measured=$(median_of_three "$units/$unit.cpp" -O2 -DTOKENNORM_COMPILED_KERNELS)
    row "$unit, compiled kernels" -O2 $most_compiled
  done
  measured=$(once "$scratch/kernels.cpp" -O2)
  row 'the compiled kernels, once' -O2 '' '' 40
done
