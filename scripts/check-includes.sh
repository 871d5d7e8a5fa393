#!/usr/bin/env bash
# Holds the dependency rule: a module (a folder at the top) includes only its own headers and those of the modules that
# stand beside it here. And Mosquitto's headers: those for plugins only in plugin/, the client's only where clients are.
#
#   scripts/check-includes.sh [FOLDER]      the project, unless told otherwise
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"

declare -A may_include=(
  [include]=""
  [envelope]="include"
  [policy]=""
  [store]=""
  [directory]="store envelope include"
  [ledger]="directory store envelope include"
  [gate]="directory policy envelope include"
  [plugin]="directory ledger gate policy include"
  [client]="directory store gate policy envelope include"
  [ctrl]=""
  [tests]="*"
  [bench]="*"
  [examples]="include"
)
# mosquitto.h is the client's interface, but also where the error codes stand that a plugin answers with.
plugin_headers='^(mosquitto_(broker|plugin)\.h|mosquitto/broker.*\.h)$'
client_headers='^(mosquitto\.h|mosquitto/libmosquitto.*\.h)$'
client_users='client plugin tests bench'

status=0
complain() {
  echo "$1: $2" >&2
  status=1
}

one_of() { [[ " $2 " = *" $1 "* || $2 = "*" ]]; }

# The module that a quoted name leads to, from a file in folder $1.
module_of() {
  if [ -e "$1/$2" ]; then
    realpath --relative-to=. "$1/$2" | cut -d / -f 1
  elif [ -e "include/$2" ]; then
    echo include
  else
    echo "${2%%/*}"
  fi
}

check_include() {
  local file=$1 header=$2 module=${1%%/*} target
  if [[ $header =~ $plugin_headers && $module != plugin ]]; then
    complain "$file" "includes $header: only plugin/ speaks with the broker"
  elif [[ $header =~ $client_headers ]]; then
    one_of "$module" "$client_users" || complain "$file" "includes $header: only client/ (and tests) speak MQTT"
  elif [ "$3" = '"' ]; then
    target=$(module_of "$(dirname "$file")" "$header")
    [ "$target" = "$module" ] || one_of "$target" "${may_include[$module]}" ||
      complain "$file" "includes $header: $module/ may include of ours only: ${may_include[$module]:-nothing}"
  fi
}

while IFS= read -r file; do
  file=${file#./}
  if [ -z "${may_include[${file%%/*}]+known}" ]; then
    complain "$file" "no rule for this folder; scripts/check-includes.sh needs one"
    continue
  fi
  while read -r mark header; do
    check_include "$file" "$header" "$mark"
  done < <(sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*(["<])([^">]+)[">].*/\1 \2/p' "$file")
done < <(find . \( -path ./build -o -path ./.git \) -prune -o -name '*.[ch]' -print | sort)
exit $status
