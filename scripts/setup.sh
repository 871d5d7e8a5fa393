#!/usr/bin/env bash
# Installs the Debian packages that pep needs and that are missing; with none missing it does nothing at all.
#
#   scripts/setup.sh run     to build pep and run it with a broker (scripts/demo.sh)
#   scripts/setup.sh ctest   that, and what the tests need (scripts/brokers.sh, on each Debian)
#   scripts/setup.sh bench   that, and what the benchmarks need (bench/README.md)
#   scripts/setup.sh test    that, and what the checks need (scripts/test.sh)
#
# As root it installs directly, else through sudo; where that asks for a password it prints the command and exits 3.
# It never upgrades a package that is there, leaves no new mosquitto service behind, and touches none that was there.
set -euo pipefail

run_packages=(
  gcc libc6-dev cmake ninja-build pkg-config
  libsodium-dev libcbor-dev libconfig-dev libcjson-dev uthash-dev libsqlite3-dev libpq-dev
  mosquitto mosquitto-clients mosquitto-dev libmosquitto-dev
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

forbid_service_starts() {
  [ -e "$policy" ] && return
  trap 'rm -f "$policy"' EXIT
  trap 'exit 130' INT TERM HUP
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
}

# Only for a mosquitto that was not there before: not at the next boot either, and not where the administrator's own
# policy let it start.
switch_off_new_broker() {
  if [ -d /run/systemd/system ]; then
    systemctl --quiet disable --now mosquitto.service
  else
    service mosquitto stop >/dev/null 2>&1 || true # fails where it was never started
    update-rc.d mosquitto disable
  fi
  echo "The mosquitto service was installed and left switched off."
}

install_as_root() {
  local new_broker=no
  [[ " $* " = *" mosquitto "* ]] && new_broker=yes
  export DEBIAN_FRONTEND=noninteractive
  forbid_service_starts
  apt-get -q update || echo "Going on with the package lists that are here." # one dead source need not matter
  apt-get -q install -y --no-install-recommends --no-upgrade -o DPkg::Lock::Timeout=120 "$@"
  [ "$new_broker" = no ] || switch_off_new_broker
}

say_what_to_do() {
  cat >&2 <<END
Debian packages are missing, and sudo is not there or asks for a password. Run this as root, then try again:

  apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends --no-upgrade $*

(or, as root, "scripts/setup.sh $set_name", which does the same and keeps a new mosquitto service switched off)
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
