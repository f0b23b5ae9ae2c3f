"""How well units stand for phones: purities and mutual information of a joint count.

Measures and names are those of HuBERT (Hsu et al., arXiv 2106.07447, section IV-E). With p(y, z)
the share of frames that have phone y and unit z:

- phone purity = Σ_z p(z) max_y p(y | z): how often the phone is right if each unit is taken for
  its most frequent phone. It grows with the number of units, to 1 with one unit a frame.
- cluster purity = Σ_y p(y) max_z p(z | y): how often the unit is right if each phone is taken for
  its most frequent unit. It falls with the number of units.
- PNMI = I(y; z) / H(y): the share of the uncertainty about the phone that the unit takes away.

With few frames and many units a table looks more orderly than it is, and PNMI comes out too high:
500 units drawn at random on 23,000 frames get 0.14. So figures compare only at the same number of
units and frames. Beside PNMI stands one with the correction of entropies by Miller (1955): it takes
off (cells - phones - units + 1) / (2 × frames) nats, counting those that occur, and leaves 0.07 of
that 0.14, since most cells have no frame at all.

All are over frames. HuBERT's count every frame, silence among them; without silence, which is
frequent and easy, figures are lower and tell more of the phones.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..requirements import MetricError
from .alignment import PHONES


@dataclass(frozen=True)
class Purity:
    """How well units predict phones, each from 0 to 1.

    Attributes:
        phone_purity, cluster_purity, pnmi: see above.
        pnmi_corrected: PNMI minus the expected excess by chance; at least 0.
        num_frames: counted.
        num_phones, num_units: that occur.
    """

    phone_purity: float
    cluster_purity: float
    pnmi: float
    pnmi_corrected: float
    num_frames: int
    num_phones: int
    num_units: int


def joint_count(
    labels: Iterable[np.ndarray],
    units: Iterable[np.ndarray],
    num_units: int,
    num_phones: int = len(PHONES),
) -> np.ndarray:
    """Count the frames of each pair of phone and unit.

    Args:
        labels: for each utterance (frames,) integers below `num_phones`.
        units: for each utterance as many integers below `num_units`.
        num_units: size of the codebook.
        num_phones: number of labels.

    Returns:
        (num_phones, num_units) int64.

    Raises:
        MetricError: lengths differ, or a label or unit is out of range.
    """
    count = np.zeros(num_phones * num_units, np.int64)
    labels, units = list(labels), list(units)
    if len(labels) != len(units):
        raise MetricError(f"{len(labels)} utterances with labels and {len(units)} with units")
    for index, (phones, codes) in enumerate(zip(labels, units, strict=True)):
        if phones.ndim != 1 or phones.shape != codes.shape:
            raise MetricError(
                f"utterance {index}: labels {phones.shape} and units {codes.shape}; expected "
                "(frames,) twice"
            )
        for name, values, size in (("label", phones, num_phones), ("unit", codes, num_units)):
            if values.size and (values.min() < 0 or values.max() >= size):
                raise MetricError(f"utterance {index}: a {name} is out of range: below {size}")
        joint = phones.astype(np.int64) * num_units + codes.astype(np.int64)
        count += np.bincount(joint, minlength=count.size)
    return count.reshape(num_phones, num_units)


def purity(count: np.ndarray, without: Sequence[int] = ()) -> Purity:
    """Phone purity, cluster purity and PNMI.

    Args:
        count: (phones, units), of `joint_count`.
        without: labels to leave out; `(0,)` leaves out silence.

    Raises:
        MetricError: no frames, or fewer than two phones.
    """
    kept = np.delete(count, list(without), axis=0).astype(np.float64)
    total = kept.sum()
    if not total:
        raise MetricError("purity: no frames")
    joint = kept / total
    phones, units = joint.sum(1), joint.sum(0)
    if (phones > 0).sum() < 2:
        raise MetricError("purity: all frames have the same phone")
    there = joint > 0
    information = float(
        (joint[there] * np.log(joint[there] / np.outer(phones, units)[there])).sum()
    )
    spoken = phones[phones > 0]
    uncertainty = float(-(spoken * np.log(spoken)).sum())
    num_units = int((units > 0).sum())
    cells = int(there.sum()) - len(spoken) - num_units + 1
    corrected = information - cells / (2 * total)
    # H(y) has its own correction, or perfect units would get less than 1.
    full = uncertainty + (len(spoken) - 1) / (2 * total)
    return Purity(
        phone_purity=float(joint.max(0).sum()),
        cluster_purity=float(joint.max(1).sum()),
        # Rounding may give -1e-17.
        pnmi=float(np.clip(information / uncertainty, 0, 1)),
        pnmi_corrected=float(np.clip(corrected / full, 0, 1)),
        num_frames=int(total),
        num_phones=len(spoken),
        num_units=num_units,
    )
