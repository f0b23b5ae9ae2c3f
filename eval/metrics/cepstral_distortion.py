"""Mel cepstral distortion: distance of spectral envelopes, independent of the volume."""

from functools import cache

import numpy as np

from .interface import Clip, Metric, MetricError
from .requirements import check_pair

#: Mel channels and cepstral coefficients, without the zeroth.
NUM_MELS, NUM_COEFFICIENTS = 80, 24

#: Seconds: of a window, and between windows.
WINDOW, HOP = 0.025, 0.010

#: Level in dB below the reference's loudest frame under which frames are not speech.
RANGE = 40.0

#: Amplitude, about the noise of 16-bit samples.
FLOOR = 1e-5


def cepstral_distortion(clip: Clip) -> float:
    """Mel cepstral distortion (Kubichek, 1993) in dB; 0 for equal envelopes.

    The mean over frames of (10 / ln 10) · sqrt(2 Σ (c_d − ĉ_d)²) over d = 1 … 24. The cepstrum is
    that of a mel spectrogram, so that no vocoder has to find the pitch first:
    c_d = (2 / K) Σ_k ln(max(S_k, 1e-5)) cos(π d (k + ½) / K), with S_k the amplitudes of K = 80
    Slaney channels from 0 to half the sample rate, periodic Hann windows of 25 ms every 10 ms,
    centred. This is the root mean square distance, in dB over the mel scale, of log spectra that
    are smoothed and have lost their mean, the volume.

    Only frames count in which the reference is within 40 dB of its loudest (by the sum of S_k²);
    nothing is warped, as a reconstruction is in time already. Figures with WORLD's or SPTK's
    cepstra, or with time warping, don't compare.

    Raises:
        MetricError: the two can't be compared.
    """
    import torch

    from ...audio.mel import MelSpectrogram

    check_pair(clip)
    rate = clip.sample_rate
    length = round(WINDOW * rate)
    size = 1 << (2 * length - 1).bit_length()
    mel = MelSpectrogram(
        rate, size, length, round(HOP * rate), NUM_MELS, 0.0, rate / 2, torch.float64
    )
    pair = torch.from_numpy(np.stack([clip.reference, clip.estimate]).astype(np.float64))
    reference, estimate = mel(pair).numpy()
    energy = (reference**2).sum(0)
    if not energy.max() > 0:
        raise MetricError("MCD: no frame of the reference has energy")
    speech = energy > energy.max() * 10 ** (-RANGE / 10)
    logs = [np.log(np.maximum(mels[:, speech], FLOOR)) for mels in (reference, estimate)]
    difference = _cosines() @ (logs[0] - logs[1])
    return float(10 / np.log(10) * np.sqrt(2 * (difference**2).sum(0)).mean())


@cache
def _cosines() -> np.ndarray:
    """(coefficients, mels), from log amplitudes to a cepstrum."""
    order = np.arange(1, NUM_COEFFICIENTS + 1)[:, None]
    return 2 / NUM_MELS * np.cos(np.pi * order * (np.arange(NUM_MELS) + 0.5) / NUM_MELS)


MCD = Metric(
    name="mcd",
    heading="MCD",
    compute=cepstral_distortion,
    description="Mel cepstral distortion of frames with speech (24 coefficients, not warped).",
    higher_is_better=False,
    bounds=(0, None),
    unit="dB",
    digits=2,
    sample_rates=(16000,),
    paper="Kubichek, 1993, doi 10.1109/PACRIM.1993.407206",
)
