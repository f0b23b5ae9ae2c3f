"""Metrics by name: the bundled ones, those of other packages, and those of this process.

Importing this module does not import the packages that metrics need; they are imported at their
first score.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version

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

_registered: dict[str, Metric] = {}


class UnknownMetricError(SyllabaryError):
    """No metric has this name."""


def names() -> tuple[str, ...]:
    """Return all names: bundled, of other packages, of this process."""
    return tuple(dict.fromkeys([*BUNDLED, *sorted(_entry_points()), *_registered]))


def find(name: str) -> Metric:
    """Return the metric of a name; `pesq` is short for `pesq-wb`.

    Raises:
        UnknownMetricError: there is none; similar names are suggested.
        MetricError: it is another package's, and can't be loaded.
    """
    name = ALIASES.get(name, name)
    if name in BUNDLED:
        return BUNDLED[name]
    if name in _registered:
        return _registered[name]
    entry = _entry_points().get(name)
    if entry is None:
        close = difflib.get_close_matches(name, [*names(), *ALIASES], 3, 0.5)
        meant = f", did you mean {' or '.join(close)}?" if close else ";"
        raise UnknownMetricError(f"no metric {name!r}{meant} there are {', '.join(names())}")
    return _load(entry)


def register(metric: Metric) -> None:
    """Add a metric to this process, replacing an added one of the same name.

    Raises:
        MetricError: the name is a bundled metric's, or empty, or has a comma or white space in it.
    """
    _check_name(metric.name)
    if metric.name in BUNDLED or metric.name in ALIASES:
        raise MetricError(f"metric {metric.name}: there is one of that name in syllabary")
    _registered[metric.name] = metric


def parse(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list of metric names, with groups `all` and `default`.

    Returns:
        Each name once, in the given order, as in `find`.

    Raises:
        UnknownMetricError: an unknown name, or an empty list.
    """
    chosen: list[str] = []
    known = names()
    for name in filter(None, map(str.strip, text.split(","))):
        if name in ("all", "default"):
            chosen += known if name == "all" else DEFAULT
            continue
        name = ALIASES.get(name, name)
        if name not in known:
            find(name)  # suggests similar names
        chosen.append(name)
    if not chosen:
        raise UnknownMetricError(f"no metric named; there are all, default, {', '.join(known)}")
    return tuple(dict.fromkeys(chosen))


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


@cache
def _entry_points() -> dict[str, EntryPoint]:
    """Return the entry points by name, except those with a bundled metric's name."""
    found = entry_points(group=ENTRY_POINT_GROUP)
    return {entry.name: entry for entry in found if entry.name not in {*BUNDLED, *ALIASES}}


@cache
def _load(entry: EntryPoint) -> Metric:
    source = f"metric {entry.name} of {entry.value}"
    try:
        metric = entry.load()
    except Exception as error:
        raise MetricError(f"{source} can't be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(metric, Metric):
        raise MetricError(f"{source}: expected a Metric, got {type(metric).__name__}")
    if metric.name != entry.name:
        raise MetricError(f"{source} calls itself {metric.name!r}")
    _check_name(metric.name)
    return metric


def _check_name(name: str) -> None:
    if not name or "," in name or name in ("all", "default") or name.split() != [name]:
        raise MetricError(f"{name!r} is no name for a metric")
