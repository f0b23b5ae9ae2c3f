"""Golden codes: what every shipped tokenizer makes of a part of the bundled clip, on any processor.

`make golden` writes them anew, after shipped weights have changed. `golden/NAME.npz` beside this
has codes (codebooks, frames), every 16th decoded sample, and a hash of the weights that gave them.
Run as a program, this compares and prints what differs, for a process that is held to a processor.
"""

import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import syllabary
from syllabary.audio.files import read
from syllabary.codecs.registry import SHIPPED
from syllabary.codecs.shipped import MODELS
from syllabary.cores import use_one_thread

FOLDER = Path(__file__).parent / "golden"
CLIP = Path(__file__).parents[2] / "assets" / "demo.flac"
SECONDS = 3
EVERY = 16
TOLERANCE = 1e-6


class StaleError(Exception):
    """Golden codes are missing, or of other weights than those that ship."""


@dataclass(frozen=True)
class Difference:
    """Codes that are not the golden ones, of how many, and how far decoded samples are off."""

    codes: int
    of: int
    samples: float

    @property
    def none(self) -> bool:
        return self.of > 0 and self.codes == 0 and self.samples <= TOLERANCE


def weights_hash(name: str) -> str:
    """Of a shipped tokenizer's configuration and weights, the vocoder's too."""
    folder = MODELS / SHIPPED[name].folder
    found = hashlib.sha256(syllabary.load(name).spec.tokens.digest.encode())
    for file in ("config.json", "model.safetensors"):
        found.update((folder / file).read_bytes())
    return found.hexdigest()


def run(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Codes (codebooks, frames) and samples that a shipped tokenizer gives here."""
    use_one_thread()
    tokenizer = syllabary.load(name)
    wave, rate = read(CLIP, tokenizer.spec.sample_rate)
    tokens = tokenizer.encode(wave[: SECONDS * rate], rate)
    return tokens.codes[0].numpy(), tokenizer.decode(tokens)[0].numpy()


def write(name: str) -> None:
    codes, samples = run(name)
    smallest = np.min_scalar_type(int(codes.max()))
    path = FOLDER / f"{name}.npz"
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            weights=np.array(weights_hash(name)),
            codes=codes.astype(smallest),
            samples=samples[::EVERY],
        )


def compare(name: str) -> Difference:
    """What differs here from the golden codes and samples.

    Raises:
        StaleError: there are none for these weights.
    """
    path = FOLDER / f"{name}.npz"
    if not path.exists():
        raise StaleError(f"no golden codes of {name}: run `make golden` and commit what it writes")
    with np.load(path) as golden:
        if str(golden["weights"]) != weights_hash(name):
            raise StaleError(
                f"the golden codes are of other weights of {name} than those that ship: if these "
                "were meant to change, run `make golden` and commit what it writes"
            )
        expected, samples = golden["codes"].astype(np.int64), golden["samples"]
    codes, found = run(name)
    found = found[::EVERY]
    if codes.shape != expected.shape or found.shape != samples.shape:
        return Difference(expected.size, expected.size, float("inf"))
    off = float(np.abs(found - samples).max())
    return Difference(int((codes != expected).sum()), expected.size, off)


def main(arguments: list[str]) -> None:
    if arguments == ["write"]:
        FOLDER.mkdir(exist_ok=True)
        for name in SHIPPED:
            write(name)
            print(f"{FOLDER / name}.npz")
    else:
        print(json.dumps({name: asdict(compare(name)) for name in SHIPPED}))


if __name__ == "__main__":
    main(sys.argv[1:])
