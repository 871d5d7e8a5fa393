#!/usr/bin/env bash
# Shows pep at work: builds and installs it into a temporary folder, starts Mosquitto with the plugin on a free port,
# lets devices enrol themselves and a sealed message cross it, while everything else is refused, takes a device out again,
# and shows what was recorded of all that, and that there is no trace of the rest. Exits 0 only if all of that was seen.
#
#   scripts/demo.sh
#
# Nothing stays but Debian's packages and build/release, with the plot in it. Works as root or as an ordinary user, and again and again.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
  '') ;;
  -h | --help)
    sed -n '2,/^set /{ /^set /d; s/^# \{0,1\}//p }' scripts/demo.sh
    exit 0
    ;;
  *)
    echo "scripts/demo.sh: $1: it takes no arguments; see --help" >&2
    exit 2
    ;;
esac

umask 022 # the broker, started by root, becomes user mosquitto and must be able to read what is installed
PATH=$PATH:/usr/sbin

topic=sensors/sensor-1/telemetry
host=127.0.0.1
pids=()

# ---- telling ----

bold='' green='' red='' dim='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' dim=$'\e[2m' plain=$'\e[0m'
fi

title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say() { printf '  %s\n' "$*"; }
quote() { sed "s/^/    $dim/; s/\$/$plain/"; }

# expect "what should be true" COMMAND...: says so where the command succeeds, else ends the demo.
expect() {
  local what=$1
  shift
  if "$@"; then
    printf '  %sok%s  %s\n' "$green" "$plain" "$what"
  else
    printf '  %sFAILED%s  %s\n' "$red" "$plain" "$what" >&2
    show_log
    exit 1
  fi
}

show_log() {
  [ -e "$work/broker.log" ] || return 0
  echo "  The broker's last lines:" >&2
  tail -n 25 "$work/broker.log" >&2
}

# ---- waiting and looking ----

# Tries the command until it succeeds; gives up after ten seconds.
eventually() {
  local deadline=$((SECONDS + 10))
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.05
  done
}

holds() { grep -qF -- "$2" "$1"; }
holds_not() { ! holds "$@"; }
lines_are() { [ "$(wc -l <"$1")" -eq "$2" ]; }
same_text() { [ "$(cat "$1")" = "$2" ]; }
fails() { ! "$@"; }

counter_is() {
  [ "$(mosquitto_sub -h $host -p "$port" -t "\$SYS/broker/pep/refused/$1" -C 1 -W 1 2>&1)" = "$2" ]
}

# ---- setting up and cleaning up ----

clean_up() {
  local pid
  for pid in "${pids[@]}"; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  rm -rf "$work"
}

build_and_install() {
  say "Building (build/release) and installing into a temporary folder"
  {
    cmake --preset release &&
      cmake --build --preset release &&
      cmake --install build/release --prefix "$prefix"
  } >"$work/build.log" 2>&1 || {
    tail -n 40 "$work/build.log" >&2
    exit 1
  }
  PATH=$prefix/bin:$PATH
}

# The one record that is copied by hand: the first admin's.
make_admin() {
  pep keygen --id console --out "$operator" >/dev/null
  cp "$operator/console.pub" "$prefix/etc/mosquitto/pep/records/"
  say "console is the operator's device: its record lies in the broker's folder, and the policy names it as an admin."
}

# directory COMMAND...: pep at this broker.
directory() {
  local command=$1
  shift
  pep "$command" -h $host -p "$port" "$@"
}

free_port() {
  local port=$((20000 + RANDOM % 20000))
  while (exec 3<>"/dev/tcp/$host/$port") 2>/dev/null; do
    port=$((port + 1))
  done
  echo "$port"
}

broker_answers() { mosquitto_sub -h $host -p "$port" -t "\$SYS/broker/version" -C 1 -W 1 >/dev/null 2>&1; }

# The installed configuration, and what the demo adds: no passwords (only this machine can connect), counters every
# second, and a log that names what was refused.
start_broker() {
  sed -i 's/^#plugin_opt_sys_interval .*/plugin_opt_sys_interval 1/' "$prefix/etc/mosquitto/conf.d/10-pep.conf"
  cat >"$work/broker.conf" <<END
include_dir $prefix/etc/mosquitto/conf.d
allow_anonymous true
sys_interval 1
log_type all
log_dest stderr
END
  port=$(free_port)
  mosquitto -c "$work/broker.conf" -p "$port" >"$work/broker.log" 2>&1 &
  pids+=($!)
  expect "Mosquitto runs with the plugin, on port $port" eventually broker_answers
}

# A sender may ask to have facts recorded about what it sends as a telemetry: installed, the policy denies that.
allow_recording() {
  sed -i 's/^    record       = "deny";.*/    record = "allow"; keep = "30d";/' "$prefix/etc/mosquitto/pep/policy.conf"
}

