#!/bin/sh
# Builds the benchmarks at plain -O2, runs them, and prints one table of medians: each operation at
# each shape beside its floor, its target and its peers; then a list of the cells in which a peer is
# ahead. How to read them: bench/README.md
#
#   ./bench/run.sh [options]
#
#   --against REVISION compare with another revision of this repository instead: both are built by the
#                      same compiler and timed in turn on the same memory; prints this time over that
#                      one, and the geometric mean
#   --mpi              instead: what norms cost whose channels are divided over MPI's ranks, measured
#                      here at 1, 2 and 4 of them, and by a model at 8 to 4096
#   --latency US, --bandwidth GB   of the network in that model (default: those between ranks here)
#   --peers            measure oneDNN and libtorch as well (500 MB of packages)
#   --filter REGEX     only benchmarks whose name, operation/dtype/shape/contestant, matches
#   --repetitions N    of each benchmark, on fresh buffers, interleaved at random with those that it
#                      is compared with (default 9; --against 15)
#   --min-time S       seconds of each repetition (default 0.01; --against 0.002)
#   --json FILE        keep the raw figures
#   --plot DIR         draw the share of the floor and the peers, as SVG and PNG
#   --help             show this text
#
# From the environment: CXX, BUILD_DIR (default build-bench), TOKENNORM_ISA, and what CMake reads
# itself. A run of everything takes four minutes once it is built, and five with --peers.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD_DIR:-$root/build-bench}
. "$root/cmake/prepare.sh"

die() {
  echo "bench/run.sh: $1; see --help" >&2
  exit 2
}

against=
mpi=OFF
latency=
bandwidth=
peers=OFF
filter=.
repetitions=
min_time=
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
    --mpi)
      mpi=ON
      shift
      ;;
    --against | --filter | --repetitions | --min-time | --json | --plot | --latency | --bandwidth)
      [ $# -ge 2 ] || die "$1 needs a value"
      case $1 in
        --against) against=$2 ;;
        --filter) filter=$2 ;;
        --repetitions) repetitions=$2 ;;
        --min-time) min_time=$2 ;;
        --json) json=$2 ;;
        --plot) plot=$2 ;;
        --latency) latency=$2 ;;
        --bandwidth) bandwidth=$2 ;;
      esac
      shift 2
      ;;
    *) die "unknown option $1" ;;
  esac
done

install_packages g++ cmake ninja=ninja-build ccache libeigen3-dev libbenchmark-dev \
  nlohmann-json3-dev libcli11-dev
[ $mpi = OFF ] || install_packages mpirun=openmpi-bin libopenmpi-dev
[ $peers = OFF ] || install_packages libdnnl-dev libtorch-dev
[ -z "$plot" ] || install_packages gnuplot=gnuplot-nox
use_fast_tools

if [ $mpi = ON ]; then
  {
    cmake -S "$root" -B "$build" -DTOKENNORM_BUILD_TESTS=OFF -DTOKENNORM_BUILD_EXAMPLES=OFF
    cmake --build "$build" --target bench_mpi
  } >&2
  allow_mpirun
  exec mpirun -n 4 "$build/bench/bench_mpi" ${latency:+--latency "$latency"} \
    ${bandwidth:+--bandwidth "$bandwidth"}
fi

if [ -n "$against" ]; then
  revision=$(git -C "$root" rev-parse --verify --quiet "$against^{commit}") ||
    die "there is no revision $against"
  rm -rf "$build/against"
  mkdir -p "$build/against"
  git -C "$root" archive "$revision" include | tar -x -C "$build/against"
  {
    cmake -S "$root" -B "$build" -DTOKENNORM_BUILD_TESTS=OFF -DTOKENNORM_BUILD_EXAMPLES=OFF \
      -DTOKENNORM_BENCH_AGAINST="$build/against/include"
    cmake --build "$build" --target bench_against
  } >&2
  echo "tokennorm: this revision against $(git -C "$root" describe --always "$revision")" >&2
  exec "$build/bench/bench_against" --filter "$filter" ${repetitions:+--rounds "$repetitions"} \
    ${min_time:+--min-time "$min_time"}
fi

# What the build says stays out of the table.
{
  cmake -S "$root" -B "$build" -DTOKENNORM_BUILD_TESTS=OFF -DTOKENNORM_BUILD_EXAMPLES=OFF \
    -DTOKENNORM_BENCH_PEERS=$peers -DTOKENNORM_BENCH_AGAINST=
  cmake --build "$build"
} >&2
if [ ! -x "$build/bench/bench_tokennorm" ]; then
  echo "bench/run.sh: the benchmarks were left out of the build: see above" >&2
  exit 1
fi

results=${json:-$build/results.json}
repetitions=${repetitions:-9}
echo "tokennorm: measuring; each benchmark runs $repetitions times" >&2
if ! "$build/bench/bench_tokennorm" --benchmark_filter="$filter" --by_cell="$results" \
  --benchmark_enable_random_interleaving=true --benchmark_repetitions="$repetitions" \
  --benchmark_min_time="${min_time:-0.01}" \
  >"$build/log.txt" 2>&1 || ! grep -q '"run_name"' "$results"; then
  cat "$build/log.txt" >&2
  exit 1
fi
"$build/bench/bench_report" "$results" ${plot:+--plot "$plot"}
