#!/bin/sh
# Prints the accuracy tables of bench/README.md: the worst error of each result, in units of its
# documented bound, at each instruction set level of the machine, and that of oneDNN and libtorch on
# the same rows: the hard rows of the tests, and rows that a search for the worst one finds.
#
#   ./tests/accuracy.sh [options]
#
#   --rows N     that the search tries, for each norm and scalar (default 1000000)
#   --seed S     of the search (default 1)
#   --no-peers   without oneDNN and libtorch (500 MB of packages)
#   --help       show this text
#
# Ends with 1 where tokennorm breaks a bound. From the environment: CXX, BUILD_DIR (default
# build-accuracy), TOKENNORM_ISA, and what CMake reads itself.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD_DIR:-$root/build-accuracy}
. "$root/cmake/prepare.sh"

die() {
  echo "tests/accuracy.sh: $1; see --help" >&2
  exit 2
}

rows=1000000
seed=1
peers=ON
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h)
      usage
      exit
      ;;
    --no-peers)
      peers=OFF
      shift
      ;;
    --rows | --seed)
      [ $# -ge 2 ] || die "$1 needs a value"
      case $1 in
        --rows) rows=$2 ;;
        --seed) seed=$2 ;;
      esac
      shift 2
      ;;
    *) die "unknown option $1" ;;
  esac
done

install_packages g++ cmake ninja=ninja-build ccache libeigen3-dev libgtest-dev libcli11-dev
[ $peers = OFF ] || install_packages libdnnl-dev libtorch-dev
use_fast_tools

# What the build says stays out of the table.
{
  cmake -S "$root" -B "$build" -DTOKENNORM_BUILD_EXAMPLES=OFF -DTOKENNORM_BUILD_BENCHMARKS=OFF \
    -DTOKENNORM_BENCH_PEERS=$peers
  cmake --build "$build" --target test_accuracy
} >&2

# The norms at the same time, one table after the other.
measure() {
  "$build/tests/accuracy/test_accuracy" --norm "$1" --rows "$rows" --seed "$seed"
}
status=0
measure rms >"$build/rms_norm.md" &
measure layer || status=1
wait $! || status=1
cat "$build/rms_norm.md"
exit $status
