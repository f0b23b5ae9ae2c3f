#!/usr/bin/env bash
# Checks and timings on a CUDA machine in one command, under ten minutes:
#
#     bash benchmarks/gpu.sh            # results go to $OUT, or gpu-out
#
# Run it in the root of the repository. It needs a python (or $PYTHON) with torch, triton, numpy and
# pytest, nothing installed of this package, and no network. It fails if a check fails, and where
# there is no GPU.
set -u
PYTHON=${PYTHON:-python3}
OUT=${OUT:-gpu-out}
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)

if ! "$PYTHON" -c 'import torch, triton; raise SystemExit(not torch.cuda.is_available())'; then
    echo "gpu.sh: no GPU that torch can use, or no torch or triton in $PYTHON; nothing was run." >&2
    exit 1
fi

# The root of the repository is the package: under this name it can be imported.
PACKAGES=$(mktemp -d)
trap 'rm -rf "$PACKAGES"' EXIT
ln -s "$PWD" "$PACKAGES/syllabary"
export PYTHONPATH="$PACKAGES${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
unset TRITON_INTERPRET

status=0
part() { # seconds, title, command: a part that fails or hangs leaves time for the others
    local limit=$1 title=$2
    shift 2
    echo "== $title"
    timeout "$limit" "$@" 2>&1 | tee "$OUT/$title.log"
    local code=${PIPESTATUS[0]}
    if [ "$code" -ne 0 ]; then
        echo "== $title FAILED (exit status $code)"
        status=1
    fi
}

part 150 tests "$PYTHON" -m pytest -q -rP -p no:cacheprovider tests/quantizers/test_triton.py
part 180 exactness "$PYTHON" benchmarks/gpu_quantizers.py exactness --out "$OUT"
part 150 timings "$PYTHON" benchmarks/gpu_quantizers.py timings --out "$OUT"
part 60 tiles "$PYTHON" benchmarks/gpu_quantizers.py tiles --out "$OUT"

# Here shipped checkpoints continue their training on the GPU. None is shipped yet: the recipe that
# trains the first one adds its command as a part of its own, with the minutes that are left.

exit $status
