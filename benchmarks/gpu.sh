#!/usr/bin/env bash
# Speed on a GPU, see benchmarks/gpu.py: needs jax (for the GPU), flax, optax and gin-config, nothing else of this
# project's dependencies. PYTHON says which Python; else .venv's, else python3. Arguments go to gpu.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}
[[ -n ${PYTHON:-} || -x $python ]] || python=python3
"$python" -c 'import absl, flax, gin, jax, optax; gin.configurable' ||
  { echo "error: $python needs jax, flax, optax and gin-config: pip install gin-config" >&2; exit 2; }
exec "$python" -m benchmarks.gpu "$@"
