#!/usr/bin/env bash
# What valid traffic feels while somebody floods the broker with bad signatures: starts Mosquitto with the plugin on
# loopback once for each way to attack, and prints a row for each. See bench/README.md.
#
#   bench/flood.sh BUILD_FOLDER [SECONDS [QOS]]      10 seconds a row, attackers at QoS 0, unless told otherwise
# shellcheck disable=SC2154 # common.sh sets bin, work, port and so on
set -euo pipefail
if [ $# -lt 1 ]; then
  sed -n 's/^#   /usage: /p' "$0" >&2
  exit 2
fi
seconds=${2:-10} qos=${3:-0}
# shellcheck disable=SC1091
source "$(cd "$(dirname "$0")" && pwd)/common.sh"

# The broker has a CPU of its own; on the other one, those who measure come before those who attack. Where we may, both
# also come before whatever else the machine does.
run=() beside=()
if [ "$(nproc)" -ge 2 ]; then
  run=(taskset -c 0) beside=(taskset -c 1)
fi
first=() last=(nice -n 19)
if [ "$(nice -n -15 nice 2>/dev/null)" = -15 ]; then
  first=(nice -n -15) last=()
fi
# shellcheck disable=SC2034 # common.sh uses it
run+=("${first[@]}")

conf() {
  conf_base
  conf_plugin "$work/policy"
  echo "sys_interval 1"
}

prepare() {
  mkdir "$work/records"
  "$bin/bench_fill" $((seconds * 200 + 1000)) "$work/pool" "$work/records" "$work/large"
  acl >"$work/acl"
  policy 'bench/sealed' >"$work/policy"
}

valid() { "${beside[@]}" "${first[@]}" "$bin/bench_latency" "$port" "$broker" "$seconds" "$work/pool" "$@"; }

attack() { # pool|large CONNECTIONS same|ids|users
  "${beside[@]}" "${last[@]}" "$bin/bench_attack" "$port" "$seconds" "$work/$1" "$2" "$3" "$qos"
}

no_attack() { echo 0 0; }

# The valid clients are there first, and the flood begins once their first message has come through.
early() { # COMMAND THAT ATTACKS
  exec 3< <(valid)
  read -r _ <&3
  read -r _ connections < <("$@")
  read -r sent lost median p95 p99 max cpu <&3
}

# The valid clients come under a user name of their own, when the flood has lasted for a second.
late() { # COMMAND THAT ATTACKS
  exec 4< <("$@")
  sleep 1
  { read -r _ && read -r sent lost median p95 p99 max cpu; } < <(valid late)
  read -r _ connections <&4
}

# The last value of each counter that arrives within three seconds: they are published once a second.
read_counters() {
  mosquitto_sub -p "$port" -W 3 -F '%t %p' -t "$sys/broker/pep/#" -t "$sys/broker/publish/messages/received" \
    >"$work/counters" 2>/dev/null || true
}

counter() { # NAME
  awk -v topic="$sys/broker/$1" '$1 == topic { value = $2 } END { print value + 0 }' "$work/counters"
}

row() { # TITLE COMMAND...
  local title=$1 flooded
  shift
  start_broker
  "$@" || { cat "$work/log" >&2 && return 1; }
  read_counters
  stop_broker
  flooded=$(($(counter publish/messages/received) - sent))
  # shellcheck disable=SC2059 # one form for the heads and the rows
  printf "$form" "$title" "$sent" "$lost" "$median" "$p95" "$p99" "$max" $((flooded / seconds)) "$connections" \
    "$(counter pep/verifications/count)" "$(counter pep/refused/bad-signature)" \
    "$(counter pep/refused/rate-limited)" "$(counter pep/clients/kicked)" "$cpu%"
  [ "$lost" = 0 ] && awk -v p95="$p95" 'BEGIN { exit p95 > 50 }' || missed+=("$title")
}

form='%-33s %6s %5s %7s %7s %7s %7s %9s %9s %9s %9s %9s %8s %5s\n'
missed=()
prepare
"$mosquitto" -h | head -n 1 || true # its help ends with exit code 3
printf '200 valid messages a second at QoS 1; attackers at QoS %s; %s s a row\n\n' "$qos" "$seconds"
# shellcheck disable=SC2059
{
  printf "$form" '' valid '' median p95 p99 max read 'attack:' verifi- refused: refused: clients broker
  printf "$form" attack sent lost ms ms ms ms 'a second' connects cations bad-sig rate-lim kicked CPU
}
row "none" early no_attack
row "one client" early attack pool 1 same
row "ten clients" early attack pool 10 same
row "ten clients, messages of 200 KiB" early attack large 10 same
row "one, always a new client id" early attack pool 1 ids
row "one, always a new user name" early attack pool 1 users
row "ten, always a new user name" early attack pool 10 users
row "one client, valid ones come later" late attack pool 1 same
if [ ${#missed[@]} -eq 0 ]; then
  printf '\nTarget: p95 at most 50 ms, and nothing lost: met in every row.\n'
else
  printf '\nTarget: p95 at most 50 ms, and nothing lost: MISSED in: %s\n' "$(printf '%s; ' "${missed[@]}")"
fi
