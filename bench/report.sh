#!/usr/bin/env bash
# What the plugin costs the broker: starts Mosquitto in five ways on loopback, one after the other and again, loads
# each, and prints the medians side by side. See bench/README.md.
#
#   bench/report.sh BUILD_FOLDER [ROUNDS [SECONDS [QOS]]]      5 rounds of 4 seconds at QoS 0, unless told otherwise
# shellcheck disable=SC2154 # common.sh sets bin, work, port and so on
set -euo pipefail
if [ $# -lt 1 ]; then
  sed -n 's/^#   /usage: /p' "$0" >&2
  exit 2
fi
rounds=${2:-5} seconds=${3:-4} qos=${4:-0}
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck disable=SC1091
source "$here/common.sh"

# More envelopes than a broker can verify in the time, all of them distinct, so that each is accepted once.
prepare() {
  mkdir "$work/records"
  "$bin/bench_fill" $((seconds * 30000)) "$work/pool" "$work/records"
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
    -keyout "$work/tls.key" -out "$work/tls.crt" 2>/dev/null
  acl >"$work/acl"
  policy 'other/#' >"$work/policy-unprotected"
  policy 'bench/sealed' >"$work/policy-verifying"
}

# mosquitto.conf for one way. An ACL must stand behind the plugin, so what that costs counts as the plugin's.
conf() { # WAY
  conf_base
  case $1 in
    unprotected | verifying) conf_plugin "$work/policy-$1" ;;
    verify)
      printf '%s\n' "plugin $only_verify" "plugin_opt_record $work/records/bench.pub" "acl_file $work/acl"
      ;;
    tls) printf '%s\n' "certfile $work/tls.crt" "keyfile $work/tls.key" "tls_version tlsv1.3" ;;
  esac
}

# Where something was refused, the figures would be those of something else. The counters come every second.
check_accepted() { # COUNT
  local accepted
  accepted=$(mosquitto_sub -p "$port" -W 2 -t "$sys/broker/pep/messages/accepted" 2>/dev/null | tail -n 1) || true
  [ "$accepted" = "$1" ] || { echo "of $1 messages the broker accepted ${accepted:-none}" >&2 && return 1; }
}

measure() { # WAY SUBSCRIBERS
  local options=() result
  [ "$2" = 0 ] || options+=(--subscribe)
  [ "$1" != tls ] || options+=(--tls "$work/tls.crt")
  [[ $1 != verif* ]] || options+=(--once)
  start_broker "$1"
  result=$("$bin/bench_load" "$port" "$broker" "$seconds" "$work/pool" --qos "$qos" "${options[@]}") ||
    { cat "$work/log" >&2 && return 1; }
  [ "$1" != verifying ] || check_accepted "${result%% *}"
  stop_broker
  echo "$1 $2 $result" >>"$work/results"
}

prepare
for ((round = 1; round <= rounds; round++)); do
  echo "round $round of $rounds" >&2
  echo "bare 0 0 0 $("$bin/bench_verify" "$work/pool" "$work/records/bench.pub")" >>"$work/results"
  for subscribers in 0 1; do
    for way in plain unprotected verify verifying tls; do
      measure "$way" "$subscribers"
    done
  done
done
"$mosquitto" -h | head -n 1 || true # its help ends with exit code 3
mkdir "$work/gate"
"$bin/bench_gate" "$work/pool" "$work/records" "$work/gate"
awk -v qos="$qos" -v rounds="$rounds" -f "$here/table.awk" "$work/results"
