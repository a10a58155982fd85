#!/bin/sh
# Makes the single header, and builds and runs this folder's program with nothing else:
#   single_header.sh COMPILER CMAKE REPOSITORY OUTPUT_DIR DIRECTORY_OF_EIGEN
set -eu
compiler=$1 cmake=$2 repository=$3 out=$4 eigen=$5
amalgamate() {
  "$cmake" "$@" -P "$repository/cmake/amalgamate.cmake"
}
sources=$(cd "$(dirname "$0")" && pwd)
rm -rf "$out"
mkdir -p "$out"
amalgamate -DOUTPUT="$out/tokennorm_single.hpp"
for unit in main other_unit; do
  sed 's|<tokennorm/tokennorm.hpp>|"tokennorm_single.hpp"|' "$sources/$unit.cpp" >"$out/$unit.cpp"
done
cd "$out" # where the program leaves its file
compile() {
  "$compiler" -std=c++20 -O2 -Wall -Wextra -Werror -DTOKENNORM_MAX_ISA=0 -isystem "$eigen" "$@"
}
compile main.cpp other_unit.cpp -o single_header_test
./single_header_test

# Anything that is there can be in it.
amalgamate -DOUTPUT=with_gguf.hpp \
  "-DHEADERS=tokennorm/checkpoint/gguf.hpp;tokennorm/tokennorm.hpp"
echo '#include "with_gguf.hpp"' >with_gguf.cpp
compile -fsyntax-only with_gguf.cpp

if amalgamate -DOUTPUT=none.hpp -DHEADERS=tokennorm/none.hpp 2>refused; then
  echo "a header that is not there was taken" >&2
  exit 1
fi
grep -q 'there is no tokennorm/none.hpp' refused