# subscribe ID COMMAND...: runs it in the background, as MQTT client ID, and waits until it has subscribed.
subscribe() {
  local id=$1
  shift
  "$@" -h $host -p "$port" -i "$id" >"$work/$id.out" 2>"$work/$id.err" &
  pids+=($!)
  eventually holds "$work/broker.log" "Sending SUBACK to $id" || expect "$id subscribes" false
}

# ---- sending ----

publish() { mosquitto_pub -h $host -p "$port" -i attacker "$@"; }
seal() { printf '%s' "$1" | pep seal --key "$devices/sensor-1.key" --to "$operator/console.pub" --topic "$topic"; }
# send_sealed KEY TOPIC TEXT: for console, whose keys are found by its name
send_sealed() { pep pub -h $host -p "$port" -q 1 --key "$1" --to console -t "$2" -m "$3"; }

# measure DEGREES: a message of sensor-1 that asks to be recorded
measure() {
  local hot=false
  [ "$1" -lt 90 ] || hot=true
  sent+=("boiler: $1 degrees")
  pep pub -h $host -p "$port" -q 1 --key "$devices/sensor-1.key" --to console -t "$topic" -m "boiler: $1 degrees" \
    --record temp="$1" --record hot=$hot
}

# ledger COMMAND...: the operator asks what was recorded.
ledger() {
  local command=$1
  shift
  pep ledger "$command" -h $host -p "$port" --key "$operator/console.key" "$@"
}

recorded_are() { [ "$(ledger sum --csv | tail -n 1 | tr -d '\r')" = "$1" ]; }
found_in() { grep -rqF -- "$2" "$1"; }
found_not_in() { ! found_in "$@"; }

# The raw bytes of the last message that the eavesdropper saw.
overheard() { printf '%b' "$(tail -n 1 "$work/eavesdropper.out" | sed 's/.* //; s/../\\x&/g')"; }

# Flips one bit in the ciphertext of stdin's envelope: the 64 bytes of the signature are its end, two bytes announce
# them, and before them stands the ciphertext.
tamper() {
  local file=$work/tampered at byte
  cat >"$file"
  at=$(($(wc -c <"$file") - 64 - 2 - 1))
  byte=$(od -An -tu1 -j "$at" -N 1 "$file")
  printf '%b' "$(printf '\\x%02x' $((byte ^ 1)))" | dd of="$file" bs=1 seek="$at" conv=notrunc status=none
  cat "$file"
}

# refused REASON COUNT: the broker has by now refused so many for this reason, and delivered nothing new.
refused() {
  expect "refused, and the broker says why: $1" eventually counter_is "$1" "$2"
  grep -F "pep: refused $1:" "$work/broker.log" | tail -n 1 | sed 's/^[0-9]*: //' | quote
  expect "the subscribers got nothing of it" delivered
}

