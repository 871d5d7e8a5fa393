#!/usr/bin/env bash
# What the shared libraries of a build export: the plugin its three entry points, mosquitto_ctrl's module its one,
# libpep only pep_*. Mosquitto 2.0 loads plugins and modules into the global scope, where any other name could meet one
# of the host's.
#
#   scripts/check-symbols.sh [BUILD_FOLDER]      build/release, unless told otherwise
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/release}

exported() { nm -D --defined-only "$build/lib/$1" | awk '{ print $3 }' | sort; }

status=0
complain() {
  echo "$build/lib/$1: $2" >&2
  status=1
}

# exports FILE NAME...: these and no others, sorted.
exports() {
  local found wanted
  found=$(exported "$1")
  wanted=$(printf '%s\n' "${@:2}")
  [ "$found" = "$wanted" ] || complain "$1" "exports: ${found//$'\n'/ }; should be: ${wanted//$'\n'/ }"
}
exports mosquitto_pep.so mosquitto_plugin_cleanup mosquitto_plugin_init mosquitto_plugin_version
exports mosquitto_ctrl_pep.so ctrl_main

library=$(exported libpep.so)
[ -n "$library" ] || complain libpep.so "exports nothing"
foreign=$(grep -v '^pep_' <<<"$library" || true)
[ -z "$foreign" ] || complain libpep.so "exports names that are not pep_*: ${foreign//$'\n'/ }"
exit $status
