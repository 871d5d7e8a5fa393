# shellcheck shell=bash
# What the reports share: where things were built, a folder that goes away at the end, and one broker at a time.
# Sourced with the build folder as $1.
# shellcheck source=/dev/null disable=SC2154 # paths.sh sets bin, plugin and only_verify
source "$1/bench/paths.sh"
mosquitto=${PEP_MOSQUITTO:-/usr/sbin/mosquitto}
# shellcheck disable=SC2016 # a topic, no variable
sys='$SYS'
work=$(mktemp -d /tmp/pep-bench-XXXXXX)
broker=0
run=() # words before the broker's name
trap '[ "$broker" = 0 ] || kill "$broker" 2>/dev/null || true; rm -rf "$work"' EXIT

policy() { # FILTER
  echo 'enroll = "closed";'
  echo "topics = ( { filter = \"$1\"; mode = \"enforce\"; payload = \"encrypted\"; signers = [ \"bench\" ]; } );"
}

# What lets everybody do what the plugin does not refuse.
acl() { printf '%s\n' "pattern readwrite #" "pattern read $sys/#"; }

conf_base() {
  printf '%s\n' "user $(id -un)" "allow_anonymous true" "set_tcp_nodelay true" "log_type error" \
    "listener $port 127.0.0.1"
}

conf_plugin() { # POLICY
  printf '%s\n' "plugin $plugin" "plugin_opt_policy $1" "plugin_opt_records $work/records" \
    "plugin_opt_state $work/state" "plugin_opt_sys_interval 1" "acl_file $work/acl"
}

free_port() {
  local port
  while port=$((20000 + RANDOM % 10000)) && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo "$port"
}

# Starts the broker with what `conf` prints. Nothing is remembered, so that the same envelopes are accepted each time.
start_broker() { # [ARGUMENT OF conf]...
  rm -rf "$work/state"
  port=$(free_port)
  conf "$@" >"$work/conf"
  "${run[@]}" "$mosquitto" -c "$work/conf" 2>"$work/log" &
  broker=$!
}

stop_broker() {
  kill "$broker"
  wait "$broker" || true
  broker=0
}
