#!/bin/sh
# Builds the benchmarks at plain -O2, runs them, and prints one table of medians: each operation at
# each shape beside its floor, its target and its peers.
#
#   ./bench/run.sh [options]
#
#   --peers            measure oneDNN and libtorch as well (500 MB of packages)
#   --filter REGEX     only benchmarks whose name, operation/dtype/shape/contestant, matches
#   --repetitions N    of each benchmark, on fresh buffers, interleaved at random with those that it
#                      is compared with (default 9)
#   --min-time S       seconds of each repetition (default 0.01)
#   --json FILE        keep the raw figures
#   --plot DIR         draw the share of the floor and the peers, as SVG and PNG
#   --help             show this text
#
# From the environment: CXX, BUILD_DIR (default build-bench), TOKENNORM_ISA, and what CMake reads
# itself. A run of everything takes three minutes once it is built, and four with --peers.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD_DIR:-$root/build-bench}

usage() {
  sed -n '2,/^set -eu$/{/^set -eu$/d;s/^# \{0,1\}//;p;}' "$0"
}
die() {
  echo "bench/run.sh: $1; see --help" >&2
  exit 2
}

peers=OFF
filter=.
repetitions=9
min_time=0.01
json=
plot=
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h)
      usage
      exit
      ;;
    --peers)
      peers=ON
      shift
      ;;
    --filter | --repetitions | --min-time | --json | --plot)
      [ $# -ge 2 ] || die "$1 needs a value"
      case $1 in
        --filter) filter=$2 ;;
        --repetitions) repetitions=$2 ;;
        --min-time) min_time=$2 ;;
        --json) json=$2 ;;
        --plot) plot=$2 ;;
      esac
      shift 2
      ;;
    *) die "unknown option $1" ;;
  esac
done

. "$root/cmake/prepare.sh"
install_packages g++ cmake ninja=ninja-build ccache libeigen3-dev libbenchmark-dev \
  nlohmann-json3-dev libcli11-dev
[ $peers = OFF ] || install_packages libdnnl-dev libtorch-dev
[ -z "$plot" ] || install_packages gnuplot=gnuplot-nox
use_fast_tools

# What the build says stays out of the table.
{
  cmake -S "$root" -B "$build" -DTOKENNORM_BUILD_TESTS=OFF -DTOKENNORM_BUILD_EXAMPLES=OFF \
    -DTOKENNORM_BENCH_PEERS=$peers
  cmake --build "$build"
} >&2
if [ ! -x "$build/bench/bench_tokennorm" ]; then
  echo "bench/run.sh: the benchmarks were left out of the build: see above" >&2
  exit 1
fi

results=${json:-$build/results.json}
echo "tokennorm: measuring; each benchmark runs $repetitions times" >&2
if ! "$build/bench/bench_tokennorm" --benchmark_filter="$filter" --by_cell="$results" \
  --benchmark_enable_random_interleaving=true --benchmark_repetitions="$repetitions" \
  --benchmark_min_time="$min_time" \
  >"$build/log.txt" 2>&1 || ! grep -q '"run_name"' "$results"; then
  cat "$build/log.txt" >&2
  exit 1
fi
"$build/bench/bench_report" "$results" ${plot:+--plot "$plot"}
