"""Lyra v2 (SoundStream, arXiv 2107.03312; Google's weights) through LiteRT."""

import importlib
import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .base import BaseSystem, package_versions
from .interface import MissingSystemError, Reconstruction
from .programs import digest_of, short_digest

#: Default folder of the weights, unless $SYLLABARY_LYRA is set.
WEIGHTS = Path(__file__).parents[3] / "shared" / "peers" / "lyra"


class Lyra(BaseSystem):
    """Lyra v2 at 16 kHz, one frame of 20 ms per call, on one thread.

    Args:
        kbps: 3.2, 6 or 9.2: 16, 30 or 46 quantizers of 4 bits at 50 Hz.
        weights: folder of the three .tflite files; default: $SYLLABARY_LYRA, or else
            shared/peers/lyra beside this checkout.

    Raises:
        MissingSystemError: no ai-edge-litert, or no weights.
        ValueError: no such rate.
    """

    HOP = 320
    DEPTH = 46
    NUM_QUANTIZERS: ClassVar = {"3.2": 16, "6": 30, "9.2": 46}

    license = "Apache-2.0"
    source = "arXiv 2107.03312; github.com/google/lyra 1.3.2"

    def __init__(self, kbps: str, weights: Path | None = None) -> None:
        if kbps not in self.NUM_QUANTIZERS:
            raise ValueError(f"Lyra at {kbps} kbit/s; there are {', '.join(self.NUM_QUANTIZERS)}")
        try:
            self._interpreter: Any = importlib.import_module("ai_edge_litert.interpreter")
        except ImportError as error:
            lacking = error.name or "ai_edge_litert"
            raise MissingSystemError(f"no {lacking} package; pip install ai-edge-litert") from None
        folder = weights or Path(os.environ.get("SYLLABARY_LYRA") or WEIGHTS)
        paths = [folder / f"{part}.tflite" for part in ("soundstream_encoder", "quantizer")]
        paths.append(folder / "lyragan.tflite")
        if not all(path.exists() for path in paths):
            raise MissingSystemError(f"no Lyra weights in {folder}; set SYLLABARY_LYRA")
        self.name = f"lyra-v2-{kbps}"
        self.num_quantizers = self.NUM_QUANTIZERS[kbps]
        self.setting = (
            f"{self.num_quantizers} quantizers of 4 bits, 20 ms frames, new stream for each file"
        )
        self.digest = digest_of(paths, self.setting)
        self.versions = package_versions("ai-edge-litert")
        self.versions |= {path.name: short_digest(path) for path in paths}
        self._paths = paths

    def reconstruct(self, wave: np.ndarray) -> Reconstruction:
        self.start()
        total = -(-len(wave) // self.HOP)
        padded = np.pad(np.asarray(wave, np.float32), (0, total * self.HOP - len(wave)))
        codes = [self.encode(frame[None]) for frame in padded.reshape(total, self.HOP)]
        frames = [self.decode(code) for code in codes]
        decoded = np.concatenate([np.zeros(0, np.float32), *frames])
        return Reconstruction(decoded[: len(wave)], float(total * self.num_quantizers * 4))

    def start(self) -> None:
        """Start a new stream: new interpreters, since `reset_all_variables` does not reset all
        state.
        """
        encoder, quantizer, decoder = (
            self._interpreter.Interpreter(str(path), num_threads=1) for path in self._paths
        )
        self._encode = encoder.get_signature_runner()
        self._quantize = quantizer.get_signature_runner("encode")
        self._dequantize = quantizer.get_signature_runner("decode")
        self._decode = decoder.get_signature_runner()

    def encode(self, samples: np.ndarray) -> np.ndarray:
        """Encode the next frame's samples (1, HOP) float32 to codes (DEPTH, 1, 1) int32."""
        features = self._encode(input_audio=samples)["output_0"]
        count = np.array(self.num_quantizers, np.int32)
        # The quantizer has two outputs: the codes and the quantized features.
        found = self._quantize(input_frames=features, num_quantizers=count)
        codes = next(value for value in found.values() if value.dtype == np.int32)
        # The decoder expects -1 for stages that are not sent.
        sent = np.arange(self.DEPTH)[:, None, None] < self.num_quantizers
        return np.where(sent, codes, -1).astype(np.int32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Decode the next frame's codes to samples (HOP,) float32."""
        quantized = self._dequantize(encoding_indices=codes)["output_0"]
        return self._decode(input_audio=quantized)["output_0"][0]
