#!/usr/bin/env bash
# Packs what benchmarks/gpu.sh needs to continue trainings on a machine without a network:
#
#     bash benchmarks/gpu_pack.sh [PART] [MIB]     # part 0, 1, …; 24 MiB of speech by default
#
# into .gpu/: a part of the training set, and wheels of the packages that are missing there. Name
# .gpu in the run's `carry`. Parts differ in their speakers' utterances, so that one call after the
# other hears all of it. Nothing of it belongs into the repository.
set -eu
PART=${1:-0}
MIB=${2:-24}
PYTHON=${PYTHON:-python3}
mkdir -p .git/info
grep -qsx "/.gpu/" .git/info/exclude || echo "/.gpu/" >> .git/info/exclude
rm -rf .gpu/speech
mkdir -p .gpu/speech .gpu/wheels
"$PYTHON" - "$PART" "$MIB" <<'PY'
import hashlib, json, os, shutil, sys
from pathlib import Path

part, limit = int(sys.argv[1]), int(sys.argv[2]) * 2**20
source, target = Path(os.environ["SYLLABARY_SPEECH"]), Path(".gpu/speech")
lines = [json.loads(line) for line in (source / "manifest.jsonl").open()]
lines = [line for line in lines if line["source"] != "fsdd"]


def order(line):
    return hashlib.sha256(line["path"].encode()).digest()


train = sorted((line for line in lines if line["split"] == "train"), key=order)
valid = sorted((line for line in lines if line["split"] == "valid"), key=order)[:24]
parts, size = [[]], 0
for line in train:
    size += (source / line["path"]).stat().st_size
    if size > limit:
        parts.append([])
        size = 0
    parts[-1].append(line)
chosen = parts[part % len(parts)] + valid
for line in chosen:
    (target / line["path"]).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / line["path"], target / line["path"])
(target / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in chosen))
print(f"part {part % len(parts)} of {len(parts)}: {len(chosen)} files")
PY
# Python 3.12 on x86-64 there; torch, triton, NumPy, SciPy, click and safetensors are installed.
for wanted in soundfile cffi pycparser soxr pyworld-prebuilt pesq pystoi rich threadpoolctl; do
    "$PYTHON" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 \
        --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
        --platform manylinux2014_x86_64 --platform any -d .gpu/wheels "$wanted" ||
        echo "no wheel of $wanted: what needs it is left out there"
done
du -sh .gpu
