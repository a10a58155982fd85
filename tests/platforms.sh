#!/bin/sh
# Compiles some of the tests with other compilers, with other flags and for other machines, and runs
# them, in an emulator where the machine is another one. Prints a line for each platform.
#
#   ./tests/platforms.sh [--list] [NAME...]     all platforms, or those that are named
#
# From the environment: BUILD_DIR (default build-platforms), and what CMake and CTest read.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD_DIR:-$root/build-platforms}

# A platform is a line: its name, what is run (see tests_of), the compiler, the flags. Options of
# CMake are among the flags.
all_platforms() {
  platform gcc-c++23 bits g++ -O2 -DCMAKE_CXX_STANDARD=23
  platform gcc-O0 bits g++ -O0
  platform gcc-Og bits g++ -Og
  platform gcc-Os bits g++ -Os
  platform gcc-O3 bits g++ -O3
  platform gcc-lto bits g++ -O2 -flto
  platform gcc-no-exceptions bits g++ -O2 -fno-exceptions -fno-rtti
  platform gcc-instrumented bits g++ -O1 -finstrument-functions
  platform gcc-sanitizers bits g++ -O1 -fsanitize=address,undefined
  platform gcc-int-indices bits g++ -O2 -DEIGEN_DEFAULT_DENSE_INDEX_TYPE=int
  platform clang-14 bits clang++-14 -O2
  platform clang-19 bits clang++-19 -O2
  platform clang-19-c++23 bits clang++-19 -O2 -DCMAKE_CXX_STANDARD=23
  platform clang-19-O0 bits clang++-19 -O0
  platform clang-19-fast-math fast_math clang++-19 -O2
  platform clang-19-libc++ bits clang++-19 -O2 -stdlib=libc++
  platform no-wide-long-double norms g++ -O1 -DTOKENNORM_NO_LONG_DOUBLE -DTOKENNORM_MAX_ISA=0
  platform aarch64 norms aarch64-linux-gnu-g++ -O1 -DKERNELS=ON
  platform aarch64-blocks blocks aarch64-linux-gnu-g++ -O1 -DKERNELS=ON
  platform aarch64-clang norms clang++-19 --target=aarch64-linux-gnu -O1 -DKERNELS=ON
  platform i686-sse norms i686-linux-gnu-g++ -O1 -msse2 -mfpmath=sse -DKERNELS=ON
  platform i686-files files i686-linux-gnu-g++ -O1 -msse2 -mfpmath=sse -D_FILE_OFFSET_BITS=64
  platform armhf norms arm-linux-gnueabihf-g++ -O1 -DKERNELS=ON
  platform s390x norms s390x-linux-gnu-g++ -O1 -DKERNELS=ON
}

# "bits" are those of a plain build by GCC, at each instruction set level.
tests_of() {
  case $1 in
    bits) ;;
    accuracy) echo norm/layer_norm_accuracy.cpp norm/rms_norm_accuracy.cpp \
      norm/backward_accuracy.cpp norm/numeric_edges.cpp ;;
    norms) tests_of accuracy && echo norm/bit_identity.cpp ;;
    blocks) echo block/inference.cpp block/training.cpp checkpoint/reading.cpp \
      checkpoint/writing.cpp kernels/wide_double.cpp ;;
    files) echo checkpoint/reading.cpp checkpoint/large_file.cpp ;;
    *) echo "$1" ;;
  esac
}

# The Debian packages of a compiler.
packages_of() {
  case $1 in
    g++*) echo "$1" ;;
    *-g++) echo "g++-${1%-g++}" ;;
    clang++-*) echo "clang-${1#clang++-}" ;;
  esac
  case "$*" in
    *-stdlib=libc++*) echo "libc++-${1#clang++-}-dev libc++abi-${1#clang++-}-dev" ;;
    *--target=*-linux-gnu*) echo "g++-$2" | sed s/--target=// ;;
  esac
}

platform() {
  name=$1 what=$2 compiler=$3
  shift 3
  case " $chosen " in *" $name "* | "  ") ;; *) return 0 ;; esac
  if $lists; then
    echo "$name: $what by $compiler $*"
    return 0
  fi
  # The packages are words, to be split.
  # shellcheck disable=SC2046
  install_packages $(packages_of "$compiler" "$@")
  if ! command -v "$compiler" >/dev/null; then
    echo "not installed  $name ($compiler)"
    return 0
  fi
  mkdir -p "$build/$name"
  if build_and_run "$@" >"$build/$name/log" 2>&1; then
    echo "passed         $name: $(count_tests)"
  else
    echo "failed         $name, see $build/$name/log"
    failed="$failed $name"
  fi
}

build_and_run() {
  flags=''
  options=''
  unset GTEST_FILTER
  for word in "$@"; do
    case $word in
      -DCMAKE_* | -DKERNELS=*) options="$options $word" ;;
      *) flags="$flags $word" ;;
    esac
  done
  # The flags are words, to be split.
  # shellcheck disable=SC2086
  machine=$("$compiler" $flags -dumpmachine | cut -d- -f1)
  if [ "$machine" != "$(uname -m)" ]; then
    options="$options -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=$machine"
    options="$options -DCMAKE_EXE_LINKER_FLAGS=-static" # no loader of that machine is needed
    if [ "$machine" != i686 ]; then
      options="$options -DCMAKE_CROSSCOMPILING_EMULATOR=qemu-$machine"
      flags="$flags -DTOKENNORM_EMULATED" # shorter rows
      export GTEST_FILTER='-*Search*:*ManyTokens*:*Accuracy/half*:Backward/*half*'
    fi
  fi
  if [ "$what" = bits ]; then
    flags="$flags -DTOKENNORM_MAX_ISA=1"
    options="$options -DSAME_BITS_AS=$build/plain/same_bits"
    configure plain g++ "-O2 -DTOKENNORM_MAX_ISA=1" && cmake --build "$build/plain" || return 1
  fi
  # shellcheck disable=SC2005,SC2046,SC2086
  configure "$name" "$compiler" "$flags" $options "-DTESTS=$(echo $(tests_of "$what") | tr ' ' ';')" &&
    cmake --build "$build/$name" &&
    ctest --test-dir "$build/$name" --verbose --no-tests=error
}

configure() {
  to=$build/$1
  cxx=$2
  cxx_flags=$3
  shift 3
  cmake -S "$root/tests/platforms" -B "$to" -DCMAKE_BUILD_TYPE= "-DCMAKE_CXX_COMPILER=$cxx" \
    "-DCMAKE_CXX_FLAGS=$cxx_flags" "$@"
}

# "7 program(s), 180 tests", as CTest and the programs say.
count_tests() {
  awk '/tests passed, 0 tests failed out of/ { programs = $NF }
    /\[  PASSED  \]/ { tests += $(NF - 1) }
    END { print programs " program(s)" (tests ? ", " tests " tests" : "") }' "$build/$name/log"
}

lists=false
if [ "${1:-}" = --list ]; then
  lists=true
  shift
fi
chosen=$*
failed=
. "$root/cmake/prepare.sh"
if ! $lists; then
  install_packages cmake ninja=ninja-build ccache libeigen3-dev googletest nlohmann-json3-dev \
    qemu-aarch64=qemu-user
  use_fast_tools
fi
for one in $chosen; do
  if [ -z "$(lists=true && chosen=$one && all_platforms)" ]; then
    echo "no platform $one; see --list" >&2
    exit 2
  fi
done
all_platforms
[ -z "$failed" ]
