"""Prepare a published model's input such that n samples give ceil(n / hop) frames.

A convolutional front end alone gives floor((n - receptive field) / hop) + 1 frames. Here, zeros are
appended to the samples, and nothing is prepended: all frames of the publisher's own pipeline depend
on the same samples as there, and one or two more frames cover the end.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import CheckpointError

PREPROCESSOR_FILE = "preprocessor_config.json"


class WaveFrontEnd:
    """Pass the samples themselves, for models with strided convolutions.

    Args:
        kernels, strides: of the convolutions.
        preprocessor: the fields of `preprocessor_config.json`; with `do_normalize`, each window is
            normalized to zero mean and unit variance before padding.
    """

    max_frames: int | None = None

    def __init__(
        self, kernels: list[int], strides: list[int], preprocessor: dict[str, Any]
    ) -> None:
        self.hop, self.field = 1, 1
        for kernel, stride in zip(kernels, strides, strict=True):
            self.field += (kernel - 1) * self.hop
            self.hop *= stride
        self.sample_rate = int(preprocessor.get("sampling_rate", 16000))
        self.normalize = bool(preprocessor.get("do_normalize", True))

    def __call__(self, samples: Tensor) -> Tensor:
        """Map (n,) float32 to (1, padded) float32, on the same device."""
        if self.normalize:
            # In NumPy as in transformers, with which the published units were made.
            values = samples.cpu().numpy()
            values = (values - values.mean()) / np.sqrt(values.var() + 1e-7)
            samples = torch.from_numpy(values).to(samples.device)
        frames = -(-len(samples) // self.hop)
        after = (frames - 1) * self.hop + self.field - len(samples)
        if after < 0:  # a front end whose receptive field is shorter than its hop
            return samples[None, : len(samples) + after]
        return torch.nn.functional.pad(samples, (0, after))[None]

    def batch(self, waves: Tensor) -> Tensor:
        """Map (batch, n) float32 to (batch, padded), differentiably."""
        if self.normalize:
            variance, mean = torch.var_mean(waves, 1, correction=0, keepdim=True)
            waves = (waves - mean) / (variance + 1e-7).sqrt()
        samples = waves.shape[1]
        after = (-(-samples // self.hop) - 1) * self.hop + self.field - samples
        return torch.nn.functional.pad(waves, (0, after))


class FilterbankFrontEnd:
    """Compute w2v-BERT's input: Kaldi's log-mel filterbank, normalized per channel, frames in
    pairs.

    The frames are those of transformers' `SeamlessM4TFeatureExtractor`. It drops an incomplete last
    window; here, the last frame is repeated instead.

    Args:
        preprocessor: the fields of `preprocessor_config.json`.
    """

    max_frames: int | None = None
    _SHIFT, _WINDOW = 160, 400

    def __init__(self, preprocessor: dict[str, Any]) -> None:
        from transformers import SeamlessM4TFeatureExtractor

        self.extractor = SeamlessM4TFeatureExtractor(**_plain(preprocessor))
        self.sample_rate = int(self.extractor.sampling_rate)
        self.hop = self._SHIFT * int(self.extractor.stride)
        # A variance needs two frames.
        self.least = self._WINDOW + self._SHIFT * (max(2, int(self.extractor.stride)) - 1)

    def __call__(self, samples: Tensor) -> Tensor:
        """Map (n,) float32 to (1, frames, channels) float32, on the same device."""
        frames = -(-len(samples) // self.hop)
        wave = samples.cpu().numpy()
        wave = np.pad(wave, (0, max(0, self.least - len(wave))))
        found = self.extractor(wave, sampling_rate=self.sample_rate, return_tensors="np")
        rows = torch.from_numpy(np.asarray(found["input_features"], dtype=np.float32))[0, :frames]
        rows = torch.cat([rows, rows[-1:].expand(frames - len(rows), -1)])
        return rows[None].to(samples.device)


class WhisperFrontEnd:
    """Compute Whisper's log-mel spectrogram, of the fixed length of its positions.

    Args:
        preprocessor: the fields of `preprocessor_config.json`.
        positions: number of the encoder's positions, one per frame.
    """

    def __init__(self, preprocessor: dict[str, Any], positions: int) -> None:
        from transformers import WhisperFeatureExtractor

        self.extractor = WhisperFeatureExtractor(**_plain(preprocessor))
        self.sample_rate = int(self.extractor.sampling_rate)
        self.hop = 2 * int(self.extractor.hop_length)  # the second convolution has a stride of 2
        self.max_frames: int | None = positions
        if self.extractor.n_samples != positions * self.hop:
            raise CheckpointError(
                f"{PREPROCESSOR_FILE} says windows of {self.extractor.n_samples} samples, and the "
                f"model has {positions} positions of {self.hop}"
            )

    def __call__(self, samples: Tensor) -> Tensor:
        """Map (n,) float32 to (1, channels, 2 × positions) float32, on the same device."""
        found = self.extractor(
            samples.cpu().numpy(), sampling_rate=self.sample_rate, return_tensors="pt"
        )
        return found["input_features"].to(samples.device)

    def batch(self, waves: Tensor) -> Tensor:
        """Map (batch, n) float32 to (batch, channels, 2 × ceil(n / hop)), differentiably.

        Like `__call__`, but without filling the window with silence. The maximum of a row, from
        which the 80 dB range is counted, is that of the row itself.

        Raises:
            CheckpointError: more samples than the model has positions for.
        """
        frames = 2 * -(-waves.shape[1] // self.hop)
        if frames > 2 * (self.max_frames or 0):
            raise CheckpointError(
                f"{waves.shape[1]} samples, and the model has positions for {self.max_frames} "
                f"frames of {self.hop}"
            )
        hop, n_fft = int(self.extractor.hop_length), int(self.extractor.n_fft)
        with torch.autocast(waves.device.type, enabled=False):
            padded = torch.nn.functional.pad(waves, (0, frames * hop - waves.shape[1]))
            # Reflection on both sides, as in the extractor's transform.
            padded = torch.nn.functional.pad(padded, (n_fft // 2, n_fft // 2), mode="reflect")
            window = torch.hann_window(n_fft, device=waves.device)
            spectra = torch.fft.rfft(padded.unfold(1, n_fft, hop)[:, :frames] * window)
            power = torch.view_as_real(spectra).square().sum(-1)
            filters = torch.from_numpy(np.asarray(self.extractor.mel_filters, np.float32))
            logs = (power @ filters.to(power)).clamp(min=1e-10).log10()
            loudest = logs.detach().amax((1, 2), keepdim=True)
            return (torch.maximum(logs, loudest - 8) + 4).transpose(1, 2) / 4


FrontEnd = WaveFrontEnd | FilterbankFrontEnd | WhisperFrontEnd


def read_preprocessor(directory: Path) -> dict[str, Any]:
    """Read a published model's `preprocessor_config.json`.

    Raises:
        CheckpointError: it is missing or damaged; the model's input is unknown without it.
    """
    import json

    path = directory / PREPROCESSOR_FILE
    try:
        fields = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: {error}; it says how the model's input is normalised"
        ) from None
    if not isinstance(fields, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return fields


def _plain(preprocessor: dict[str, Any]) -> dict[str, Any]:
    """Remove class names, which transformers' constructors would only store."""
    names = ("feature_extractor_type", "processor_class", "image_processor_type")
    return {name: value for name, value in preprocessor.items() if name not in names}
