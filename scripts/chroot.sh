#!/usr/bin/env bash
# For scripts that try pep on a Debian of its own: folders that debootstrap makes, kept in $XDG_CACHE_HOME/pep
# (~/.cache/pep), and mounts that nobody else sees. Sourced in the project's folder; its functions end the script with
# code 77 where it cannot run.
PATH=$PATH:/usr/sbin:/sbin
root='' # the folder with the Debian

cannot_run() {
  echo "${0##*/} cannot run here: $1" >&2
  exit 77
}

# own_mounts ARGUMENT...: starts the script again, with these, where its mounts are its own. They end with it.
own_mounts() {
  [ -z "${PEP_OWN_MOUNTS:-}" ] || return 0
  [ "$(id -u)" -eq 0 ] || cannot_run "not root"
  unshare --mount true 2>/dev/null || cannot_run "no namespaces for mounts"
  PEP_OWN_MOUNTS=yes exec unshare --mount "scripts/${0##*/}" "$@"
}

# inside USER COMMAND...: in the folder $root.
inside() {
  local as=$1
  shift
  env -i HOME=/ PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin chroot --userspec="$as" "$root" "$@"
}

# make_base RELEASE: a minimal system in $root.
make_base() {
  local said script=$1
  command -v debootstrap >/dev/null || cannot_run "there is no debootstrap"
  [ -e "/usr/share/debootstrap/scripts/$1" ] || script=sid # it does not know the releases that came after it by name
  said=$(debootstrap --variant=minbase "$1" "$root" '' "$script" 2>&1) || {
    tail <<<"$said" >&2
    cannot_run "debootstrap could not make $1; it needs the network the first time"
  }
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # as in Debian's images: no service starts by itself
  chmod 755 "$root/usr/sbin/policy-rc.d"
}

# install_set SET: what scripts/setup.sh SET installs, from the release in $root.
install_set() {
  local said
  cp scripts/setup.sh "$root/root/"
  mount -t proc proc "$root/proc"
  said=$(inside root /root/setup.sh "$1" 2>&1) || {
    tail -n 40 <<<"$said" >&2
    echo "scripts/setup.sh $1 failed in $root" >&2
    exit 1
  }
  inside root apt-get clean
  umount "$root/proc"
}

# debian RELEASE [SET]: $root is then a folder with that release of Debian, and what scripts/setup.sh SET installs. Until
# the script ends no other has it. It is made where it is not there yet, and anew where this file or setup.sh changed.
debian() {
  local kept recipe
  kept=${XDG_CACHE_HOME:-$HOME/.cache}/pep/$1${2:+-$2}
  recipe=$(cat scripts/chroot.sh scripts/setup.sh | sha256sum)
  mkdir -p "${kept%/*}"
  exec {debian_lock}>"$kept.lock"
  flock -n "$debian_lock" || {
    echo "Waiting for another run that has $kept"
    flock "$debian_lock"
  }
  if [ "$(cat "$kept/recipe" 2>/dev/null)" != "$recipe" ]; then
    echo "Making $kept"
    root=$kept.new
    rm -rf --one-file-system "$root"
    make_base "$1"
    [ -z "${2:-}" ] || install_set "$2"
    echo "$recipe" >"$root/recipe"
    rm -rf --one-file-system "$kept"
    mv "$root" "$kept" # only now, so what is there is whole
  fi
  root=$kept
}
