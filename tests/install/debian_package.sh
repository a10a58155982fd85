#!/bin/sh
# Makes the Debian package, installs it below a directory of its own, builds and runs a program that
# finds it there, and uninstalls it:
#   debian_package.sh BUILD_DIR OUTPUT_DIR COMMAND...
# COMMAND builds and runs the program against OUTPUT_DIR/root.
set -eu
build=$1
out=$2
shift 2
rm -rf "$out"
mkdir -p "$out/root/var/lib/dpkg/info" "$out/root/var/lib/dpkg/updates"
root=$out/root
touch "$root/var/lib/dpkg/status"
(cd "$build" && cpack -G DEB -B "$out/package") >"$out/cpack.log"

dpkg_here() { # what it depends on is not below this root; and no system's log is ours
  PATH="$PATH:/usr/sbin:/sbin" dpkg --root="$root" --force-not-root --force-depends \
    --log=/dev/null "$@"
}
dpkg_here -i "$out"/package/libtokennorm-dev_*_all.deb
[ -f "$root/usr/share/doc/libtokennorm-dev/copyright" ]
"$@"
PKG_CONFIG_PATH="$root/usr/share/pkgconfig" pkg-config --exists tokennorm

dpkg_here -P libtokennorm-dev
left=$(find "$root" -path "$root/var" -prune -o -type f -print)
if [ -n "$left" ]; then
  echo "the package leaves $left" >&2
  exit 1
fi
