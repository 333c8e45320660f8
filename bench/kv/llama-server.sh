#!/usr/bin/env bash
# Builds llama-server, the other side of bench/kv/slots.mjs, from the llama.cpp that llama-cpp-python 0.3.36 carries in its
# source package on PyPI: the same sources as the other comparisons use (test/parity/setup.sh). For this machine's CPU, without
# TLS and without the web page. About half an hour on two busy cores; running it again builds only what is missing.
#
#   bench/kv/llama-server.sh [DIR]      default ~/.cache/nandu/llama; the last line printed is the path of llama-server
#
# Needs python3 with venv, a C++17 compiler and cmake 3.14 or later (else it is taken from PyPI).
set -euo pipefail

version=0.3.36
dir="${1:-$HOME/.cache/nandu/llama}"
source="$dir/llama_cpp_python-$version/vendor/llama.cpp"
mkdir -p "$dir"
dir="$(cd "$dir" && pwd)"
[ -x "$dir/venv/bin/python" ] || python3 -m venv "$dir/venv"
if [ ! -f "$source/CMakeLists.txt" ]; then
  "$dir/venv/bin/pip" download --quiet --no-binary :all: --no-deps --dest "$dir" "llama-cpp-python==$version" >&2
  tar -xzf "$dir/llama_cpp_python-$version.tar.gz" -C "$dir"
fi
cmake="$(command -v cmake || true)"
if [ -z "$cmake" ]; then
  "$dir/venv/bin/pip" install --quiet cmake >&2
  cmake="$dir/venv/bin/cmake"
fi

"$cmake" -S "$source" -B "$dir/build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF \
  -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF \
  -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF >"$dir/build.log"
nice -n 10 "$cmake" --build "$dir/build" --target llama-server --parallel "$(nproc)" >>"$dir/build.log"
"$dir/build/bin/llama-server" --version >&2
echo "$dir/build/bin/llama-server"
