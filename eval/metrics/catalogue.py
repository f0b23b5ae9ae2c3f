"""Metrics by name: the bundled ones, those of other packages, and those of this process.

Importing this module does not import the packages that metrics need; they are imported at their
first score.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ...catalogue import Catalogue, expand
from ...errors import SyllabaryError
from . import (
    buzz,
    cepstral_distortion,
    contrast,
    dnsmos,
    haze,
    intelligibility,
    lag,
    mel_distance,
    pesq,
    pitch,
    plcmos,
    si_sdr,
    speaker,
    stft_distance,
    tilt,
    words,
)
from .interface import Metric, MetricError

#: Other packages add metrics with entry points of this group: the entry's name is the metric's,
#: and its object is a `Metric`.
ENTRY_POINT_GROUP = "syllabary.metrics"

#: In the order of tables.
BUNDLED = {
    metric.name: metric
    for metric in (
        pesq.PESQ_WB,
        pesq.PESQ_NB,
        intelligibility.STOI,
        intelligibility.ESTOI,
        si_sdr.SI_SDR,
        mel_distance.MEL,
        mel_distance.MULTI_SCALE_MEL,
        stft_distance.STFT,
        cepstral_distortion.MCD,
        pitch.F0_CORRELATION,
        pitch.VOICING,
        pitch.GROSS_PITCH_ERROR,
        buzz.BUZZ,
        contrast.CONTRAST,
        contrast.OWN_CONTRAST,
        haze.HAZE,
        tilt.TILT,
        tilt.MIDDLE,
        speaker.SPEAKER,
        speaker.WAVLM_SPEAKER,
        dnsmos.OVERALL,
        dnsmos.SIGNAL,
        dnsmos.BACKGROUND,
        plcmos.PLCMOS,
        words.DWER,
        words.DCER,
        words.WER,
        words.CER,
        lag.LAG,
    )
}

#: The default metrics of an evaluation: fast ones, one or two of each kind.
DEFAULT = (
    *("pesq-wb", "stoi", "estoi", "si-sdr", "mel", "msmel", "stft", "mcd", "f0-corr", "voicing"),
    *("buzz", "contrast", "haze", "tilt", "speaker", "dnsmos", "dwer", "wer", "lag"),
)

ALIASES = {"pesq": "pesq-wb"}


class UnknownMetricError(SyllabaryError):
    """No metric has this name."""


def _check_name(name: str) -> None:
    if not name or "," in name or name in ("all", "default", "none") or name.split() != [name]:
        raise MetricError(f"{name!r} is no name for a metric")


def _accept(name: str, found: Any) -> Metric:
    if isinstance(found, Metric) and found.name != name:
        raise MetricError(f"it calls itself {found.name!r}")
    _check_name(name)
    return found


METRICS = Catalogue(
    "metric",
    ENTRY_POINT_GROUP,
    BUNDLED,
    kind=Metric,
    accept=_accept,
    broken=MetricError,
    unknown=UnknownMetricError,
)


def names() -> tuple[str, ...]:
    """Return all names: bundled, of other packages, of this process."""
    return METRICS.names()


def find(name: str) -> Metric:
    """Return the metric of a name; `pesq` is short for `pesq-wb`.

    Raises:
        UnknownMetricError: there is none; similar names are suggested.
        MetricError: it is another package's, and can't be loaded.
    """
    return METRICS.find(ALIASES.get(name, name))


def register(metric: Metric) -> None:
    """Add a metric to this process, replacing an added one of the same name.

    Raises:
        MetricError: the name is a bundled metric's, or empty, or has a comma or white space in it.
    """
    _check_name(metric.name)
    if metric.name in BUNDLED or metric.name in ALIASES:
        raise MetricError(f"metric {metric.name}: there is one of that name in syllabary")
    METRICS.add(metric.name, metric)


def parse(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list of metric names, with groups `all` and `default`, or `none`.

    Returns:
        Each name once, in the given order, as in `find`.

    Raises:
        UnknownMetricError: an unknown name, or an empty list.
    """
    if text.strip() == "none":
        return ()
    chosen = expand(text, {"all": names, "default": lambda: DEFAULT})
    if not chosen:
        raise UnknownMetricError(f"no metric named; there are all, default, {', '.join(names())}")
    for name in chosen:
        if name not in ALIASES and name not in METRICS:
            raise METRICS.missing(name, ALIASES)
    return tuple(dict.fromkeys(ALIASES.get(name, name) for name in chosen))


@dataclass(frozen=True)
class Description:
    """The description of a metric, for a table.

    Attributes:
        name: see `Metric`.
        description: with the heading in front.
        range: such as ``1.04 … 4.64``, with its unit.
        better: ``higher``, ``lower`` or empty.
        needs: such as ``reference, text``.
        package: that computes it, with the version that is installed, if any.
        paper: source of the method.
    """

    name: str
    description: str
    range: str
    better: str
    needs: str
    package: str
    paper: str


def describe(chosen: Iterable[str] | None = None) -> list[Description]:
    """Describe metrics.

    Args:
        chosen: names; default: all. The description of one that can't be loaded says so.

    Raises:
        UnknownMetricError: an unknown name.
    """
    rows = []
    for name in names() if chosen is None else chosen:
        try:
            rows.append(_described(find(name)))
        except MetricError as error:
            rows.append(Description(name, str(error), "", "", "", "", ""))
    return rows


def _described(metric: Metric) -> Description:
    low, high = ("" if end is None else f"{end:.4g}" for end in metric.bounds)
    span = f"{low or '−∞'} … {high or '∞'}{' ' * bool(metric.unit)}{metric.unit}"
    better = {True: "higher", False: "lower", None: ""}[metric.higher_is_better]
    package = metric.package or "syllabary"
    try:
        package = f"{package} {version(package)}"
    except PackageNotFoundError:
        package = f"{package} (not installed)"
    description = f"{metric.heading}: {metric.description}"
    needs = ", ".join(metric.needs)
    return Description(metric.name, description, span, better, needs, package, metric.paper)
