"""Running a tokenizer in other processes, restricted to the instructions of older processors.

This reproduces the differences between processors: vector widths, fused multiply-add, and so the
order in which libraries sum. Tokenizers, waves and tokens are exchanged as files.
"""

import dataclasses
import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...codecs.container import read_tokens, write_tokens
from ...codecs.interface import AudioTokenizer
from ...codecs.registry import load
from ...codecs.tokens import Tokens
from ...cores import use_one_thread
from ...kernels.processors import masked_environment

_MODEL, _WAVES, _TOKENS = "tokenizer", "waves", "tokens"
_START = "import sys; from {module} import work; work(*sys.argv[1:])"


@dataclass(frozen=True, eq=False)
class Saved:
    """A tokenizer that was saved for other processes, and loaded again for comparison.

    Attributes:
        folder: of the tokenizer and the exchanged files.
        tokenizer: as it was loaded.
    """

    folder: Path
    tokenizer: AudioTokenizer

    def encode(
        self, processor: str, waves: Sequence[np.ndarray], num_codebooks: int
    ) -> list[Tokens]:
        """Encode waves (samples,) in a process restricted to a processor of `processors.MASKS`.

        Raises:
            ProcessorError: this is no x86-64 processor, or there is no such mask.
            RuntimeError: the other process failed; with the end of its output.
        """
        with self._errand(_WAVES) as folder:
            for index, wave in enumerate(waves):
                np.save(folder / _WAVES / f"{index}.npy", wave)
            run_as(processor, folder, self.tokenizer, num_codebooks)
            return [read_tokens(folder / _TOKENS / f"{index}.syl") for index in range(len(waves))]

    def decode(self, processor: str, tokens: Sequence[Tokens]) -> list[torch.Tensor]:
        """Decode tokens of one utterance each to samples (samples,); else as `encode`."""
        with self._errand(_TOKENS) as folder:
            for index, given in enumerate(tokens):
                write_tokens(folder / _TOKENS / f"{index}.syl", given)
            run_as(processor, folder, self.tokenizer, self.tokenizer.spec.tokens.num_codebooks)
            found = [np.load(folder / _WAVES / f"{index}.npy") for index in range(len(tokens))]
        return [torch.from_numpy(wave) for wave in found]

    @contextmanager
    def _errand(self, given: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            Path(name, given).mkdir()
            yield Path(name)


@contextmanager
def saved(tokenizer: AudioTokenizer, scratch: Path) -> Iterator[Saved]:
    """Save a tokenizer in a folder of `scratch` that is deleted when the block ends."""
    with tempfile.TemporaryDirectory(prefix="processors-", dir=scratch) as name:
        tokenizer.save_pretrained(Path(name, _MODEL))
        yield Saved(Path(name), load(Path(name, _MODEL), str(tokenizer.device)))


def run_as(processor: str, folder: Path, tokenizer: AudioTokenizer, num_codebooks: int) -> None:
    """Run `work` in a process restricted to a processor."""
    environment = masked_environment(processor)
    # The child process can import the same modules.
    environment["PYTHONPATH"] = os.pathsep.join(part or str(Path.cwd()) for part in sys.path)
    module = type(tokenizer).__module__
    arguments = [str(folder), str(num_codebooks), module, str(tokenizer.device)]
    command = [sys.executable, "-c", _START.format(module=__name__), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RuntimeError(f"as on {processor}, exit code {done.returncode}: {last}")


def work(folder: str, num_codebooks: str, module: str, device: str) -> None:
    """Encode the waves in ``waves`` to ``tokens``, or decode ``tokens`` to ``waves``.

    Args:
        folder: beside the saved tokenizer.
        module: of the tokenizer's class, which may be one that the package does not know.
    """
    use_one_thread()
    importlib.import_module(module)
    here = Path(folder)
    waves, tokens = here / _WAVES, here / _TOKENS
    tokenizer = load(here.parent / _MODEL, device)
    if waves.is_dir():
        tokens.mkdir()
        for path in waves.iterdir():
            wave, rate = np.load(path), tokenizer.spec.sample_rate
            found = tokenizer.encode(wave, rate, num_codebooks=int(num_codebooks))
            write_tokens(tokens / f"{path.stem}.syl", found)
    else:
        waves.mkdir()
        for path in tokens.iterdir():
            # Fields of a spec that files do not contain are tested by another promise.
            given = dataclasses.replace(read_tokens(path), spec=tokenizer.spec.tokens)
            wave = tokenizer.decode(given)[0]
            np.save(waves / f"{path.stem}.npy", wave.cpu().numpy())
