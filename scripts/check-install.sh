#!/usr/bin/env bash
# What `cmake --install` promises: to an operator right paths for any prefix, nothing of his written over, and a plugin
# that a running broker has mapped left as it is; to a developer a libpep that pkg-config finds.
#
#   scripts/check-install.sh [BUILD_FOLDER]      build/release, unless told otherwise
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/release}
work=$(mktemp -d /tmp/pep-install.XXXXXX)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
libdir=$(sed -n 's/^CMAKE_INSTALL_LIBDIR:[A-Z]*=//p' "$build/CMakeCache.txt")
plugin=$prefix/$libdir/mosquitto_pep.so
etc=$prefix/etc/mosquitto

fail() {
  echo "$*" >&2
  exit 1
}
quietly() { "$@" >"$work/log" 2>&1 || fail "$(cat "$work/log")"; }
install_to() { quietly cmake --install "$build" --prefix "$1"; }
paths_in() { awk '/^(plugin|plugin_opt_[a-z]*|acl_file) / { print $2 }' "$1"; }

# Every path that the configuration names is there, under the prefix.
install_to "$prefix"
while read -r path; do
  [[ $path = "$prefix"/* ]] || fail "10-pep.conf names $path, outside of the prefix"
  [ -e "$path" ] || fail "10-pep.conf names $path, which was not installed"
done < <(paths_in "$etc/conf.d/10-pep.conf")
[ "$(paths_in "$etc/conf.d/10-pep.conf" | wc -l)" -eq 5 ] || fail "10-pep.conf does not name five paths"
"$prefix/bin/pep" --help >/dev/null || fail "the installed pep does not run"
# mosquitto_ctrl's module finds the pep beside it.
LD_LIBRARY_PATH=$prefix/$libdir mosquitto_ctrl pep --version >"$work/said" 2>"$work/log" || fail "$(cat "$work/log")"
[ "$(cat "$work/said")" = "$("$prefix/bin/pep" --version)" ] || fail "mosquitto_ctrl pep is not the installed pep"
"$prefix/bin/pep" policy check "$etc/pep/policy.conf" >/dev/null || fail "the installed policy.conf is not valid"
# What is installed keeps no more of messages than it must: the check says so of itself.
echo "include_dir $etc/conf.d" >"$work/mosquitto.conf"
quietly "$prefix/bin/pep" privacy check "$work/mosquitto.conf"
for page in man1/pep.1 man5/pep-policy.conf.5; do
  [ -e "$prefix/share/man/$page" ] || fail "share/man/$page was not installed"
done

# program_runs PREFIX LIBDIR: what pkg-config says of the libpep there is right, as a program shows.
cat >"$work/program.c" <<'END'
#include <pep.h>
int main(void) { return pep_init() == PEP_OK ? 0 : 1; }
END
program_runs() {
  local flags path
  export PKG_CONFIG_PATH=$1/$2/pkgconfig
  for path in "prefix $1" "libdir $1/$2" "includedir $1/include"; do # another libpep may be on this machine
    [ "$(realpath "$(pkg-config --variable="${path%% *}" libpep)")" = "${path#* }" ] ||
      fail "$2/pkgconfig/libpep.pc: ${path%% *} is $(pkg-config --variable="${path%% *}" libpep)"
  done
  read -ra flags < <(pkg-config --cflags --libs libpep)
  quietly gcc "$work/program.c" -o "$work/program" "${flags[@]}"
  LD_LIBRARY_PATH=$1/$2 "$work/program" || fail "a program with libpep from $2 does not run"
}
program_runs "$prefix" "$libdir"

# The same where the libraries go to the other one of the usual folders.
other=lib
[ "$libdir" != lib ] || other=lib/$(gcc -print-multiarch)
quietly cmake -S . -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_LIBDIR="$other"
quietly cmake --build "$work/build" --target pep_static pep_shared
quietly cmake --install "$work/build/envelope" --prefix "$work/other"
program_runs "$work/other" "$other"

# A second install keeps what the operator changed, and does not touch the file that a broker has mapped.
mine=("$etc/conf.d/10-pep.conf" "$etc/pep/policy.conf" "$etc/pep/acl" "$etc/pep/records/device.pub")
for file in "${mine[@]}"; do echo mine >"$file"; done
touch -d 2000-01-01 "$plugin" # else CMake finds it up to date
exec 3<"$plugin"
install_to "$prefix"
for file in "${mine[@]}"; do
  [ "$(cat "$file")" = mine ] || fail "$file was written over"
done
[ "$(stat -L -c %i /proc/self/fd/3)" != "$(stat -c %i "$plugin")" ] || fail "$plugin was written in place"

# With /usr the configuration goes to /etc and the state to /var, as on a Debian system.
DESTDIR=$work/root install_to /usr
conf=$work/root/etc/mosquitto/conf.d/10-pep.conf
[ -e "$conf" ] || fail "with --prefix /usr there is no /etc/mosquitto/conf.d/10-pep.conf"
expected="/usr/$libdir/mosquitto_pep.so
/etc/mosquitto/pep/policy.conf
/var/lib/mosquitto/pep
/etc/mosquitto/pep/records
/etc/mosquitto/pep/acl"
[ "$(paths_in "$conf")" = "$expected" ] || fail "with --prefix /usr, 10-pep.conf names: $(paths_in "$conf")"
for file in mosquitto_pep.so mosquitto_ctrl_pep.so libpep.so libpep.a; do
  [ -e "$work/root/usr/$libdir/$file" ] || fail "with --prefix /usr there is no $libdir/$file"
done
