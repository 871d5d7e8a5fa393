#!/usr/bin/env bash
# The rogue of docker-compose.yml. It may connect, listen and publish, reads the directory, has keys of its own that
# nobody vouches for, and has found the used tokens. It tries its luck and exits 0 where the broker refused everything,
# each for its reason.
set -euo pipefail
target=sensors/publisher-1/telemetry
elsewhere=sensors/publisher-2/telemetry
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

publish() { mosquitto_pub -h broker "$@"; }
counter() { mosquitto_sub -h broker -t "\$SYS/broker/pep/refused/$1" -C 1 -W 5; }

# attempt REASON "what it does" COMMAND...
attempt() {
  local reason=$1 what=$2 before deadline=$((SECONDS + 30))
  shift 2
  before=$(counter "$reason")
  echo "rogue: $what"
  "$@" 2>"$work/said" || true # whether a refusal is heard depends on the protocol's version
  until [ "$(counter "$reason")" -gt "$before" ]; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      echo "rogue: that was not refused as $reason" >&2
      exit 1
    fi
    sleep 0.1
  done
  echo "rogue: refused, $reason"
}

with_own_keys() {
  pep pub -h broker --key "$work/rogue.key" --to console -t sensors/rogue/telemetry -m "99 degrees"
}

# enroll_fails REASON "what it does" KEY: with a token that was used
enroll_fails() {
  echo "rogue: $2"
  if pep enroll -h broker --key "$3" --token /tokens/publisher-1.token 2>"$work/said" || ! grep -q "$1" "$work/said"; then
    echo "rogue: that was not refused as $1" >&2
    cat "$work/said" >&2
    exit 1
  fi
  echo "rogue: refused, $1"
}

# Gives the envelope another seq, as if it were a new message: the seq's 8 bytes follow the topic and one byte of CBOR.
renumber() {
  local at byte
  at=$(grep -abo "$target" "$work/caught" | head -n 1 | cut -d : -f 1)
  at=$((at + ${#target} + 8))
  byte=$(od -An -tu1 -j "$at" -N 1 "$work/caught")
  cp "$work/caught" "$work/renumbered"
  printf '%b' "$(printf '\\x%02x' $((byte ^ 1)))" | dd of="$work/renumbered" bs=1 seek="$at" conv=notrunc status=none
}

# Leaves a will with the broker, and breaks the connection as soon as it stands: when a first message came in.
plain_will() {
  local deadline=$((SECONDS + 10))
  mosquitto_sub -h broker -t "\$SYS/broker/version" --will-topic "$target" --will-payload lost >"$work/connected" &
  disown
  until [ -s "$work/connected" ] || [ "$SECONDS" -ge "$deadline" ]; do
    sleep 0.1
  done
  kill -KILL $!
}

pep keygen --id rogue --out "$work" >/dev/null
mkdir "$work/as"
pep keygen --id publisher-1 --out "$work/as" >/dev/null
attempt plain-payload "publishes a plain message" publish -r -t "$target" -m "99 degrees"
attempt unknown-signer "seals with keys that nobody vouches for" with_own_keys
mosquitto_sub -h broker -t "$target" -C 1 -W 10 -N >"$work/caught"
echo "rogue: caught a sealed message of publisher-1, $(wc -c <"$work/caught") bytes"
attempt replayed "sends it once more" publish -r -t "$target" -f "$work/caught"
attempt wrong-topic "sends it to another topic" publish -r -t "$elsewhere" -f "$work/caught"
renumber
attempt bad-signature "gives it another number, to pass it for a new one" publish -r -t "$target" -f "$work/renumbered"
attempt plain-payload "leaves a plain will and breaks its connection" plain_will
enroll_fails bad-token "enrols itself with a token that was used" "$work/rogue.key"
enroll_fails id-taken "enrols as publisher-1, with keys of its own" "$work/as/publisher-1.key"
echo "rogue: nothing came through"
