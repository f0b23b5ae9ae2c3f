"""Plot of how tokens use their codebooks: frequencies, runs and rates."""

from pathlib import Path

import numpy as np

from ..filesystem import replacing
from .token_use import LONGEST_RUN, TokenUse

# More lines than this can't be told apart: the first codebooks are shown.
_MOST = 8


def draw_token_use(path: Path, use: TokenUse) -> None:
    """Draw a PNG.

    Raises:
        OSError: it can't be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    figure.suptitle(f"{use.spec.tokenizer}: {use.files} files, {use.seconds / 60:.1f} min")
    for number, codebook in enumerate(use.codebooks()[:_MOST], 1):
        shares = codebook.counts / max(1, codebook.counts.sum())
        places = np.arange(1, len(shares) + 1) / codebook.size
        left.plot(100 * places, 100 * shares, label=str(number))
        runs = codebook.runs / max(1, codebook.runs.sum())
        middle.plot(np.arange(1, LONGEST_RUN + 1), 100 * runs, marker=".", label=str(number))
    left.set(xlabel="codes, most frequent first (%)", ylabel="share of tokens (%)", yscale="log")
    left.set_title("use of codes")
    left.legend(title="codebook", fontsize="small")
    middle.set(xlabel=f"frames of a run ({LONGEST_RUN}: or more)", ylabel="share of runs (%)")
    middle.set_title("runs")
    rates = use.rates()
    right.bar(list(rates), [rate / 1000 for rate in rates.values()])
    right.set(ylabel="kbit/s")
    right.set_title("rates")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
