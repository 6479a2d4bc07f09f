#!/usr/bin/env bash
# Makes the networks that bench_deploy.py compares with, in an environment of its own.
# Installs from PyPI: torch, timm, onnx, onnxscript, onnxruntime, litert-torch, litert-quantizer, ai-edge-litert (about
# 6 GB with torch's default build). Usage: peers.sh ENVIRONMENT OUTPUT      then: bench_deploy.py --peers ENVIRONMENT ...
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
environment=${1:?usage: peers.sh ENVIRONMENT OUTPUT}
output=${2:?usage: peers.sh ENVIRONMENT OUTPUT}
if [ ! -x "$environment/bin/python" ]; then
  python3 -m venv "$environment"
fi
"$environment/bin/pip" install -q torch timm onnx onnxscript onnxruntime litert-torch litert-quantizer ai-edge-litert
mkdir -p "$output"
"$environment/bin/python" "$here/peers.py" "$output"
