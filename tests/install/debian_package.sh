#!/bin/sh
# Makes the Debian package, installs it below a directory of its own, builds and runs a program that
# finds it there, and uninstalls it:
#   debian_package.sh BUILD_DIR OUTPUT_DIR COMMAND...
# COMMAND builds and runs the program against OUTPUT_DIR/system.
set -eu
build=$1
out=$2
shift 2
rm -rf "$out"
root=$out/system
mkdir -p "$root" "$out/records/info" "$out/records/updates"
touch "$out/records/status"
(cd "$build" && cpack -G DEB -B "$out/package") >"$out/cpack.log"

dpkg_here() { # what it depends on is not below this root; and no system's log is ours
  PATH="$PATH:/usr/sbin:/sbin" dpkg --instdir="$root" --admindir="$out/records" --log=/dev/null \
    --force-not-root --force-depends "$@"
}
dpkg_here -i "$out"/package/libtokennorm-dev_*_all.deb
[ -f "$root/usr/share/doc/libtokennorm-dev/copyright" ]
"$@"
PKG_CONFIG_PATH="$root/usr/share/pkgconfig" pkg-config --exists tokennorm

dpkg_here -P libtokennorm-dev
left=$(find "$root" -type f)
if [ -n "$left" ]; then
  echo "the package leaves $left" >&2
  exit 1
fi
