# Sourced by the scripts that build everything: what a fresh machine needs before CMake, and what
# several of them do.
# shellcheck shell=sh

# The text above a script's first command.
usage() {
  sed -n '2,/^set -eu$/{/^set -eu$/d;s/^# \{0,1\}//;p;}' "$0"
}

# The directory with Eigen/Core: $EIGEN, or what pkg-config knows.
eigen_directory() {
  echo "${EIGEN:-$(pkg-config --cflags-only-I eigen3 | sed 's/^-I//; s/ .*//')}"
}

# install_packages NAME... installs the Debian packages that are missing, as root or with sudo;
# COMMAND=NAME asks for NAME only where there is no such command. Where it cannot install, it names
# the packages and goes on: the same things may be there under another name.
install_packages() {
  missing=
  for wanted in "$@"; do
    if ! command -v "${wanted%%=*}" >/dev/null &&
      [ "$(dpkg-query -W -f='${db:Status-Status}' "${wanted##*=}" 2>/dev/null)" != installed ]; then
      missing="$missing ${wanted##*=}"
    fi
  done
  [ -n "$missing" ] || return 0
  if ! command -v apt-get >/dev/null; then
    echo "tokennorm: please see that you have what Debian calls$missing" >&2
    return 0
  fi

  as_root=
  [ "$(id -u)" -eq 0 ] || as_root=sudo
  echo "tokennorm: installing$missing" >&2
  # The names are words, to be split.
  # shellcheck disable=SC2086
  if ! { $as_root apt-get update -q &&
    $as_root env DEBIAN_FRONTEND=noninteractive \
      apt-get install -q -y --no-install-recommends $missing; } >&2; then
    echo "tokennorm: that failed, going on without; please install$missing" >&2
  fi
}

# CMake and CTest read these from the environment; what the user has set stays.
use_fast_tools() {
  if [ -z "${CMAKE_GENERATOR:-}" ] && command -v ninja >/dev/null; then
    export CMAKE_GENERATOR=Ninja
  fi
  if [ -z "${CMAKE_CXX_COMPILER_LAUNCHER:-}" ] && command -v ccache >/dev/null; then
    export CMAKE_CXX_COMPILER_LAUNCHER=ccache
  fi
  jobs=$(getconf _NPROCESSORS_ONLN)
  export CMAKE_BUILD_PARALLEL_LEVEL="${CMAKE_BUILD_PARALLEL_LEVEL:-$jobs}"
  export CTEST_PARALLEL_LEVEL="${CTEST_PARALLEL_LEVEL:-$jobs}"
}

# mpirun, as root too, and with more ranks than there are cores: those that wait leave theirs.
allow_mpirun() {
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
}
