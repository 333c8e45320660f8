#!/usr/bin/env bash
# Proves in about two minutes that the recipe of the default model still learns: the real data, network, optimizer, trainer and
# export, and answers of the server on the file that comes out. mini.py says what is trained and what it must reach.
#
#   tools/model/mini.sh --fetch           only what it needs: packages and data
#   tools/model/mini.sh [OPTION...]       options go to train.py, so `--muon-rate 0 --adam-rate 0` must fail
#
# PyPI's torch for x86-64 brings gigabytes of CUDA. Debian's is a plain CPU build: apt-get fetches it with all it needs (some
# 170 MB), and the packages are unpacked into ~/.cache/nandu (1 GB), not installed. So nothing of the system changes, nothing but
# `apt-get update` needs root, and it takes a fraction of the time. A second run fetches nothing. NANDU_MODEL_VENV names a
# virtual environment with requirements.txt to be used in place of all that. Where Debian's torch cannot be had, this says so
# and ends with 0.
set -euo pipefail
cd "$(dirname "$0")"

cache="${XDG_CACHE_HOME:-$HOME/.cache}/nandu"
export NANDU_DICT_DATA="${NANDU_DICT_DATA:-$cache/dictionary}"
debian=(python3-torch python3-numpy libopenblas0-pthread python3-pip)
# Versions as in requirements.txt, but torch and numpy are Debian's.
mapfile -t wheels < <(grep -vE '^(#|torch=|numpy=)' requirements.txt)

skip() {
  echo "mini-training: skipped: $1"
  exit 0
}

# unpack FOLDER: Debian's packages and PyPI's wheels.
unpack() {
  mkdir -p "$1/debs/partial"
  apt-get install -y -qq --download-only --no-install-recommends -o Dir::Cache::archives="$1/debs" -o Debug::NoLocking=1 \
    -o APT::Sandbox::User=root "${debian[@]}" >/dev/null
  # Another libc beside the running loader ends every process.
  rm -f "$1"/debs/libc6_* "$1"/debs/libc-bin_*
  find "$1/debs" -name '*.deb' -print0 | xargs -0 -P "$(nproc)" -I{} dpkg-deb -x {} "$1"
  rm -r "$1/debs"
  in_prefix "$1" "$python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --root-user-action ignore --target "$1/wheels" "${wheels[@]}"
  rm -rf "$1/usr/share"
}

# in_prefix FOLDER COMMAND...: runs it with what was unpacked there.
in_prefix() {
  local lib="$1/usr/lib/x86_64-linux-gnu"
  PYTHONPATH="$1/wheels:$1/usr/lib/python3/dist-packages" \
    LD_LIBRARY_PATH="$lib/openblas-pthread:$lib:$1/usr/lib:$1/lib/x86_64-linux-gnu" "${@:2}"
}

began=$SECONDS
if [ -n "${NANDU_MODEL_VENV:-}" ]; then
  run=("$NANDU_MODEL_VENV/bin/python")
else
  python=/usr/bin/python3
  [ "$(uname -m)" = x86_64 ] || skip 'it is made for x86-64'
  command -v apt-get >/dev/null && [ -x "$python" ] || skip 'no apt-get, or no /usr/bin/python3'
  if ! apt-cache show python3-torch >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] || skip 'apt knows no python3-torch, and apt-get update needs root'
    apt-get update -qq
    apt-cache show python3-torch >/dev/null 2>&1 || skip 'apt knows no python3-torch'
  fi
  prefix="$cache/torch-$(printf '%s ' "${debian[@]}" "${wheels[@]}" | sha256sum | head -c 12)"
  if [ ! -d "$prefix" ]; then
    rm -rf "$prefix.part"
    unpack "$prefix.part"
    mv "$prefix.part" "$prefix"
  fi
  run=(in_prefix "$prefix" "$python")
fi
mkdir -p "$NANDU_DICT_DATA"
echo "mini-training: packages $((SECONDS - began)) s"
"${run[@]}" data.py prepare
echo "mini-training: packages and data $((SECONDS - began)) s"
[ "${1:-}" = --fetch ] || "${run[@]}" mini.py "$@"
