#!/usr/bin/env bash
# Checks and timings on a CUDA machine in one command, under ten minutes:
#
#     bash benchmarks/gpu.sh            # results go to $OUT, or gpu-out
#
# Run it in the root of the repository. It needs a python (or $PYTHON) with torch, triton, numpy and
# pytest, nothing installed of this package, and no network. It fails if a check fails, and where
# there is no GPU. With .gpu/ from benchmarks/gpu_pack.sh it also continues trainings; without, it
# says that it does not.
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

part 90 tests "$PYTHON" -m pytest -q -rP -p no:cacheprovider tests/quantizers/test_triton.py
part 80 exactness "$PYTHON" benchmarks/gpu_quantizers.py exactness --out "$OUT"
part 80 timings "$PYTHON" benchmarks/gpu_quantizers.py timings --out "$OUT"
part 40 tiles "$PYTHON" benchmarks/gpu_quantizers.py tiles --out "$OUT"

# Shipped checkpoints continue their training, with discriminators, which a CPU is too slow for, on
# what benchmarks/gpu_pack.sh left in .gpu. Small checkpoints, logs and validations come back.
SPEECH=.gpu/speech/manifest.jsonl
if [ -e "$SPEECH" ]; then
    "$PYTHON" -m pip install -q --no-index --no-deps --target "$PACKAGES" .gpu/wheels/*.whl
    part 60 batches "$PYTHON" benchmarks/gpu_batches.py
    continue_training() { # name, seconds, further overrides
        local name=$1 seconds=$2 run="$PACKAGES/runs/$1"
        shift 2
        "$PYTHON" -m syllabary train "$name" "$@" \
            "start_from=assets/models/$name" "data.manifest=$SPEECH" \
            quantize_from=0 supervision.own_pitch_from=0 batch_size=32 data.crop_samples=32000 \
            optimizer.lr=3e-4 optimizer.muon_lr=5e-4 'adversarial={}' steps=20000 \
            validation.best_by=mel validation.every=500 --cache "$PACKAGES/stores" \
            --device "${DEVICE:-cuda}" --output "$run" --time-budget "${seconds}s" &&
            "$PYTHON" -m syllabary export "$run/best" --output "$OUT/$name" &&
            gzip -c "$run/log.jsonl" > "$OUT/$name/log.jsonl.gz"
    }
    export PYTHON SPEECH OUT PACKAGES
    export -f continue_training
    # Units: the encoder predicts units of what it itself makes of clean speech.
    continue_units() {
        local shipped=assets/models/units-16k
        "$PYTHON" -m syllabary train content-stage-4 "start_from=$shipped" \
            "targets.teacher=$shipped" "data.manifest=$SPEECH" batch_size=96 steps=20000 \
            --cache "$PACKAGES/stores" --device "${DEVICE:-cuda}" \
            --output "$PACKAGES/runs/content" --time-budget 55s &&
            "$PYTHON" -m syllabary export "$PACKAGES/runs/content/last" --output "$OUT/content" &&
            gzip -c "$PACKAGES/runs/content/log.jsonl" > "$OUT/content/log.jsonl.gz"
    }
    export -f continue_units
    part 85 train-rvq-16k bash -c 'continue_training rvq-16k 50'
    part 65 train-fsq-16k bash -c 'continue_training fsq-16k 38 start_batches=0'
    part 65 train-ts3-16k bash -c 'continue_training ts3-16k 38 start_batches=0'
    part 85 train-content bash -c continue_units
else
    echo "== no training: run benchmarks/gpu_pack.sh first, and carry .gpu"
fi

exit $status
