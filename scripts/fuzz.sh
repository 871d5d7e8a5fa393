#!/usr/bin/env bash
# Fuzzes what reads hostile bytes (tests/fuzz), each target for some seconds, two at a time.
#
#   scripts/fuzz.sh [SECONDS]     60, unless told otherwise
#
# One line a target. Exit code 1 where something was found, or where a target's seeds are missing or fail; the input that
# shows it stays in build/fuzz/found. What the targets learn stays in build/fuzz/corpus, where the next run begins.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
if [ $# -gt 1 ] || ! [[ $seconds =~ ^[1-9][0-9]{0,5}$ ]]; then
  sed -n '2,/^set /{ /^set /d; s/^# \{0,1\}//p }' scripts/fuzz.sh >&2
  exit 2
fi

work=build/fuzz
mkdir -p $work/found $work/logs
log=$work/logs/build.log
if ! { cmake --preset fuzz && cmake --build --preset fuzz --target fuzzers; } >"$log" 2>&1; then
  tail -n 40 "$log" >&2
  exit 1
fi
rm -rf $work/seeds
$work/tests/fuzz/fuzz_seeds $work/seeds

# Files of the targets: in memory where that can be, because they write thousands a second.
TMPDIR=$(mktemp -d -p /dev/shm pep-fuzz.XXXXXX 2>/dev/null || mktemp -d)
trap 'rm -rf "$TMPDIR"' EXIT
export TMPDIR work seconds

# say_found NAME LOG: what ended the target, and how to see it again.
say_found() {
  local input
  input=$(sed -n 's/.*Test unit written to //p' "$2" | tail -n 1)
  printf '%-9s FOUND: %s\n' "$1" "$(grep -E 'it does not hold|SUMMARY:|ERROR:' "$2" | head -n 1)"
  echo "          see $2${input:+; again: $work/bin/fuzz_$1 $input}"
  return 1
}

# The last line of libFuzzer's own is "#RUNS DONE cov: EDGES ft: FEATURES corp: INPUTS/BYTES ... exec/s: RATE ...".
say_done() {
  awk -v name="$1" '/^#[0-9]+[ \t]+DONE/ {
    runs = substr($1, 2)
    for (i = 3; i < NF; i += 2) is[$i] = $(i + 1)
  } END {
    if (runs == "") exit 1
    printf "%-9s %9d runs %6d /s   cov: %4d ft: %5d   corpus: %s\n", name, runs, is["exec/s:"], is["cov:"], is["ft:"],
      is["corp:"]
  }' "$2" || say_found "$1" "$2"
}

# The seeds alone at first, so that they never rot; then as long as there is time.
fuzz() {
  local name=$1 log=$work/logs/$1.log
  local options=(-timeout=10 -rss_limit_mb=2048 -artifact_prefix="$work/found/$name-")
  if [ -z "$(find "$work/seeds/$name" -type f -size +0 2>/dev/null)" ]; then
    echo "$name has no seeds: tests/fuzz/seeds.c must write some"
    return 1
  fi
  mkdir -p "$work/corpus/$name"
  {
    timeout 120 "$work/bin/fuzz_$name" "${options[@]}" -runs=0 "$work/seeds/$name" &&
      timeout $((seconds + 120)) "$work/bin/fuzz_$name" "${options[@]}" -max_total_time="$seconds" \
        "$work/corpus/$name" "$work/seeds/$name"
  } >"$log" 2>&1 </dev/null || say_found "$name" "$log" || return 1
  say_done "$name" "$log"
}
export -f fuzz say_found say_done

targets=("$work"/bin/fuzz_*)
# shellcheck disable=SC2016 # the inner shell expands it
printf '%s\n' "${targets[@]##*/fuzz_}" | xargs -P 2 -I {} bash -c 'fuzz "$1"' fuzz {} || exit 1
