#!/bin/sh
# All GPU figures in under eight minutes, without a network: benchmarks/gpu.sh [--sizes base,large] [--seconds 400] ...
# PYTHON names the interpreter of an environment with adapterxl in it; .venv of the checkout by default.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 TOKENIZERS_PARALLELISM=false
export PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$here/results"
exec "${PYTHON:-$here/../.venv/bin/python}" "$here/gpu.py" --out "$here/results/gpu.json" "$@"
