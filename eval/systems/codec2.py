"""Codec2 (D. Rowe, 2011), a parametric codec at 8 kHz, by c2enc and c2dec."""

import tempfile
from pathlib import Path
from typing import ClassVar

import numpy as np

from .base import BaseSystem
from .interface import Reconstruction
from .programs import digest_of, find_programs, run_program, short_digest
from .samples import at_rate, fitted, to_int16


class Codec2(BaseSystem):
    """Codec2 with 16 kHz input and output, resampled by soxr, so that its band limit is part of the
    scores.

    Bits are the nominal bits of its frames; files round each frame up to bytes.

    Args:
        mode: as for c2enc: bits per second, such as 3200 or 1300.

    Raises:
        MissingSystemError: no codec2 programs.
        ValueError: no such mode.
    """

    #: Bits and samples at 8 kHz of a frame.
    FRAMES: ClassVar = {"3200": (64, 160), "2400": (48, 160), "1300": (52, 320), "700C": (28, 320)}
    #: Delay of the decoded speech in samples at 16 kHz: where STOI is best, in steps of 40.
    DELAYS: ClassVar = {"3200": 320, "2400": 320, "1300": 320, "700C": 520}

    license = "LGPL-2.1"
    source = "rowetel.com/codec2.html"
    in_process = False

    def __init__(self, mode: str) -> None:
        if mode not in self.FRAMES:
            raise ValueError(f"codec2 mode {mode!r}; there are {', '.join(self.FRAMES)}")
        self._programs = find_programs("c2enc", "c2dec", package="codec2")
        self.name = f"codec2-{mode}"
        self.mode = mode
        self.setting = f"mode {mode}, 8 kHz"
        self.delay = self.DELAYS[mode]
        self.digest = digest_of(self._programs, f"{self.setting} {self.delay}")
        self.versions = {"c2enc": short_digest(self._programs[0])}

    def reconstruct(self, wave: np.ndarray) -> Reconstruction:
        bits, hop = self.FRAMES[self.mode]
        narrow = at_rate(wave, self.sample_rate, 8000)
        sent = -(-len(narrow) // hop)
        total = -(-(len(narrow) + self.delay // 2) // hop)
        padded = np.pad(narrow, (0, total * hop - len(narrow)))
        encoder, decoder = self._programs
        with tempfile.TemporaryDirectory(prefix="syllabary-codec2-") as scratch:
            given, coded, back = (Path(scratch, name) for name in ("a.raw", "a.bit", "b.raw"))
            given.write_bytes(to_int16(padded).tobytes())
            run_program([encoder, self.mode, given, coded])
            run_program([decoder, self.mode, coded, back])
            decoded = np.frombuffer(back.read_bytes(), "<i2").astype(np.float32) / 32768
        wide = at_rate(decoded, 8000, self.sample_rate)
        return Reconstruction(fitted(wide[self.delay :], len(wave)), float(sent * bits))
