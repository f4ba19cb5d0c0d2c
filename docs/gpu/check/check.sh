#!/bin/bash
# Run on the machine with the GPU, from the root of a jaxseg checkout:
#   bash docs/gpu/check/check.sh A     device, seven training steps beside smp, operations, loop: at most 390 s
#   bash docs/gpu/check/check.sh B     correct, determinism, loop, shapes: at most 250 s
#   bash docs/gpu/check/check.sh NAME ...   jobs of stages.py by name, e.g. pair:unet_r34 ops:atrous correct:unet
# DEADLINE=seconds from the start replaces the limit. Rows go to $OUT/rows.jsonl as they come; $OUT/report.md, hlo.zip and
# logs.zip are written at the end. TINY=1 rehearses on a CPU (SKIP_INSTALL=1: without the wheels of .whl).
set -u
export CHECK_BEGAN=$(date +%s.%N)
export OUT="${OUT:-/tmp/gpu_check_out}" PYTHONUNBUFFERED=1 PYTHONWARNINGS=ignore TF_CPP_MIN_LOG_LEVEL=3 TQDM_DISABLE=1
mkdir -p "$OUT"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if ls .whl/*.whl >/dev/null 2>&1 && [ -z "${SKIP_INSTALL:-}" ]; then
  [ -d /tmp/site/grain ] || python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/site .whl/*.whl || exit 1
  export PYTHONPATH="/tmp/site:${PYTHONPATH:-}"
fi
export PYTHONPATH="$PWD:${PYTHONPATH:-}"
set -o pipefail
python3 "$here/stages.py" "$@" 2>&1 | tee "$OUT/log.txt"
