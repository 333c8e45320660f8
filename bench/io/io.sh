#!/bin/sh
# Builds bench/io/io.cc with the engine of native/io and runs it; needs fio. Options: see the top of io.cc.
set -e
cd "$(dirname "$0")/../.."
command -v fio > /dev/null || { echo 'io.sh: fio is not installed' >&2; exit 1; }
out=build/bench
mkdir -p "$out"
${CXX:-c++} -O2 -std=c++20 -Wall -Wextra -Wno-missing-field-initializers -fno-exceptions -fno-rtti -pthread \
  -o "$out/io" bench/io/io.cc native/io/*.cc native/base/mapping_guard.cc
exec "$out/io" "$@"