# All that was ever accepted arrived, and no more than that.
sent=()
delivered() {
  eventually lines_are "$work/console.out" ${#sent[@]} && eventually lines_are "$work/eavesdropper.out" ${#sent[@]}
}

# ---- the story ----

scripts/setup.sh run
work=$(mktemp -d /tmp/pep-demo.XXXXXX)
trap clean_up EXIT
trap 'exit 130' INT TERM HUP
chmod 755 "$work"
prefix=$work/installed
operator=$work/operator
devices=$work/devices
strangers=$work/strangers
mkdir -m 700 "$operator" "$devices" "$strangers"

title "Setting up"
build_and_install
make_admin
allow_recording
start_broker
subscribe console pep sub --key "$operator/console.key" -t 'sensors/+/telemetry'
subscribe eavesdropper mosquitto_sub -t 'sensors/#' -F '%t %x'
say "console listens with its key; an eavesdropper listens with plain mosquitto_sub."

title "A device enrols itself"
say "console makes a one-time token for sensor-1, which makes its own keys and enrols them with it"
directory token sensor-1 --key "$operator/console.key" --out "$devices/sensor-1.token" 2>&1 | quote
directory enroll --id sensor-1 --out "$devices" --token "$devices/sensor-1.token" 2>&1 | quote
looked_up() { directory lookup sensor-1 >"$work/lookup"; }
expect "the broker serves its keys" eventually looked_up
quote <"$work/lookup"
say "rogue tries the same token for itself"
pep keygen --id rogue --out "$strangers" >/dev/null
expect "and is refused" fails directory enroll --key "$strangers/rogue.key" --token "$devices/sensor-1.token" 2>"$work/rogue"
quote <"$work/rogue"

title "A sealed message arrives and opens"
sent+=("boiler: 81 degrees")
say "sensor-1 seals \"${sent[0]}\" for console, whose keys it gets from the broker, and publishes it"
send_sealed "$devices/sensor-1.key" "$topic" "${sent[0]}"
expect "console opened it and read \"${sent[0]}\"" eventually holds "$work/console.out" "${sent[0]}"
quote <"$work/console.out"

title "Everybody else sees only ciphertext"
expect "mosquitto_sub got it too" eventually lines_are "$work/eavesdropper.out" 1
overheard >"$work/overheard"
expect "and no readable word of it" holds_not "$work/overheard" boiler
tail -c 130 "$work/overheard" | head -c 64 | od -An -tx1 | quote # the last bytes before the signature
say "What anyone can see in it (pep inspect):"
pep inspect <"$work/overheard" | quote

title "A plain message"
publish -t "$topic" -m "boiler: 12 degrees"
refused plain-payload 1

title "A tampered message"
say "sensor-1 seals another; on its way somebody flips one bit of the ciphertext"
seal "boiler: 82 degrees" >"$work/genuine"
tamper <"$work/genuine" >"$work/forged"
publish -t "$topic" -f "$work/forged"
refused bad-signature 1
say "The same message, untouched:"
sent+=("boiler: 82 degrees")
publish -t "$topic" -f "$work/genuine"
expect "arrives and opens" eventually holds "$work/console.out" "${sent[1]}"

title "A replayed message"
say "The very same bytes, sent again"
publish -t "$topic" -f "$work/genuine"
refused replayed 1

title "A message moved to another topic"
say "Sealed for $topic, published on sensors/sensor-2/telemetry"
seal "boiler: 83 degrees" >"$work/moved"
publish -t sensors/sensor-2/telemetry -f "$work/moved"
refused wrong-topic 1

title "A signer whom nobody knows"
say "rogue seals properly, with its own key"
send_sealed "$strangers/rogue.key" sensors/rogue/telemetry "boiler: 99 degrees" 2>&1 | quote || true
refused unknown-signer 1

title "An unsigned will"
say "A client leaves a plain will with the broker, and its connection breaks"
subscribe doomed mosquitto_sub -t unused --will-topic "$topic" --will-payload "boiler: lost"
disown "${pids[-1]}" # else bash would report its death
kill -KILL "${pids[-1]}"
unset 'pids[-1]'
refused plain-payload 2

title "A device gets new keys"
cp "$devices/sensor-1.key" "$strangers/stolen.key"
directory rotate --key "$devices/sensor-1.key" --now 2>&1 | quote
expect "console was told, and that the old key signed the new one" \
  eventually holds "$work/console.err" "sensor-1 has a new signing key, which the old one signed"
sent+=("boiler: 84 degrees")
send_sealed "$devices/sensor-1.key" "$topic" "${sent[2]}"
expect "a message sealed with the new keys arrives" eventually holds "$work/console.out" "${sent[2]}"
say "Whoever has the old ones tries them"
send_sealed "$strangers/stolen.key" "$topic" "boiler: 98 degrees" 2>&1 | quote || true
refused rotated-signer 1

title "What was recorded, because its sender asked for it"
say "sensor-1 sends 12 more, and asks to have the temperature recorded: readable for the broker, unlike the message"
for degrees in 78 81 85 88 90 93 95 94 92 89 86 83; do
  measure $degrees
done
expect "console opened them" eventually holds "$work/console.out" "boiler: 83 degrees"
expect "and the ledger has these 12 of all messages" eventually recorded_are 12
ledger query --newest --limit 3 | quote
say "The hottest and the coldest, and how often it was hot:"
ledger sum --of temp --by field:hot | quote
plot=build/release/demo-ledger.svg
rm -f "$plot"
ledger plot --of temp --show avg --every second --out "$plot" | quote
expect "a plot of them lies in $plot" test -s "$plot"

title "And no trace of anything else"
say "boiler-2 enrols, and sends a message that asks for nothing"
directory token boiler-2 --key "$operator/console.key" --out "$devices/boiler-2.token" >/dev/null
directory enroll --id boiler-2 --out "$devices" --token "$devices/boiler-2.token" >/dev/null
sent+=("boiler: 71 degrees")
send_sealed "$devices/boiler-2.key" sensors/boiler-2/telemetry "${sent[-1]}"
expect "console opened it" eventually holds "$work/console.out" "${sent[-1]}"
state=$prefix/var/lib/mosquitto/pep
say "The broker's own log names topics here (log_type all). What pep keeps in its folder does not:"
expect "$topic, which was recorded, is found there" eventually found_in "$state" "$topic"
expect "sensors/boiler-2/telemetry is found nowhere" found_not_in "$state" sensors/boiler-2/telemetry
expect "and the ledger knows 12 messages, as before" recorded_are 12
say "Once the operator has it forgotten, the rest is gone as well:"
ledger forget --signer sensor-1 | quote
expect "$topic is found nowhere either" found_not_in "$state" "$topic"

title "In the end"
directory revoke --key "$operator/console.key" sensor-1 2>&1 | quote
send_sealed "$devices/sensor-1.key" "$topic" "boiler: 85 degrees" 2>&1 | quote || true
refused revoked-signer 1
expect "console read exactly what was sealed for it: ${#sent[@]} messages" \
  same_text "$work/console.out" "$(printf '%s\n' "${sent[@]}")"
expect "mosquitto_sub saw no other message than these ${#sent[@]}" lines_are "$work/eavesdropper.out" ${#sent[@]}
printf '\n%sAll of it was seen.%s\n' "$bold$green" "$plain"
