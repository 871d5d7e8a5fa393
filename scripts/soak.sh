#!/usr/bin/env bash
# A broker with the plugin, for minutes, under all that the tests do once: its memory and its open files must not grow.
# Prints a line a minute. The exit code is 0 only if nothing grew and all that is valid, and nothing else, arrived.
#
#   scripts/soak.sh [MINUTES]      10, unless told otherwise; at least 2, so that there is something to compare
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin

minutes=${1:-10}
if [ $# -gt 1 ] || ! [[ $minutes =~ ^[0-9]{1,4}$ ]] || [ "$minutes" -lt 2 ]; then
  sed -n 's/^#   /usage: /p' scripts/soak.sh >&2
  exit 2
fi
scripts/setup.sh test
cmake --preset dev >/dev/null
cmake --build --preset dev --target integration_soak >/dev/null
PEP_SOAK_MINUTES=$minutes exec build/dev/bin/integration_soak
