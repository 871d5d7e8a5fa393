#!/usr/bin/env bash
# What the plugin costs the broker: starts Mosquitto in five ways on loopback, one after the other and again, loads
# each, and prints the medians side by side. See bench/README.md.
#
#   bench/report.sh BUILD_FOLDER [ROUNDS [SECONDS [QOS]]]      5 rounds of 4 seconds at QoS 0, unless told otherwise
set -euo pipefail
if [ $# -lt 1 ]; then
  sed -n 's/^#   /usage: /p' "$0" >&2
  exit 2
fi
rounds=${2:-5} seconds=${3:-4} qos=${4:-0}
bin='' plugin='' only_verify=''
# shellcheck source=/dev/null
source "$1/bench/paths.sh"
here=$(cd "$(dirname "$0")" && pwd)
mosquitto=${PEP_MOSQUITTO:-/usr/sbin/mosquitto}
# shellcheck disable=SC2016 # a topic, no variable
sys='$SYS'
work=$(mktemp -d /tmp/pep-bench-XXXXXX)
broker=0
trap '[ "$broker" = 0 ] || kill "$broker" 2>/dev/null || true; rm -rf "$work"' EXIT

policy() { # FILTER
  echo 'enroll = "closed";'
  echo "topics = ( { filter = \"$1\"; mode = \"enforce\"; payload = \"encrypted\"; signers = [ \"bench\" ]; } );"
}

# More envelopes than a broker can verify in the time, all of them distinct, so that each is accepted once.
prepare() {
  mkdir "$work/records"
  "$bin/bench_fill" $((seconds * 30000)) "$work/pool" "$work/records"
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
    -keyout "$work/tls.key" -out "$work/tls.crt" 2>/dev/null
  printf '%s\n' "pattern readwrite #" "pattern read $sys/#" >"$work/acl"
  policy 'other/#' >"$work/policy-unprotected"
  policy 'bench/sealed' >"$work/policy-verifying"
}

# mosquitto.conf for one way. An ACL must stand behind the plugin, so what that costs counts as the plugin's.
conf() { # WAY
  printf '%s\n' "user $(id -un)" "allow_anonymous true" "set_tcp_nodelay true" "log_type error" \
    "listener $port 127.0.0.1"
  case $1 in
    unprotected | verifying)
      printf '%s\n' "plugin $plugin" "plugin_opt_policy $work/policy-$1" "plugin_opt_records $work/records" \
        "plugin_opt_state $work/state" "plugin_opt_sys_interval 1" "acl_file $work/acl"
      ;;
    verify)
      printf '%s\n' "plugin $only_verify" "plugin_opt_record $work/records/bench.pub" "acl_file $work/acl"
      ;;
    tls) printf '%s\n' "certfile $work/tls.crt" "keyfile $work/tls.key" "tls_version tlsv1.3" ;;
  esac
}

free_port() {
  local port
  while port=$((20000 + RANDOM % 10000)) && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo "$port"
}

start_broker() { # WAY
  rm -rf "$work/state" # nothing remembered, so that the same envelopes are accepted in every round
  port=$(free_port)
  conf "$1" >"$work/conf"
  "$mosquitto" -c "$work/conf" 2>"$work/log" &
  broker=$!
}

stop_broker() {
  kill "$broker"
  wait "$broker" || true
  broker=0
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
