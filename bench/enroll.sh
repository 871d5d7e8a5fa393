#!/usr/bin/env bash
# What enrolling costs: starts Mosquitto with the plugin on loopback, enrols devices over MQTT as fast as the gate
# answers and one after the other, and takes what other valid traffic feels meanwhile. See bench/README.md.
#
#   bench/enroll.sh BUILD_FOLDER [ROUNDS [COUNT]]      3 rounds, 10,000 enrolments in each, unless told otherwise
# shellcheck disable=SC2034,SC2154 # common.sh uses run, and sets bin, work, port and so on
set -euo pipefail
if [ $# -lt 1 ]; then
  sed -n 's/^#   /usage: /p' "$0" >&2
  exit 2
fi
# shellcheck disable=SC2016 # a topic, no variable
control='$CONTROL/pep/v1'
rounds=${2:-3} count=${3:-10000} in_flight=256 connections=4 singles=200 quiet_s=4
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck disable=SC1091
source "$here/common.sh"

# Where we may, the broker and those who measure come before those who load it.
first=() last=(nice -n 19)
if [ "$(nice -n -15 nice 2>/dev/null)" = -15 ]; then
  first=(nice -n -15) last=()
fi
run=("${first[@]}")

# An admin, whose record lies in the folder, makes the tokens.
prepare() {
  mkdir "$work/records" "$work/admin"
  "$bin/bench_fill" 40000 "$work/pool" "$work/records"
  "$bin/pep" keygen --id admin --out "$work/admin" >/dev/null
  cp "$work/admin/admin.pub" "$work/records"
  { acl && printf '%s\n' "pattern write $control" "pattern read $control/response"; } >"$work/acl"
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

# Starts a program that says when it is ready, and then goes on until, or from when, a line comes.
declare -A pids pipes
begin() { # NAME COMMAND...
  local name=$1 pipe
  shift
  rm -f "$work/$name.in" && mkfifo "$work/$name.in"
  "$@" <"$work/$name.in" >"$work/$name" &
  pids[$name]=$!
  exec {pipe}>"$work/$name.in"
  pipes[$name]=$pipe
  until grep -q ready "$work/$name"; do
    kill -0 "${pids[$name]}" 2>/dev/null || { cat "$work/log" >&2 && return 1; }
    sleep 0.05
  done
}

# Its last line goes into `figures`.
finish() { # NAME
  local pipe=${pipes[$1]}
  echo >&"$pipe"
  exec {pipe}>&-
  wait "${pids[$1]}" || { cat "$work/log" >&2 && return 1; }
  figures=$(tail -n 1 "$work/$1")
}

begin_enroll() { # COUNT IN_FLIGHT CONNECTIONS
  local admin=()
  [ "$mode" = open ] || admin=("$work/admin/admin.key")
  begin enroll "${last[@]}" "$bin/bench_enroll" "$port" "$broker" "$work/state/gate.pub" "$@" "${admin[@]}"
}

begin_valid() { begin valid "${first[@]}" "$bin/bench_latency" "$port" "$broker" 0 "$work/pool"; }

commits() {
  mosquitto_sub -p "$port" -W 2 -t "$sys/broker/pep/store/commits" 2>/dev/null | tail -n 1 || true
}

# Lines of results: what was measured, of which row, in which round, and the figures.
note() { # WHAT FIGURES
  echo "$1 $mode $store $serve $2" >>"$work/results"
}

one_round() {
  start_broker "$store"
  begin_valid
  sleep "$quiet_s"
  finish valid
  note quiet "$figures"
  stop_broker

  start_broker "$store"
  begin_enroll "$count" "$in_flight" "$connections"
  finish enroll
  note alone "$figures $(commits)"
  stop_broker

  start_broker "$store"
  begin_enroll "$count" "$in_flight" "$connections"
  begin_valid
  finish enroll
  local enrolled=$figures
  finish valid
  note together "$enrolled $figures"
  stop_broker
}

one_by_one() {
  start_broker "$store"
  begin_enroll "$singles" 1 1
  finish enroll
  note single "$figures"
  stop_broker
}

# The system calls that wait for the disk, by strace, which slows down those alone. PostgreSQL makes its own.
syncs() {
  command -v strace >/dev/null && [ "$store" = sqlite ] || return 0
  run=(strace -D -f --seccomp-bpf -qq -e 'trace=fsync,fdatasync,sync_file_range' -A -o "$work/syncs")
  start_broker "$store"
  begin_enroll "$count" "$in_flight" "$connections"
  : >"$work/syncs" # strace appends
  finish enroll
  note syncs "$figures $(grep -c sync "$work/syncs")"
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
