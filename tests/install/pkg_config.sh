#!/bin/sh
# Builds and runs this folder's program by a bare compiler, header-only and with compiled kernels:
#   pkg_config.sh COMPILER OUTPUT_DIR
set -eu
sources=$(cd "$(dirname "$0")" && pwd)
cd "$2" # where the program leaves its file
flags=$("${PKG_CONFIG:-pkg-config}" --cflags tokennorm)
case " $flags" in
*" -isystem "*) ;;
*) echo "Eigen's headers are not the system's in: $flags" >&2 && exit 1 ;;
esac
# The flags are words, to be split.
# shellcheck disable=SC2086
"$1" -std=c++20 -O2 $flags "$sources/main.cpp" "$sources/other_unit.cpp" -o "$2/pkg_config_test"
"$2/pkg_config_test"

cat >"$2/kernels.cpp" <<END
#define TOKENNORM_DEFINE_KERNELS
#include <tokennorm/kernels/compiled.hpp>
END
baseline="-DTOKENNORM_MAX_ISA=0 -DTOKENNORM_COMPILED_MAX_ISA=0" # for the sake of time
# shellcheck disable=SC2086
"$1" -std=c++20 -O2 $flags $baseline -c "$2/kernels.cpp" -o "$2/kernels.o"
# shellcheck disable=SC2086
"$1" -std=c++20 -O0 $flags $baseline -DTOKENNORM_COMPILED_KERNELS \
  "$sources/main.cpp" "$sources/other_unit.cpp" "$2/kernels.o" -o "$2/pkg_config_compiled_test"
"$2/pkg_config_compiled_test"
