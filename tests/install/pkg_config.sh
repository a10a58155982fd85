#!/bin/sh
# Builds and runs this folder's program by a bare compiler:  pkg_config.sh COMPILER OUTPUT_DIR
set -eu
cd "$(dirname "$0")"
flags=$("${PKG_CONFIG:-pkg-config}" --cflags tokennorm)
# The flags are words, to be split.
# shellcheck disable=SC2086
"$1" -std=c++20 -O2 $flags main.cpp other_unit.cpp -o "$2/pkg_config_test"
"$2/pkg_config_test"
