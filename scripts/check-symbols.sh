#!/usr/bin/env bash
# What the two shared libraries of a build export: the plugin its three entry points, libpep only pep_*. Mosquitto 2.0
# loads plugins into the global scope, where any other name could meet one of the broker's.
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

plugin=$(exported mosquitto_pep.so)
wanted=$(printf 'mosquitto_plugin_%s\n' cleanup init version)
[ "$plugin" = "$wanted" ] || complain mosquitto_pep.so "exports: ${plugin//$'\n'/ }; should be: ${wanted//$'\n'/ }"

library=$(exported libpep.so)
[ -n "$library" ] || complain libpep.so "exports nothing"
foreign=$(grep -v '^pep_' <<<"$library" || true)
[ -z "$foreign" ] || complain libpep.so "exports names that are not pep_*: ${foreign//$'\n'/ }"
exit $status
