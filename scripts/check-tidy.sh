#!/usr/bin/env bash
# clang-tidy over every source file of a build, two at a time. A file is looked at again only when it, a header or the
# configuration changed.
#
#   scripts/check-tidy.sh [BUILD_FOLDER]      build/dev-clang, unless told otherwise
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/dev-clang}
stamps=$build/tidy
mkdir -p "$stamps"

common=$(find . \( -path ./build -o -path ./.git \) -prune -o \( -name '*.h' -o -name .clang-tidy \) -print0 |
  sort -z | xargs -0 cat "$build/compile_commands.json" | sha256sum)

tidy() {
  local stamp
  stamp=$stamps/$(sha256sum - "$1" <<<"$common" | sha256sum | cut -c 1-32)
  [ -e "$stamp" ] && return
  clang-tidy --quiet -p "$build" "$1" && touch "$stamp"
}
export -f tidy
export build stamps common

# shellcheck disable=SC2016 # the inner shell expands it
sed -nE 's/^ *"file": "(.*)",?$/\1/p' "$build/compile_commands.json" | sort -u |
  xargs -d '\n' -P "$(nproc)" -I {} bash -c 'tidy "$1"' tidy {}
