#!/bin/sh
# Builds the tests and the examples, and runs every test.
#
#   ./tests/run.sh [options of cmake...]
#
# From the environment: CXX, BUILD_DIR (default build-tests), CTEST_OPTIONS, and what CMake and CTest
# read themselves.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD_DIR:-$root/build-tests}

# Where it was last measured, from a clean clone without a compiler cache.
last_took="1680 s on 2 shared, busy cores of an Intel Xeon (Sapphire Rapids, 2026-11-30)"
echo "tokennorm: all of this took $last_took" >&2

. "$root/cmake/prepare.sh"
install_packages g++ cmake ninja=ninja-build ccache pkg-config libeigen3-dev libgtest-dev \
  libcli11-dev nlohmann-json3-dev libtbb-dev gnuplot=gnuplot-nox mpirun=openmpi-bin libopenmpi-dev
use_fast_tools

cmake -S "$root" -B "$build" -DTOKENNORM_BUILD_BENCHMARKS=OFF "$@"
cmake --build "$build"
# The options are words, to be split.
# shellcheck disable=SC2086
ctest --test-dir "$build" --output-on-failure ${CTEST_OPTIONS:-}
