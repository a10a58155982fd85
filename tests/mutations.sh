#!/usr/bin/env bash
# Mutation tests: small changes of the headers, such as a slip would make, each of which a test has
# to notice.
#
#   ./tests/mutations.sh [--list] [NAME or folder...]      all of them, or these
#
# The changes are in tests/mutations/, a file for each folder of the library that begins with the
# tests, of the folder of the same name, which have to notice them:
#
#   tests NAME...
#
#   mutation NAME
#   in FILE                   below include/tokennorm/
#   - TEXT                    an expression, or statements up to a ; or }; it stands there once
#   + TEXT                    what is there instead; of statements it may be left out
#   equivalent REASON         why no test can notice; it is run all the same
#
# What begins with a blank goes on with the text above it; # begins a comment.
#
# All changes of a folder are compiled at once, into a copy of the headers and for AVX2, each behind
# a switch. One after the other is switched on while the tests run, which end where the first one
# fails. Those of kernels are in the compiled kernels, and may be noticed by the tests of norms and
# blocks too. Exits with 1 where one survives that is not called equivalent, and before anything is
# built where a text does not stand in its file just once.
#
# From the environment: CXX (Clang takes two thirds of GCC's time), BUILD_DIR (default
# build-mutations), JOBS (default: as many as cores), EIGEN, the directory with Eigen/Core, for one
# that pkg-config does not know.
set -euo pipefail
shopt -s inherit_errexit
root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD_DIR:-$root/build-mutations}
seconds_per_run=400 # a loop without an end is noticed by then

list=false
if [ "${1:-}" = --list ]; then
  list=true
  shift
fi

# ---- the list

# split_list FOLDER: each mutation in a folder of its own, $build/FOLDER/list/NAME, which has a file
# for each word
split_list() {
  rm -rf "$build/$1/list"
  mkdir -p "$build/$1/list"
  awk -v list="$build/$1/list/" '
    function say(key, text) { print text >>(at key); close(at key) }
    BEGIN { at = list }
    /^#/ || NF == 0 { next }
    $1 == "mutation" { at = list $2 "/"; if (system("mkdir " at)) exit 1; next }
    /^- / { say(key = "old", substr($0, 3)); next }
    /^\+ / { say(key = "new", substr($0, 3)); next }
    /^ / { say(key, $0); next }
    $1 ~ /^(tests|in|equivalent)$/ { say(key = $1, substr($0, length($1) + 2)); next }
    { print FILENAME ":" FNR ": " $0 >"/dev/stderr"; exit 1 }' "$root/tests/mutations/$1.txt"
}

# mutate FOLDER: the headers with all changes of the list, each behind a switch of its name
mutate() {
  rm -rf "$build/$1/include"
  cp -r "$root/include" "$build/$1"
  perl -e '
    use strict;
    my ($list, $include) = @ARGV;
    my (%texts, %names, %switched);
    sub said {
      open my $file, "<", $_[0] or return "";
      local $/;
      return <$file> =~ s/\n$//r;
    }
    for my $at (sort glob "$list/*/in") {
      my ($name) = $at =~ m{([^/]*)/in$};
      my $file = "$include/tokennorm/" . said($at);
      my ($old, $new) = (said("$list/$name/old"), said("$list/$name/new"));
      $texts{$file} = said($file) . "\n" if !exists $texts{$file};
      my $count = () = $texts{$file} =~ /\Q$old\E/g;
      die "mutation $name: its text stands $count times in $file; expected once\n" if $count != 1;
      $texts{$file} =~ s/\Q$old\E/\@$name\@/;
      my $is_on = "::tokennorm_mutation::$name";
      push @{$names{$file}}, $name;
      $switched{$name} = $old =~ /[;}]$/ ? "{ if ($is_on) { $new } else { $old } }"
                                         : "($is_on ? ($new) : ($old))";
    }
    for my $file (keys %texts) {
      my $declared = join ", ", @{$names{$file}};
      $texts{$file} =~ s/\@(\w+)\@/$switched{$1}/g;
      open my $out, ">", $file or die;
      print $out "namespace tokennorm_mutation { extern bool $declared; }\n$texts{$file}";
    }' "$build/$1/list" "$build/$1/include"
}
# names FOLDER: those of its mutations
names() { (cd "$build/$1/list" && printf '%s\n' */ | tr -d /); }
# said FOLDER NAME WORD: what is said of a mutation, or nothing
said() { [ ! -f "$build/$1/list/$2/$3" ] || cat "$build/$1/list/$2/$3"; }

