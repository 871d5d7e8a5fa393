#!/usr/bin/env bash
# Every check of the project, from set-up to the summary of all tests, in one go.
#
#   scripts/test.sh            all of it, at most 20 minutes
#   scripts/test.sh --quick    set-up, gcc, and its tests
#
# PEP_BROKERS=all adds all tests on newer Debian releases' Mosquitto (scripts/brokers.sh), unless --quick; at most 5
# minutes each.
#
# One line a check; what a failed one said follows it, and all that they say stands in build/checks. Exit code 0 only
# if every check passed.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin

case ${PEP_BROKERS:-native} in
  native) other_brokers=() ;;
  all) other_brokers=(trixie forky) ;;
  *)
    echo "scripts/test.sh: PEP_BROKERS is $PEP_BROKERS; it can be all or native" >&2
    exit 2
    ;;
esac
case ${1:-} in
  '') quick=no ;;
  --quick) quick=yes ;;
  -h | --help)
    sed -n '2,/^set /{ /^set /d; s/^# \{0,1\}//p }' scripts/test.sh
    exit 0
    ;;
  *)
    echo "scripts/test.sh: $1: there is no such option; see --help" >&2
    exit 2
    ;;
esac

logs=build/checks
mkdir -p "$logs"
skipped=77 # the exit code of a check that cannot run here
failed=()

# step NAME COMMAND...: one line with the outcome and the seconds. What it said is in the file $log.
step() {
  local name=$1 start=$SECONDS code=0
  shift
  log=$logs/${name//[^[:alnum:]]/-}.log
  printf '%-46s' "$name"
  "$@" >"$log" 2>&1 </dev/null || code=$?
  case $code in
    0) printf 'pass %5d s\n' $((SECONDS - start)) ;;
    "$skipped") printf 'skipped: %s\n' "$(tail -n 1 "$log")" ;;
    *)
      printf 'FAIL %5d s\n' $((SECONDS - start))
      failed+=("$name")
      tail -n 100 "$log" | sed 's/^/    /'
      [ "$(wc -l <"$log")" -le 100 ] || echo "    (the end of $log)"
      ;;
  esac
}

sources() { find . \( -path ./build -o -path ./.git \) -prune -o -name '*.[ch]' -print0; }

# Called through `|| code=$?`, where set -e does not act: join commands with &&.
# build PRESET [OPTION]...
build() { cmake --preset "$@" && cmake --build --preset "$1"; }

# tests PRESET [OPTION]...
tests() {
  local preset=$1
  shift
  ctest --test-dir "build/$preset" -j2 --output-on-failure --no-tests=error "$@"
}

format() { sources | xargs -0 clang-format --dry-run -Werror; }

# Not the tests: they end the program in helpers, which cppcheck does not see. clang-tidy does, and looks at all.
static_analysis() {
  mkdir -p build/dev/cppcheck &&
    cppcheck --project=build/dev/compile_commands.json --cppcheck-build-dir=build/dev/cppcheck -j2 --quiet \
      --library=scripts/cppcheck.cfg -i tests -i bench \
      --enable=warning,performance,portability --inline-suppr --error-exitcode=1
}

# PEP_VALGRIND tells the tests that they are slow here. What is still reachable at the end is no error: in the processes
# that tests fork, CUnit's own memory is. Nor what may be lost: glibc keeps the stacks of threads that have ended.
valgrind_units() {
  find build/dev/bin -name 'unit_*' -print0 |
    PEP_VALGRIND=1 xargs -0 -n 1 -P 2 \
      valgrind --quiet --error-exitcode=1 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite
}

# Where there is more than one thread.
build_for_tsan() { cmake --preset tsan && cmake --build --preset tsan --target unit_worker unit_directory unit_ledger; }

man_pages() { find docs -name '*.[1-8]' -print0 | xargs -0 mandoc -T lint -W warning; }

shell_scripts() {
  local scripts script
  mapfile -t scripts < <(
    grep -rlE '^#!.*bash$' --exclude-dir=build --exclude-dir=.git .
    find . -name '*.bash-completion'
  )
  for script in "${scripts[@]}"; do
    bash -n "$script" || return 1
  done
  if command -v shellcheck >/dev/null; then
    shellcheck --shell=bash -x "${scripts[@]}"
  fi
}

compose_file() {
  if command -v docker-compose >/dev/null; then
    docker-compose -f docker-compose.yml config --quiet
  elif docker compose version >/dev/null 2>&1; then
    docker compose -f docker-compose.yml config --quiet
  else
    echo "no docker-compose here"
    return $skipped
  fi
}

# other_broker RELEASE: a further line tells what was found there.
other_broker() {
  step "all tests on Debian $1" scripts/brokers.sh "$1"
  grep "^$1: .* passed$" "$log" || true
}

everything_else() {
  local release
  step "build with clang, warnings are errors" build dev-clang -DPEP_BENCH=ON
  step "build for release" build release
  step "build with ASan and UBSan" build asan
  step "includes hold the dependency rule" scripts/check-includes.sh
  step "layout (clang-format)" format
  step "clang-tidy" scripts/check-tidy.sh
  step "cppcheck" static_analysis
  step "exported symbols" scripts/check-symbols.sh
  step "installation" scripts/check-install.sh
  step "manual page" man_pages
  step "shell scripts" shell_scripts
  step "compose file" compose_file
  step "unit tests under valgrind" valgrind_units
  step "build with TSan" build_for_tsan
  step "threads under TSan" tests tsan -R '^unit_(worker|directory|ledger)$'
  step "all tests, clang's build" tests dev-clang -LE smoke # this valgrind cannot read clang's debug information
  step "all tests under ASan and UBSan" tests asan
  step "fuzzing, a minute a target" scripts/fuzz.sh 60
  for release in "${other_brokers[@]}"; do
    other_broker "$release"
  done
}

scripts/setup.sh test
step "build with gcc, warnings are errors" build dev -DPEP_BENCH=ON
[ $quick = yes ] || everything_else

# Last, so that its summary closes the run, unless something failed above, which must not hide behind it.
version=$("${PEP_MOSQUITTO:-mosquitto}" -h 2>/dev/null | sed -n '1s/^mosquitto version //p') || true
echo "all tests, Mosquitto $version, gcc's build (valgrind's included), after $SECONDS s:"
tests dev || failed+=("all tests, gcc's build")
if [ ${#failed[@]} -ne 0 ]; then
  printf '\n%d of the checks FAILED:\n' ${#failed[@]}
  printf '  %s\n' "${failed[@]}"
  exit 1
fi
