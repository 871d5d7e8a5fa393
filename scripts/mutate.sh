#!/usr/bin/env bash
# Every check is load-bearing: breaks one at a time, in a copy of the project, and expects a test to fail each time.
#
#   scripts/mutate.sh                   all of them
#   scripts/mutate.sh PATTERN           those whose name matches, an extended regular expression
#   scripts/mutate.sh PATTERN TESTS     with the tests alone whose names match, such as unit_ledger: much faster
#   scripts/mutate.sh --list            their names, a file and a place each
#
# What no test notices is named as a survivor. Exit code 0 without survivors, 1 with some, 2 where it could not be
# tried: a mutation that does not compile, tests that fail without one. scripts/mutations.pl says what is broken.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
  --list) exec perl scripts/mutations.pl list ;;
  -h | --help)
    sed -n '2,/^set /{ /^set /d; s/^# \{0,1\}//p }' scripts/mutate.sh
    exit 0
    ;;
  -*)
    echo "scripts/mutate.sh: $1: there is no such option; see --help" >&2
    exit 2
    ;;
esac

tree=build/mutate/tree
build=build/mutate/build
log=build/mutate/log

# Tests that are ended in the middle leave their folders behind.
TMPDIR=$(mktemp -d /tmp/pep-mutate.XXXXXX)
chmod 755 "$TMPDIR"
export TMPDIR
export PEP_PATIENCE=8 # seconds: a store is waited for for 5, the rest is waiting for what a mutation prevents
trap 'rm -rf "$TMPDIR"' EXIT
trap 'exit 130' INT TERM HUP

fail() {
  echo "scripts/mutate.sh: $1" >&2
  [ ! -s "$log" ] || tail -n 20 "$log" >&2
  exit 2
}

# All files are new, so that nothing is left of the last run's mutations.
make_tree() {
  mkdir -p build/mutate
  rm -rf "$tree" "$log"
  mkdir "$tree"
  git ls-files -z --cached --others --exclude-standard | tar --null -T - -cf - | tar -C "$tree" -xmf -
  cmake -S "$tree" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DPEP_TESTS=ON >"$log" 2>&1 || fail "cmake failed"
}

# The tests, the most telling ones first, those with a broker last.
find_tests() {
  local all
  all=$(ctest --test-dir "$build" -N | sed -nE 's/^ *Test +#[0-9]+: ((unit|integration)_.*)/\1/p')
  all=$(printf 'unit_%s\n' gate budget vectors && grep -vE '^unit_(gate|budget|vectors)$' <<<"$all")
  all=$(grep -E -- "$1" <<<"$all") || fail "no test matches $1"
  mapfile -t units < <(grep ^unit_ <<<"$all")
  mapfile -t integrations < <(grep ^integration_ <<<"$all")
}

make_target() { cmake --build "$build" --target "$1" -- -j2 >"$log" 2>&1; }

# Seconds that it may take: many times what it needs.
limit_of() { [[ $1 = unit_* ]] && echo 150 || echo 90; }

# True where it passes; else $verdict says how not. It ends with its first failure.
passes() {
  local code=0
  { timeout -k 1 "$(limit_of "$1")" stdbuf -oL "$build/bin/$1" </dev/null 2>&1 | sed -u '/FAILED/q' >"$log" || code=$?; } \
    2>/dev/null # what bash says of a test that crashes
  find "$TMPDIR" -mindepth 1 -delete
  if grep -q FAILED "$log"; then
    verdict=$(sed -nE 's/^ *Test: (.*[^ ]) *\.\.\..*/\1/p' "$log" | tail -n 1)
  elif [ "$code" -eq 124 ] || [ "$code" -eq 137 ]; then
    verdict="timeout"
  elif [ "$code" -ne 0 ]; then
    verdict="exit code $code"
  else
    return 0
  fi
  return 1
}

# What fails first comes first the next time: neighbours are mostly noticed by the same test.
to_front() {
  local test
  for test in "${integrations[@]}"; do
    [ "$test" = "$1" ] || set -- "$@" "$test"
  done
  integrations=("$@")
}

# try NAME: sets $killer, empty where no test noticed.
try() {
  local test
  killer='' verdict=''
  perl scripts/mutations.pl apply "$1" "$tree" >"$log" 2>&1 || fail "$1"
  for test in "${units[@]}"; do
    make_target "$test" || fail "it does not compile: $1"
    ! grep -q 'no work to do' "$log" || continue # it is not made of what was broken
    passes "$test" || { killer=$test && return; }
  done
  make_target all || fail "it does not compile: $1"
  for test in "${integrations[@]}"; do
    passes "$test" || { killer=$test && to_front "$test" && return; }
  done
}

undo() {
  local file=${1%%[: ]*}
  cat "$file" >"$tree/$file"
}

# Of the tests with a broker, the fastest ones will come first.
baseline() {
  local test start times=()
  make_target all || fail "it does not compile as it is"
  for test in "${units[@]}" "${integrations[@]}"; do
    start=${EPOCHREALTIME/[.,]/}
    passes "$test" || fail "$test fails as it is: $verdict"
    [[ $test = unit_* ]] || times+=("$((${EPOCHREALTIME/[.,]/} - start)) $test")
  done
  [ ${#times[@]} -eq 0 ] || mapfile -t integrations < <(printf '%s\n' "${times[@]}" | sort -n | cut -d ' ' -f 2)
}

all=$(perl scripts/mutations.pl list)
mapfile -t names < <(grep -E -- "${1:-}" <<<"$all")
[ ${#names[@]} -gt 0 ] || fail "no mutation matches $1"
make_tree
find_tests "${2:-}"
baseline
echo "all tests pass without a mutation, after $SECONDS s"

survivors=()
for i in "${!names[@]}"; do
  start=$SECONDS
  try "${names[i]}"
  undo "${names[i]}"
  outcome="killed by $killer: $verdict"
  [ -n "$killer" ] || { outcome=SURVIVED && survivors+=("${names[i]}"); }
  printf '[%d/%d] %s\n    %s, %d s\n' $((i + 1)) ${#names[@]} "${names[i]}" \
    "$outcome" $((SECONDS - start))
done

exceptions=$(perl scripts/mutations.pl exceptions)
printf '\nIn %d s: mutations %d, killed %d, survivors %d; exceptions %d\n' "$SECONDS" ${#names[@]} \
  $((${#names[@]} - ${#survivors[@]})) ${#survivors[@]} "$(grep -c '^[^ ]' <<<"$exceptions" || true)"
[ -z "$exceptions" ] || printf '\nNot tried, because nobody could notice:\n%s\n' "$exceptions"
if [ ${#survivors[@]} -gt 0 ]; then
  printf '\nNo test notices:\n'
  printf '  %s\n' "${survivors[@]}"
  exit 1
fi
