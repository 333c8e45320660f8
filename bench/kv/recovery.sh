#!/usr/bin/env bash
# Builds and runs bench/kv/recovery.cc: seconds to recover the index of a sparse image.
#   bench/kv/recovery.sh [--gib 100] [--io uring|pool]
set -euo pipefail
cd "$(dirname "$0")/../.."
out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT
g++ -std=c++20 -O2 -fno-exceptions -fno-rtti bench/kv/recovery.cc native/store/*.cc native/io/*.cc \
  native/base/mapping_guard.cc -o "$out/recovery" -pthread
"$out/recovery" "$@"
