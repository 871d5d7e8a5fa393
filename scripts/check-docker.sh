#!/usr/bin/env bash
# Tries Dockerfile and docker-compose.yml where no Docker engine runs: carries out the Dockerfile's own steps in folders
# that debootstrap made, then runs the compose file's services in the resulting one, in their order.
#
#   scripts/check-docker.sh      as root; needs debootstrap, docker-compose and iproute2
#
# It does not show layers, nor that containers cannot see each other's files. The base system is kept in
# $XDG_CACHE_HOME/pep (~/.cache/pep); all else is removed. Exit code 77 where it cannot run.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/chroot.sh

own_mounts "$@"
for tool in docker-compose ip; do
  command -v $tool >/dev/null || cannot_run "there is no $tool"
done
unshare --net --pid --fork true 2>/dev/null || cannot_run "no namespaces for network and processes"

fail() {
  echo "$1" >&2
  exit 1
}

work=$(mktemp -d /tmp/pep-docker.XXXXXX)

clean_up() {
  umount "$work"/stage-*/proc 2>/dev/null || true
  rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

# ---- the Dockerfile ----

# Of the stage that is being made; those of the last one are the image's.
folder=/ user=root health='' command=''

# FROM IMAGE [AS NAME]
from() {
  [ "$1" = debian:bookworm-slim ] || { echo "this check knows no image but debian:bookworm-slim" >&2 && return 1; }
  root=$work/stage-${3:-final} folder=/ user=root
  cp -a "$base" "$root"
  cp /etc/resolv.conf "$root/etc/resolv.conf"
  mount -t proc proc "$root/proc"
}

# RUN COMMAND
run() {
  inside "$user" sh -ec "cd $folder; $1" >"$work/log" 2>&1 || { tail -n 40 "$work/log" >&2 && return 1; }
}

# COPY [--from=STAGE] SOURCE DESTINATION: a file, or what is in a folder
copy() {
  local source=$1 destination=$2
  if [[ $1 = --from=* ]]; then
    source=$work/stage-${1#--from=}$2 destination=$3
  fi
  [[ $destination = /* ]] || destination=$folder/$destination
  [[ -d $source || $destination != */ ]] || destination+=${source##*/}
  if [ -d "$source" ]; then
    mkdir -p "$root/$destination"
    tar -C "$source" --exclude-from=<(sed 's|^|./|' .dockerignore) -cf - . |
      tar -C "$root/$destination" --no-same-owner -xf -
  else
    install -D -m "$(stat -c %a "$source")" "$source" "$root/$destination"
  fi
}

words_of() { python3 -c 'import json, sys; print("\n".join(json.loads(sys.argv[1])))' "$1"; }

carry_out() {
  local instruction=$1 rest=$2 words
  read -ra words <<<"$rest"
  case $instruction in
    FROM) from "${words[@]}" ;;
    WORKDIR) folder=$rest && mkdir -p "$root$folder" ;;
    COPY) copy "${words[@]}" ;;
    RUN) run "$rest" ;;
    USER) user=$rest ;;
    HEALTHCHECK) health=$(words_of "${rest#*CMD }") ;;
    CMD) command=$(words_of "$rest") ;;
    VOLUME | EXPOSE) ;;
    *) echo "this check does not know $instruction" >&2 && return 1 ;;
  esac
}

# One a line, without comments and continuations.
instructions() { sed '/^ *#/d; /^ *$/d' Dockerfile | sed -e ':a' -e '/\\$/{ N; s/ *\\\n */ /; ba' -e '}'; }

build_image() {
  local instruction rest
  while read -r instruction rest <&4; do
    printf '%s %s\n' "$instruction" "$rest" | cut -c 1-100
    carry_out "$instruction" "$rest" || fail "this step failed"
  done 4< <(instructions)
}

# ---- the compose file ----

# One service a line, after those that it depends on: name, user, volumes and command, separated by bars; what a
# service leaves to the image is empty.
services() {
  docker-compose config | python3 -c '
import shlex, sys, yaml
services = yaml.safe_load(sys.stdin)["services"]
told = []
def tell(name):
    if name in told:
        return
    told.append(name)
    service = services[name]
    for other in service.get("depends_on", {}):
        tell(other)
    words = service.get("command", "")
    words = shlex.split(words) if isinstance(words, str) else [word.replace("$$", "$") for word in words]
    words = shlex.join(words).replace("\n", "\v")
    print(name, service.get("user", ""), " ".join(service.get("volumes", [])), words, sep="|")
for name in services:
    tell(name)'
}

# mount_volume SOURCE:TARGET:MODE, where SOURCE is a name or a file of ours.
mount_volume() {
  local source target mode
  IFS=: read -r source target mode <<<"$1"
  if [ -f "$source" ]; then
    touch "$root$target"
  else
    source=$work/volume-$source
    mkdir -p "$root$target"
    [ -e "$source" ] || cp -a "$root$target" "$source" # as Docker does: a new volume begins with what the image has
  fi
  mount --bind "$source" "$root$target"
  mount -o "remount,bind,$mode" "$root$target"
}

# run_service USER VOLUMES COMMAND
run_service() {
  local volume words
  for volume in $2; do
    mount_volume "$volume"
  done
  mapfile -t words <<<"$command"
  [ -z "$3" ] || eval "words=(${3//$'\v'/$'\n'})"
  inside "${1:-$user}" "${words[@]}"
}

healthy() {
  local words deadline=$((SECONDS + 30))
  mapfile -t words <<<"$health"
  until inside "$user" "${words[@]}" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.2
  done
}

# Runs each service with its volumes and no others. The one without a command is the image's own: the broker.
run_services() {
  local name as volumes words
  ip link set lo up
  echo "127.0.0.1 localhost broker" >"$root/etc/hosts"
  while IFS='|' read -r name as volumes words <&4; do
    echo "--- $name"
    if [ -n "$words" ]; then
      unshare --mount bash -euc 'run_service "$@"' - "$as" "$volumes" "$words" || fail "$name failed"
    else
      unshare --mount bash -euc 'run_service "$@"' - "$as" "$volumes" '' &
      healthy || fail "$name does not become healthy"
      echo "healthy"
    fi
  done 4< <(services)
}

debian bookworm
base=$root
build_image
export root user health command work
export -f inside services mount_volume run_service fail healthy run_services
unshare --net --pid --fork --kill-child bash -euo pipefail -c run_services # the broker ends with it
echo "The image is built by its own steps, and its services tell the story."
