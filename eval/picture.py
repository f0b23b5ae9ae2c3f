"""Plot of a round trip: both spectrograms above the token matrix."""

from pathlib import Path

import numpy as np

from ..filesystem import replacing


def draw_round_trip(
    path: Path,
    original: np.ndarray,
    decoded: np.ndarray,
    codes: np.ndarray,
    sample_rate: int,
    title: str,
) -> None:
    """Draw a PNG.

    Args:
        path: of the PNG.
        original, decoded: (samples,).
        codes: (codebooks, frames).
        sample_rate: Hz.
        title: of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    FigureCanvasAgg(figure)
    above, middle, below = figure.subplots(3, 1, sharex=True)
    figure.suptitle(title)
    seconds = original.shape[0] / sample_rate
    extent = (0, seconds, 0, sample_rate / 2000)
    for axes, wave, name in ((above, original, "original"), (middle, decoded, "decoded")):
        levels = spectrogram(wave)
        axes.imshow(
            levels, origin="lower", aspect="auto", extent=extent, vmin=-90, vmax=0, cmap="magma"
        )
        axes.set_ylabel(f"{name}\nkHz")
    image = below.imshow(
        codes,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, codes.shape[0]),
        interpolation="nearest",
        cmap="viridis",
    )
    below.set_ylabel("tokens\ncodebook")
    below.set_xlabel("seconds")
    figure.colorbar(image, ax=below, label="code", pad=0.01)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)


def spectrogram(wave: np.ndarray, size: int = 512, hop: int = 128) -> np.ndarray:
    """Decibels (bins, frames), 0 for a full-scale sine."""
    padded = np.pad(wave, size // 2)
    padded = np.pad(padded, (0, max(0, size - padded.shape[0])))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    window = np.hanning(size)
    amplitude = np.abs(np.fft.rfft(frames * window)) / (window.sum() / 2)
    return 20 * np.log10(np.maximum(amplitude, 1e-6)).T
