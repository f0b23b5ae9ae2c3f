"""Multi-resolution STFT distance, a common training loss of vocoders."""

import math

import numpy as np

from .interface import Clip, Metric, MetricError
from .requirements import check_pair

#: FFT, window and hop, in samples: Parallel WaveGAN's.
RESOLUTIONS = ((512, 240, 50), (1024, 600, 120), (2048, 1200, 240))

#: Least power.
FLOOR = 1e-7


def stft_distance(clip: Clip) -> float:
    """Spectral convergence and log magnitude distance, at three resolutions.

    The mean over the resolutions of ‖R − E‖ / ‖R‖ + mean |ln R − ln E|, where R and E are STFT
    magnitudes (Hann windows, centred, the signal mirrored at its ends), the norm is Frobenius's,
    and powers below 1e-7 are raised to it. The windows are the paper's in samples: at 16 kHz they
    are half as long again as there, at 24 kHz.

    Raises:
        MetricError: the two can't be compared, or have no more than 1024 samples.
    """
    import torch

    check_pair(clip)
    longest = max(size for size, _, _ in RESOLUTIONS) // 2
    if clip.reference.size <= longest:
        raise MetricError(
            f"STFT distance: {clip.reference.size} samples; expected more than {longest}"
        )
    # Float32 is precise enough above the floor and takes half the time; sums are in float64.
    pair = torch.from_numpy(np.stack([clip.reference, clip.estimate]).astype(np.float32))
    total = 0.0
    for size, length, hop in RESOLUTIONS:
        window = torch.hann_window(length)
        spectrum = torch.stft(pair, size, hop, length, window, return_complex=True)
        first, second = spectrum.abs().clamp_(min=math.sqrt(FLOOR))
        lost = (first - second).square_().sum(dtype=torch.float64)
        whole = first.square().sum(dtype=torch.float64)
        difference = (first.log_() - second.log_()).abs_().mean(dtype=torch.float64)
        total += float((lost / whole).sqrt() + difference)
    return total / len(RESOLUTIONS)


STFT = Metric(
    name="stft",
    heading="MR-STFT",
    compute=stft_distance,
    description=(
        "Spectral convergence plus difference of log magnitudes, over three STFT resolutions."
    ),
    higher_is_better=False,
    bounds=(0, None),
    sample_rates=(16000,),
    paper="Yamamoto et al., arXiv 1910.11480",
)
