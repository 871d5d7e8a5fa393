#!/usr/bin/env bash
# What the ledger costs: the broker, for recording, and whoever asks, with many rows. See bench/README.md.
#
#   bench/ledger.sh BUILD_FOLDER cost [ROUNDS [SECONDS]]     5 rounds of 4 seconds, unless told otherwise
#   bench/ledger.sh BUILD_FOLDER rows [COUNT]                10,000,000 rows; 500 bytes each in /tmp
# shellcheck disable=SC2034,SC2154 # common.sh sets bin, work, port and so on
set -euo pipefail
if [ $# -lt 2 ] || ! [[ $2 =~ ^(cost|rows)$ ]]; then
  sed -n 's/^#   /usage: /p' "$0" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck disable=SC1091
source "$here/common.sh"

# Where we may, what is measured comes before what else the machine does.
if [ "$(nice -n -15 nice 2>/dev/null)" = -15 ]; then
  run=(nice -n -15)
fi

# PostgreSQL's server lives as long as its input, which is ours.
start_postgres() {
  mkfifo "$work/ask" "$work/urls"
  "$bin/bench_postgres" <"$work/ask" >"$work/urls" 2>"$work/postgres-log" &
  exec {ask}>"$work/ask" {urls}<"$work/urls"
}

fresh_database() {
  echo >&"$ask"
  read -r -t 60 url <&"$urls" || { cat "$work/postgres-log" >&2 && return 1; }
}

has_postgres() { "$bin/bench_postgres" </dev/null 2>/dev/null; }

# ---- cost ----

conf() { # off|SQLite|PostgreSQL
  conf_base
  conf_plugin "$work/policy"
  [ "$1" != PostgreSQL ] || echo "plugin_opt_ledger $url"
}

# The newest of a counter's values within two seconds: they come every second, where they changed.
counter() { # NAME
  mosquitto_sub -p "$port" -W 2 -t "$sys/broker/pep/$1" 2>/dev/null | tail -n 1 || true
}

# Where something was refused, or is not recorded, the figures would be those of something else.
check_recorded() { # WAY COUNT
  local recorded=0 dropped
  [ "$(counter messages/accepted)" = "$2" ] || { echo "not all messages were accepted" >&2 && return 1; }
  [ "$1" != off ] || return 0
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    recorded=$(counter ledger/recorded) dropped=$(counter ledger/dropped)
    [ "$((recorded + dropped))" != "$2" ] || break
  done
  [ "$recorded" = "$2" ] || echo "$1: of $2 messages ${dropped:-some} were not recorded" >&2
}

measure() { # off|SQLite|PostgreSQL SUBSCRIBERS
  local options=(--once) result pool="$work/with"
  [ "$2" = 0 ] || options+=(--subscribe)
  [ "$1" != off ] || pool="$work/without"
  [ "$1" != PostgreSQL ] || fresh_database
  start_broker "$1"
  result=$("$bin/bench_load" "$port" "$broker" "$seconds" "$pool" "${options[@]}") ||
    { cat "$work/log" >&2 && return 1; }
  check_recorded "$1" "${result%% *}"
  stop_broker
  echo "cost $1 $2 $result" >>"$work/results"
}

cost() { # ROUNDS SECONDS
  local round subscribers way ways=(off SQLite) turned
  seconds=$2
  mkdir "$work/records"
  "$bin/bench_recorded" $((seconds * 30000)) "$work/with" "$work/without" "$work/records"
  acl >"$work/acl"
  echo 'topics = ( { filter = "bench/sealed"; payload = "encrypted"; signers = [ "*" ]; record = "allow"; } );' \
    >"$work/policy"
  if has_postgres; then
    start_postgres
    ways+=(PostgreSQL)
  fi
  for ((round = 1; round <= $1; round++)); do
    echo "round $round of $1" >&2
    for subscribers in 0 1; do
      for way in "${ways[@]}"; do
        measure "$way" "$subscribers"
      done
    done
    turned=() # nobody is always the first, behind whom the machine is busy or has become warm
    for way in "${ways[@]}"; do turned=("$way" "${turned[@]}"); done
    ways=("${turned[@]}")
  done
  "$mosquitto" -h | head -n 1 || true # its help ends with exit code 3
}

# ---- rows ----

questions() { # SQLite|PostgreSQL URL COUNT
  local what
  for what in fill ask erase; do
    echo "$1: $what $3" >&2
    "${run[@]}" "$bin/bench_ledger" "$2" "$what" "$3" | sed "s/^/rows $1 /" >>"$work/results"
    # As the server's own does after a minute.
    [ "$1$what" != PostgreSQLfill ] || psql -q "$2" -c 'VACUUM (ANALYZE) pep_ledger'
  done
}

rows() { # COUNT
  questions SQLite "sqlite:$work/ledger.db" "$1"
  rm "$work"/ledger.db*
  if has_postgres; then
    start_postgres
    fresh_database
    questions PostgreSQL "$url" "$1"
  fi
}

case $2 in
  cost) cost "${3:-5}" "${4:-4}" ;;
  rows) rows "${3:-10000000}" ;;
esac
awk -v count="${3:-10000000}" -f "$here/ledger.awk" "$work/results"
