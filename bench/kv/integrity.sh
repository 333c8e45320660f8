#!/usr/bin/env bash
# Builds and runs bench/kv/integrity.cc: what checking every 64 KiB costs a restore.
#   bench/kv/integrity.sh [--rounds 15] [--io uring|pool|mmap] [--dir /var/tmp]
set -euo pipefail
cd "$(dirname "$0")/../.."
out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT
g++ -std=c++20 -O2 -DNANDU_TEST_HOOKS -fno-exceptions -fno-rtti bench/kv/integrity.cc native/store/*.cc native/io/*.cc \
  native/base/mapping_guard.cc -o "$out/integrity" -pthread
"$out/integrity" "$@"
