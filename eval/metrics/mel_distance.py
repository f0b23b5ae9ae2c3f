"""Distances of log mel spectrograms: one scale in dB, and the multi-scale distance of the codec
literature.
"""

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from .interface import Clip, Metric, MetricError
from .requirements import check_pair

if TYPE_CHECKING:
    import torch

#: Windows in samples, with the mel channels of each: DAC's (arXiv 2306.06546).
SCALES = {32: 5, 64: 10, 128: 20, 256: 40, 512: 80, 1024: 160, 2048: 320}

#: Amplitude, about the noise of 16-bit samples.
FLOOR = 1e-5


def log_mel_distance(clip: Clip) -> float:
    """Mean absolute difference of log mel spectrograms, in dB; 0 for equal signals.

    The mean over all frames and channels of |20 log10(max(R, f)) − 20 log10(max(E, f))|, where R
    and E are amplitude mel spectrograms of `audio.mel.MelSpectrogram` (80 Slaney channels from 0
    to half the sample rate, periodic Hann windows of 64 ms every 16 ms, centred, zeros outside)
    and the floor f is 1e-5, about the noise of 16-bit samples. An attenuation by x dB so has a
    distance of x, less where the floor is reached. Digital silence counts as the floor.

    Raises:
        MetricError: the two can't be compared.
    """
    import torch

    from ...audio.mel import MelSpectrogram, log_mel

    check_pair(clip)
    window = round(0.064 * clip.sample_rate / 4) * 4
    mel = MelSpectrogram(
        clip.sample_rate, window, window, window // 4, 80, 0.0, clip.sample_rate / 2, torch.float64
    )
    pair = torch.from_numpy(np.stack([clip.reference, clip.estimate]).astype(np.float64))
    first, second = 20 * log_mel(mel(pair), floor=FLOOR)
    return float((first - second).abs().mean())


def multi_scale_mel_distance(clip: Clip) -> float:
    """Multi-scale log mel distance, DAC's loss (arXiv 2306.06546); 0 for equal signals.

    The sum over seven scales of the mean of |log10(max(R, f)) − log10(max(E, f))|, of amplitude mel
    spectrograms with periodic Hann windows of 32, 64, … 2048 samples a quarter of themselves
    apart, centred, the signal mirrored at its ends; 5, 10, … 320 Slaney channels from 0 to half
    the sample rate; f is 1e-5. Published figures at 24 or 44.1 kHz have shorter windows, and so
    don't compare with those at 16 kHz.

    Raises:
        MetricError: the two can't be compared, or have no more than 1024 samples.
    """
    import torch

    check_pair(clip)
    if clip.reference.size <= max(SCALES) // 2:
        raise MetricError(
            f"multi-scale mel distance: {clip.reference.size} samples; expected more than "
            f"{max(SCALES) // 2}"
        )
    # Float32 is precise enough above the floor and takes half the time; means are in float64.
    pair = torch.from_numpy(np.stack([clip.reference, clip.estimate]).astype(np.float32))
    total = 0.0
    for length, channels in SCALES.items():
        window, filters = _scale(clip.sample_rate, length, channels)
        spectrum = torch.stft(pair, length, length // 4, window=window, return_complex=True)
        first, second = (filters @ spectrum.abs()).clamp_(min=FLOOR).log10_()
        total += float((first - second).abs_().mean(dtype=torch.float64))
    return total


@cache
def _scale(sample_rate: int, length: int, channels: int) -> "tuple[torch.Tensor, torch.Tensor]":
    import torch

    from ...audio.mel import mel_filterbank

    filters = mel_filterbank(sample_rate, length, channels, 0.0, sample_rate / 2)
    return torch.hann_window(length), torch.from_numpy(filters).float()


# At one rate, so that codecs of other rates are compared over the same band.
MEL = Metric(
    name="mel",
    heading="mel dB",
    compute=log_mel_distance,
    description="Mean difference of log mel spectrograms (80 channels, windows of 64 ms).",
    higher_is_better=False,
    bounds=(0, None),
    unit="dB",
    digits=2,
    sample_rates=(16000,),
)

MULTI_SCALE_MEL = Metric(
    name="msmel",
    heading="MS-mel",
    compute=multi_scale_mel_distance,
    description=(
        "Mean differences of log10 mel spectrograms, summed over seven windows of 32 to 2048 "
        "samples at 16 kHz."
    ),
    higher_is_better=False,
    bounds=(0, None),
    sample_rates=(16000,),
    paper="Kumar et al., arXiv 2306.06546",
)
