"""Opus (RFC 6716) by opusenc and opusdec of opus-tools."""

import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from .base import BaseSystem
from .interface import Reconstruction
from .ogg import ogg_packets
from .programs import digest_of, find_programs, run_program
from .samples import fitted, to_int16


class Opus(BaseSystem):
    """Opus at 16 kHz. The programs remove the codec's delay themselves.

    Bits are those of the packets, without Ogg's pages and the two header packets.

    Args:
        kbps: target; the real rate of variable-rate Opus lies below it, as pauses cost little.
        mode: `vbr`, opusenc's default, or `hard-cbr`.
        packet_loss: percent of the packets that the decoder loses at random, and conceals.
        packet_ms: duration of a packet: 20, opusenc's default, 40 or 60.

    Raises:
        MissingSystemError: no opus-tools.
    """

    license = "BSD-3-Clause"
    source = "RFC 6716; opus-tools"
    in_process = False

    def __init__(
        self,
        kbps: str,
        mode: Literal["vbr", "hard-cbr"] = "vbr",
        packet_loss: int = 0,
        packet_ms: int = 20,
    ) -> None:
        self._kbps, self._mode = kbps, mode
        self._programs = find_programs("opusenc", "opusdec", package="opus-tools")
        self.name = f"opus-{kbps}" + ("" if mode == "vbr" else f"-{mode}")
        self.name += f"-{packet_ms}ms" if packet_ms != 20 else ""
        self.name += f"-loss-{packet_loss}" if packet_loss else ""
        self._options = ["--bitrate", kbps, f"--{mode}", "--speech", "--comp", "10"]
        self._options += ["--framesize", str(packet_ms)]
        self._losing = ["--packet-loss", str(packet_loss)] if packet_loss else []
        self.setting = " ".join([*self._options, *self._losing])
        version = run_program([self._programs[0], "--version"]).decode().partition("\n")[0]
        # The codec is in a separate library, whose version opusenc prints.
        self.digest = digest_of(self._programs, f"{version} {self.setting}")
        self.versions = {"opusenc": version.removeprefix("opusenc ").strip()}

    def with_packet_loss(self, percent: int, burst_s: float | None = None) -> "Opus":
        """Return the same codec with packets of 20 ms lost at random; or bursts of so many seconds,
        which are packets of that length: opusdec loses single packets only.
        """
        packet_ms = 20 if burst_s is None else round(1000 * burst_s)
        return Opus(self._kbps, self._mode, percent, packet_ms)

    def reconstruct(self, wave: np.ndarray) -> Reconstruction:
        encoder, decoder = self._programs
        with tempfile.TemporaryDirectory(prefix="syllabary-opus-") as scratch:
            given, coded, back = (Path(scratch, name) for name in ("a.wav", "a.opus", "b.wav"))
            soundfile.write(given, to_int16(wave), self.sample_rate)
            run_program([encoder, "--quiet", *self._options, given, coded])
            rate = str(self.sample_rate)
            options = ["--quiet", "--rate", rate, "--no-dither", *self._losing]
            run_program([decoder, *options, coded, back])
            decoded, found = soundfile.read(back, dtype="float32")
            if found != self.sample_rate:
                raise RuntimeError(f"opusdec gave {found} Hz")
            packets = ogg_packets(coded.read_bytes())
        return Reconstruction(fitted(decoded, len(wave)), 8.0 * sum(packets[2:]))
