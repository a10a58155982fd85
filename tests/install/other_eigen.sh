#!/bin/sh
# Builds and runs this folder's program, and the adapters of Eigen, with another Eigen:
#   other_eigen.sh COMPILER REPOSITORY OUTPUT_DIR DIRECTORY_OF_EIGEN
set -eu
compiler=$1 repository=$2 out=$3 eigen=$4
sources=$(cd "$(dirname "$0")" && pwd)
rm -rf "$out"
mkdir -p "$out"
cd "$out" # where the program leaves its file
for source in main other_unit; do
  "$compiler" -std=c++20 -O2 -Wall -Wextra -Werror -DTOKENNORM_MAX_ISA=0 -isystem "$eigen" \
    -I "$repository/include" -c "$sources/$source.cpp"
done
"$compiler" main.o other_unit.o -o other_eigen_test
./other_eigen_test
# The adapters that include parts of Eigen which have other names in Eigen 5.
for adapter in eigen_tensor thread_pool; do
  echo "#include <tokennorm/adapters/$adapter.hpp>" |
    "$compiler" -std=c++20 -fsyntax-only -isystem "$eigen" -I "$repository/include" -x c++ -
done
