#!/usr/bin/env bash
# Builds pep and runs its tests on the Debian releases that have a newer Mosquitto than Debian 12, each with its own
# compiler, libraries and broker, in a folder that debootstrap made.
#
#   scripts/brokers.sh [trixie|forky]...      as root; both, unless told otherwise
#
# One line a release says which Mosquitto it has and how many tests passed; before it stands what failed. The releases
# are kept in $XDG_CACHE_HOME/pep (~/.cache/pep), about 550 MB each; to have newer packages, remove them there. Exit code
# 1 where a test failed, 77 where a release could not be tried.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/chroot.sh

for release in "$@"; do
  [[ $release = trixie || $release = forky ]] || {
    echo "usage: scripts/brokers.sh [trixie|forky]..." >&2
    exit 2
  }
done
own_mounts "$@"

if [ $# -ne 1 ]; then
  [ $# -ne 0 ] || set -- trixie forky
  outcome=0
  for release in "$@"; do
    scripts/brokers.sh "$release" || case $? in
      77) [ $outcome -ne 0 ] || outcome=77 ;;
      *) outcome=1 ;;
    esac
  done
  exit $outcome
fi
release=$1

# The system and the source can only be read; what is built lands in build/brokers, each time anew: what was built with
# other packages would not be noticed to be old, because files of packages keep their makers' times.
mount_all() {
  local build=$PWD/build/brokers/$release
  rm -rf "$build"
  mkdir -p "$build" "$root/src"
  mount --bind "$root" "$root"
  mount --bind "$PWD" "$root/src"
  mount --bind "$build" "$root/src/build"
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs tmpfs "$root/tmp"
  mount -o remount,bind,ro "$root/src"
  mount -o remount,bind,ro "$root"
}

# Each says it itself. Mosquitto 2.0 ends with 3 after a help that it was asked for.
versions() {
  printf 'Mosquitto %s, libsodium %s' \
    "$({ inside root mosquitto -h 2>/dev/null || true; } | sed -n '1s/^mosquitto version //p')" \
    "$(inside root pkg-config --modversion libsodium)"
}

build_and_test() {
  inside root cmake -S /src --preset dev &&
    inside root cmake --build /src/build/dev &&
    inside root ctest --test-dir /src/build/dev -j2 --output-on-failure --no-tests=error
}

debian "$release" ctest
mount_all
found=$(versions)
log=build/brokers/$release.log
code=0
build_and_test >"$log" 2>&1 || code=$?
count=$(sed -n 's/^[0-9]*% tests passed, \([0-9]*\) tests* failed out of \([0-9]*\)$/\1 of \2/p' "$log")
if [ $code -ne 0 ]; then
  grep -vE '^\[[0-9]+/[0-9]+\] [BLC]|^ +Start |   Passed  ' "$log" | tail -n 100 # not what went well
  echo "$release: $found: ${count:-the build} FAILED (all of it: $log)"
  exit 1
fi
echo "$release: $found: all ${count#0 of } tests passed"