folders=(kernels norm block checkpoint)
chosen=()
for folder in "${folders[@]}"; do
  mkdir -p "$build/$folder"
  split_list "$folder"
  mutate "$folder"
  for name in $(names "$folder"); do
    [[ $# -eq 0 || " $* " == *" $folder "* || " $* " == *" $name "* ]] || continue
    chosen+=("$folder $name")
    ! $list || printf '%-11s %-40s %s\n' "$folder" "$name" "$(said "$folder" "$name" in)"
  done
done
if [ ${#chosen[@]} -eq 0 ]; then
  echo "tokennorm: no mutation is called $*" >&2
  exit 1
fi
! $list || exit 0

# ---- building

. "$root/cmake/prepare.sh"
install_packages g++ libeigen3-dev libgtest-dev nlohmann-json3-dev pkg-config ccache
use_fast_tools
jobs=${JOBS:-$CMAKE_BUILD_PARALLEL_LEVEL}
eigen=$(eigen_directory)
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1
read -ra compiler <<<"${CMAKE_CXX_COMPILER_LAUNCHER:-} ${CXX:-g++}"

printf '#define TOKENNORM_DEFINE_KERNELS\n#include <tokennorm/kernels/compiled.hpp>\n' \
  >"$build/compiled.cpp"
scalars=(float double half bfloat16)
scalar_flag() { echo "-DTOKENNORM_COMPILED_${1^^}"; }

# The switches: the variable MUTATION has the name of the one that is on.
write_switches() {
  echo '#include <cstdlib>'
  echo '#include <cstring>'
  echo 'namespace tokennorm_mutation {'
  for folder in "${folders[@]}"; do
    for name in $(names "$folder"); do echo "bool $name;"; done
  done
  # Before any other constructor: it may ask for one.
  echo '[[gnu::constructor(101)]] static void switch_on() {'
  echo '  const char* const on = std::getenv("MUTATION");'
  echo '  if (on == nullptr) return;'
  for folder in "${folders[@]}"; do
    for name in $(names "$folder"); do echo "  $name = std::strcmp(on, \"$name\") == 0;"; done
  done
  echo '}}'
}
write_switches >"$build/switches.cpp"

# compile UNIT: a unit's object, "switches", "kernels/compiled_half" or "norm/options"
compile() {
  local folder=${1%%/*} name=${1#*/} source=$root/tests/$1.cpp
  # What the tests have to work out themselves is little.
  local flags=(-O0 -DTOKENNORM_GOLDEN="\"$root/tests/golden\"")
  for scalar in "${scalars[@]}"; do flags+=("$(scalar_flag "$scalar")"); done
  case $1 in
    switches) source=$build/switches.cpp ;;
    kernels/compiled_*) source=$build/compiled.cpp flags=(-O1 "$(scalar_flag "${name#*_}")") ;;
    kernels/*) flags=(-O1) ;;
    *accuracy | *beyond_caches) flags[0]=-O1 ;; # but for these
  esac
  "${compiler[@]}" -std=c++20 -DTOKENNORM_MAX_ISA=1 -DTOKENNORM_COMPILED_MAX_ISA=1 "${flags[@]}" \
    -I"$build/$folder/include" -isystem "$eigen" -c "$source" -o "$build/$1.o"
}
# in_parallel FUNCTION WORDS...: of each, as many at a time as there are jobs
in_parallel() {
  local words
  for words in "${@:2}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
    # The words are to be split.
    # shellcheck disable=SC2086
    "$1" $words &
  done
  while [ "$(jobs -rp | wc -l)" -gt 0 ]; do wait -n; done
}

# programs FOLDER: those that have to notice its mutations
programs() { if [ "$1" = kernels ]; then echo kernels norm block; else echo "$1"; fi; }
# units PROGRAM: the tests of its folder
units() { tr -s ' ' '\n' <"$build/$1/list/tests" | sed "s|^|$1/|" | tr '\n' ' '; }

needed=()
for program in "${folders[@]}"; do
  for mutation in "${chosen[@]}"; do
    [[ " $(programs "${mutation% *}") " == *" $program "* ]] || continue
    needed+=("$program")
    break
  done
done
compiled=("${scalars[@]/#/kernels/compiled_}")
read -ra tests <<<"$(for program in "${needed[@]}"; do units "$program"; done)"
in_parallel compile switches "${compiled[@]}" "${tests[@]}"
for program in "${needed[@]}"; do
  # First the kernels: of a function that stands in several objects the first is linked.
  read -ra objects <<<"${compiled[*]} switches $(units "$program")"
  objects=("${objects[@]/#/$build/}")
  "${compiler[@]}" "${objects[@]/%/.o}" -lgtest -lgtest_main -lpthread -o "$build/test_$program"
done
built=$SECONDS

# ---- running

# parts FOLDER: what is run for its mutations, one after the other: the slow tests of norms, which
# take four minutes, when all others have noticed nothing
slow_tests='*Accuracy*:Backward/*:*BeyondCaches*'
parts() { programs "$1" | sed 's/norm\(.*\)/norm\1 norm_slow/'; }

# run PART [MUTATION]: fails where a test does; what failed is on stdout
run() {
  local program=${1%_slow} filter='*' code=0
  local log=$build/$program/${2:-nothing}${1#"$program"}.log
  case $1 in
    norm) filter=-$slow_tests ;;
    norm_slow) filter=$slow_tests ;;
  esac
  MUTATION=${2:-} GTEST_FAIL_FAST=1 GTEST_FILTER=$filter \
    timeout "$seconds_per_run" "$build/test_$program" >"$log" 2>&1 || code=$?
  case $code in
    0) ;;
    124) echo "the time limit" ;;
    *) sed -n 's/^\[  FAILED  \] \([^ ,]*\).*/\1/p; $a a crash' "$log" | head -1 ;;
  esac
  return $code
}
# try FOLDER MUTATION: says how it went
try() {
  local result=survived part noticed
  for part in $(parts "$1"); do
    noticed=$(run "$part" "$2") || { result="killed by ${part%_slow}/$noticed" && break; }
  done
  if [ "$result" = survived ] && [ -f "$build/$1/list/$2/equivalent" ]; then result=equivalent; fi
  echo "$result" >"$build/$1/$2.result"
  printf '%-11s %-40s %s\n' "$1" "$2" "$result"
}

check() {
  local noticed
  noticed=$(run "$1") || echo "tokennorm: without a mutation test_$1 fails: $noticed" >&2
}
read -ra all_parts <<<"$(for program in "${needed[@]}"; do parts "$program"; done |
  tr ' ' '\n' | sort -u | tr '\n' ' ')"
[ -z "$(in_parallel check "${all_parts[@]}" 2>&1 | tee /dev/stderr)" ] || exit 1
in_parallel try "${chosen[@]}"

killed=0 equivalent=0 survived=0
for mutation in "${chosen[@]}"; do
  case $(cat "$build/${mutation/ //}.result") in
    killed*) killed=$((killed + 1)) ;;
    equivalent) equivalent=$((equivalent + 1)) ;;
    *) survived=$((survived + 1)) ;;
  esac
done
echo "${#chosen[@]} mutations: $killed killed, $equivalent equivalent, $survived survived;" \
  "built in $built s, run in $((SECONDS - built)) s"
[ "$survived" -eq 0 ]
