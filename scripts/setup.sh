#!/usr/bin/env bash
# Installs the Debian packages that pep needs and that are missing; with none missing it does nothing at all.
#
#   scripts/setup.sh run     to build pep and run it with a broker (scripts/demo.sh)
#   scripts/setup.sh ctest   that, and what the tests need (scripts/brokers.sh, on each Debian)
#   scripts/setup.sh bench   that, and what the benchmarks need (bench/README.md)
#   scripts/setup.sh test    that, and what the checks need (scripts/test.sh)
#
# As root it installs directly, else through sudo; where that asks for a password it prints the command and exits 3.
# It never upgrades a package that is there, leaves no new mosquitto or PostgreSQL service and no new PostgreSQL cluster
# behind, and touches none that was there.
set -euo pipefail

run_packages=(
  gcc libc6-dev cmake ninja-build pkg-config
  libsodium-dev libcbor-dev libconfig-dev libcjson-dev uthash-dev libsqlite3-dev libpq-dev
  mosquitto mosquitto-clients mosquitto-dev libmosquitto-dev
  gnuplot-nox
)
ctest_packages=(
  "${run_packages[@]}"
  libcunit1-dev postgresql
)
bench_packages=(
  "${ctest_packages[@]}"
  libssl-dev openssl
)
test_packages=(
  "${bench_packages[@]}"
  clang clang-format clang-tidy cppcheck debootstrap libclang-rt-dev llvm mandoc valgrind
)

usage() {
  echo "usage: scripts/setup.sh run|ctest|bench|test" >&2
  exit 2
}

installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing_of() {
  local package
  for package in "$@"; do
    installed "$package" || echo "$package"
  done
}

# Debian starts a service as soon as it is installed, and again at each boot. Until we are done, a policy (see
# invoke-rc.d(8)) answers that nothing may be started; one that the administrator has made stays as it is.
policy=/usr/sbin/policy-rc.d
own_policy=no

forbid_service_starts() {
  [ -e "$policy" ] && return
  own_policy=yes
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
}

# Debian's package makes a cluster (a database server with its data) when a version of PostgreSQL is first installed. The
# tests make their own, so until we are done a setting says that none is made.
cluster_setting=/etc/postgresql-common/createcluster.d/pep-setup.conf

forbid_new_cluster() {
  mkdir -p "${cluster_setting%/*}"
  echo "create_main_cluster = false" >"$cluster_setting"
}

allow_new_cluster() {
  rm -f "$cluster_setting"
  rmdir "${cluster_setting%/*}" "${cluster_setting%/*/*}" 2>/dev/null || true # where nothing else is in them
}

# switch_off_new SERVICE: only for one that was not there before: not at the next boot either, and not where the
# administrator's own policy let it start.
switch_off_new() {
  if [ -d /run/systemd/system ]; then
    systemctl --quiet disable --now "$1.service"
  else
    service "$1" stop >/dev/null 2>&1 || true # fails where it was never started
    update-rc.d "$1" disable
  fi
  echo "The $1 service was installed and left switched off."
}

# Whatever happens: what held only while we installed is gone.
clean_up() {
  [ "$own_policy" = no ] || rm -f "$policy"
  allow_new_cluster
}

install_as_root() {
  local new_services=()
  [[ " $* " != *" mosquitto "* ]] || new_services+=(mosquitto)
  installed postgresql-common || [[ " $* " != *" postgresql "* ]] || new_services+=(postgresql)
  export DEBIAN_FRONTEND=noninteractive
  trap clean_up EXIT
  trap 'exit 130' INT TERM HUP
  forbid_service_starts
  [[ " $* " != *" postgresql "* ]] || forbid_new_cluster
  apt-get -q update || echo "Going on with the package lists that are here." # one dead source need not matter
  apt-get -q install -y --no-install-recommends --no-upgrade -o DPkg::Lock::Timeout=120 "$@"
  local service
  for service in "${new_services[@]}"; do
    switch_off_new "$service"
  done
}

say_what_to_do() {
  cat >&2 <<END
Debian packages are missing, and sudo is not there or asks for a password. Run this as root, then try again:

  apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends --no-upgrade $*

(or, as root, "scripts/setup.sh $set_name", which does the same and keeps new services switched off)
END
}

[ $# -eq 1 ] || usage
set_name=$1
case $set_name in
  run) mapfile -t missing < <(missing_of "${run_packages[@]}") ;;
  ctest) mapfile -t missing < <(missing_of "${ctest_packages[@]}") ;;
  bench) mapfile -t missing < <(missing_of "${bench_packages[@]}") ;;
  test) mapfile -t missing < <(missing_of "${test_packages[@]}") ;;
  *) usage ;;
esac

if [ ${#missing[@]} -eq 0 ]; then
  exit 0
elif ! command -v apt-get >/dev/null; then
  echo "This needs Debian's packages, and there is no apt-get here: ${missing[*]}" >&2
  exit 3
elif [ "$(id -u)" -eq 0 ]; then
  echo "Installing: ${missing[*]}"
  install_as_root "${missing[@]}"
elif sudo -n true 2>/dev/null; then
  exec sudo -n bash "$(realpath "$0")" "$set_name"
else
  say_what_to_do "${missing[@]}"
  exit 3
fi
