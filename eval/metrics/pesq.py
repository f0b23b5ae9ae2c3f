"""PESQ: perceptual evaluation of speech quality."""

from dataclasses import replace

from .interface import Clip, Metric, MetricError
from .requirements import check_pair, package

#: Seconds. P.862 was validated on clips of 8 to 30 s; sentences may be slightly longer. With more
#: than 50 pauses, the package writes outside its arrays and crashes the process.
LONGEST = 40.0


def pesq_wb(clip: Clip) -> float:
    """Wide-band PESQ (ITU-T P.862.2), MOS-LQO from 1 to 4.64, by the `pesq` package.

    Raises:
        MetricError: another rate than 16000 Hz, less than 0.25 s or more than 40 s, no speech in
            one of the signals, or no `pesq` package.
    """
    return _pesq(clip, "wb", (16000,))


def pesq_nb(clip: Clip) -> float:
    """Narrow-band PESQ (P.862 with P.862.1's mapping), MOS-LQO from 1 to 4.55.

    It uses the telephone band, 300 to 3400 Hz, at any sample rate.

    Raises:
        MetricError: as `pesq_wb`; 8000 Hz is allowed too.
    """
    return _pesq(clip, "nb", (16000, 8000))


def _pesq(clip: Clip, mode: str, rates: tuple[int, ...]) -> float:
    check_pair(clip)
    if clip.sample_rate not in rates:
        expected = " or ".join(map(str, rates))
        raise MetricError(f"PESQ-{mode} needs {expected} Hz, got {clip.sample_rate}")
    seconds = clip.reference.size / clip.sample_rate
    if seconds > LONGEST:
        raise MetricError(f"PESQ: {seconds:.1f} s; expected a sentence of at most {LONGEST:g} s")
    module = package("pesq")
    try:
        return float(module.pesq(clip.sample_rate, clip.reference, clip.estimate, mode))
    except (module.PesqError, ValueError) as error:
        reason = error.args[0] if error.args else type(error).__name__
        reason = reason.decode() if isinstance(reason, bytes) else reason
        raise MetricError(f"PESQ: {' '.join(str(reason).split())}") from None


PESQ_WB = Metric(
    name="pesq-wb",
    heading="PESQ-wb",
    compute=pesq_wb,
    description="Quality that a model of hearing predicts (MOS-LQO), up to 8 kHz.",
    higher_is_better=True,
    bounds=(0.999, 4.644),
    sample_rates=(16000,),
    paper="ITU-T P.862.2",
    package="pesq",
)

PESQ_NB = replace(
    PESQ_WB,
    name="pesq-nb",
    heading="PESQ-nb",
    compute=pesq_nb,
    description="Quality that a model of hearing predicts (MOS-LQO), in the telephone band.",
    bounds=(0.999, 4.549),
    sample_rates=(16000, 8000),
    paper="ITU-T P.862, P.862.1",
)
