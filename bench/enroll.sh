#!/usr/bin/env bash
# What enrolling costs: starts Mosquitto with the plugin on loopback, enrols devices over MQTT as fast as the gate
# answers and one after the other, and takes what other valid traffic feels meanwhile. See bench/README.md.
#
#   bench/enroll.sh BUILD_FOLDER [ROUNDS [COUNT]]      3 rounds, 10,000 enrolments in each, unless told otherwise
# shellcheck disable=SC2154 # common.sh sets bin, work, port and so on
set -euo pipefail
if [ $# -lt 1 ]; then
  sed -n 's/^#   /usage: /p' "$0" >&2
  exit 2
fi
rounds=${2:-3} count=${3:-10000} in_flight=256 connections=4 singles=200 quiet_s=4
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck disable=SC1091
source "$here/common.sh"

# Where we may, the broker and those who measure come before those who load it.
first=() last=(nice -n 19)
if [ "$(nice -n -15 nice 2>/dev/null)" = -15 ]; then
  first=(nice -n -15) last=()
fi
# shellcheck disable=SC2034 # common.sh uses it
run=("${first[@]}")

# An admin, whose record lies in the folder, makes the tokens.
prepare() {
  mkdir "$work/records" "$work/admin"
  "$bin/bench_fill" 40000 "$work/pool" "$work/records"
  "$bin/pep" keygen --id admin --out "$work/admin" >/dev/null
  cp "$work/admin/admin.pub" "$work/records"
  { acl && printf '%s\n' 'pattern write $CONTROL/pep/v1' 'pattern read $CONTROL/pep/v1/response'; } >"$work/acl"
}

policy() { # open|token retained|on-request
  printf '%s\n' "enroll = \"$1\"; directory = \"$2\"; max_records = 100000; admins = [ \"admin\" ];" \
    'topics = ( { filter = "bench/sealed"; signers = [ "bench" ]; } );' >"$work/policy"
}

conf() { # sqlite|postgresql
  conf_base
  conf_plugin "$work/policy"
  [ "$1" = sqlite ] || echo "plugin_opt_store $(fresh_database)"
}

# PostgreSQL's server lives as long as its input, which is ours.
start_postgres() {
  mkfifo "$work/ask" "$work/urls"
  "$bin/bench_postgres" <"$work/ask" >"$work/urls" 2>"$work/postgres-log" &
  exec {ask}>"$work/ask" {urls}<"$work/urls"
}

fresh_database() {
  local url
  echo >&"$ask"
  read -r -t 60 url <&"$urls" || { cat "$work/postgres-log" >&2 && return 1; }
  echo "$url"
}

enroll() { # COUNT IN_FLIGHT CONNECTIONS
  local admin=()
  [ "$mode" = open ] || admin=("$work/admin/admin.key")
  "${last[@]}" "$bin/bench_enroll" "$port" "$broker" "$work/state/gate.pub" "$@" "${admin[@]}" ||
    { cat "$work/log" >&2 && return 1; }
}

commits() {
  mosquitto_sub -p "$port" -W 2 -t "$sys/broker/pep/store/commits" 2>/dev/null | tail -n 1 || true
}

# The valid traffic, for as long as a command runs.
beside() { # COMMAND...
  coproc VALID { "${first[@]}" "$bin/bench_latency" "$port" "$broker" 0 "$work/pool"; }
  local in=${VALID[1]} out=${VALID[0]} words
  read -r -t 20 words <&"$out"
  "$@"
  exec {in}>&-
  read -r -t 20 words <&"$out"
  echo "$words"
}

# Lines of results: what was measured, of which row, in which round, and the figures.
note() { # WHAT FIGURES
  echo "$1 $mode $store $serve $2" >>"$work/results"
}

one_round() {
  local figures
  start_broker "$store"
  note quiet "$(beside sleep "$quiet_s")"
  stop_broker
  start_broker "$store"
  figures=$(enroll "$count" "$in_flight" "$connections")
  note alone "$figures $(commits)"
  stop_broker
  start_broker "$store"
  figures=$(beside enroll "$count" "$in_flight" "$connections")
  note together "$(echo "$figures" | tr '\n' ' ')"
  stop_broker
}

one_by_one() {
  start_broker "$store"
  note single "$(enroll "$singles" 1 1)"
  stop_broker
}

# The system calls that wait for the disk, by strace, which slows down those alone. PostgreSQL makes its own.
syncs() {
  local figures
  command -v strace >/dev/null && [ "$store" = sqlite ] || return 0
  run=(strace -D -f --seccomp-bpf -qq -e trace=fsync,fdatasync,sync_file_range -o "$work/syncs" -A)
  start_broker "$store"
  until mosquitto_sub -p "$port" -W 1 -C 1 -t "$sys/broker/version" >/dev/null 2>&1; do sleep 0.1; done
  : >"$work/syncs" # strace appends
  figures=$(enroll "$count" "$in_flight" "$connections")
  note syncs "$figures $(grep -c 'sync' "$work/syncs")"
  stop_broker
  run=("${first[@]}")
}

row() { # MODE STORE SERVE
  local round
  mode=$1 store=$2 serve=$3
  policy "$mode" "$serve"
  for ((round = 1; round <= rounds; round++)); do
    echo "$mode, $store, $serve: round $round of $rounds" >&2
    one_round
  done
  one_by_one
  syncs
}

prepare
row open sqlite on-request
row open sqlite retained
row token sqlite on-request
if "$bin/bench_postgres" </dev/null 2>/dev/null; then
  start_postgres
  row open postgresql on-request
else
  echo "there is no PostgreSQL here: no row for it" >&2
fi
"$mosquitto" -h | head -n 1 || true # its help ends with exit code 3
awk -v in_flight="$in_flight" -v connections="$connections" -v rounds="$rounds" \
  -f "$here/enroll.awk" "$work/results"
