#!/usr/bin/env bash
# Coverage-guided fuzzing of native code that foreign bytes reach: builds every test/native/fuzz/*_fuzz.cc with clang,
# AddressSanitizer and UBSan, and runs each for SECONDS on top of its committed corpus. Prints executions and coverage;
# ends with an error at the first finding and says which input it was.
#
#   tools/fuzz.sh [SECONDS=60] [NAME]      NAME: only test/native/fuzz/NAME_fuzz.cc
#   NANDU_FUZZ_KEEP=DIR                    new inputs are kept in DIR/NAME (default: a fresh directory each time)
set -euo pipefail
cd "$(dirname "$0")/.."

seconds="${1:-60}"
only="${2:-}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# What each target links beside itself.
sources() {
  case "$1" in
    gguf) echo native/load/gguf.cc native/base/mapping_guard.cc native/quant/dequant.cc native/model/weights.cc ;;
    store) echo native/store/*.cc ;;
  esac
}

for harness in test/native/fuzz/*_fuzz.cc; do
  name="$(basename "$harness" _fuzz.cc)"
  [ -z "$only" ] || [ "$only" = "$name" ] || continue
  # shellcheck disable=SC2046
  clang++ -std=c++20 -DNANDU_TEST_HOOKS -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -fno-exceptions \
    "$harness" $(sources "$name") -o "$work/$name"
  inputs="${NANDU_FUZZ_KEEP:-$work/inputs}/$name"
  mkdir -p "$inputs"
  log="$work/$name.log"
  if ! "$work/$name" -max_total_time="$seconds" -malloc_limit_mb=64 -print_final_stats=1 -artifact_prefix="$PWD/fuzz-$name-" \
    "$inputs" "test/native/fuzz/corpus/$name" >"$log" 2>&1; then
    tail -40 "$log"
    exit 1
  fi
  executions="$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
  coverage="$(grep -o 'cov: [0-9]* ft: [0-9]* corp: [0-9]*' "$log" | tail -1)"
  echo "fuzz $name: $executions executions in $seconds s, $coverage"
done
