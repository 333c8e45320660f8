#!/usr/bin/env bash
# Proves in some minutes that the recipe of the default model still learns: the real data, network, optimizer, trainer and
# export, with 300 words and a fixed number of steps. Python packages go to ~/.cache/nandu, not into the repository; a second
# run installs and downloads nothing. Not part of .ci/run: to install torch alone takes minutes.
#
#   tools/model/mini.sh                NANDU_MODEL_VENV=/some/venv to use packages that are there
set -euo pipefail
cd "$(dirname "$0")"

cache="${XDG_CACHE_HOME:-$HOME/.cache}/nandu"
venv="${NANDU_MODEL_VENV:-$cache/model-venv}"
export NANDU_DICT_DATA="${NANDU_DICT_DATA:-$cache/dictionary}"
mkdir -p "$NANDU_DICT_DATA"
if [ ! -x "$venv/bin/python" ]; then
  python3.11 -m venv "$venv"
fi
"$venv/bin/python" -c 'import torch, tokenizers, gguf, numpy' 2>/dev/null || "$venv/bin/pip" install --quiet -r requirements.txt
"$venv/bin/python" data.py prepare
exec "$venv/bin/python" mini.py
