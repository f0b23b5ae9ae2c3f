"""Represent units as text: one code point each, which no text normalization changes.

Text libraries normalize, split at spaces and treat scripts differently. None of that affects code
points of Unicode's two supplementary private use areas: they have no decomposition, case, script or
width, and no assigned meaning.
"""

import numpy as np

_FIRST_A, _FIRST_B = 0xF0000, 0x100000
#: U+F0000 to U+FFFFD, and as many from U+100000; each plane's last two code points are no
#: characters.
_PLANE = 65_534

#: Number of units that can be represented.
MAX_UNITS = 2 * _PLANE


def text_of(units: np.ndarray) -> str:
    """Convert units (n,), integers from 0 to `MAX_UNITS` - 1, to a text of n code points."""
    points = units.astype("<u4")
    points += np.where(points < _PLANE, _FIRST_A, _FIRST_B - _PLANE).astype("<u4")
    return points.tobytes().decode("utf-32-le")


def units_in(text: str) -> np.ndarray:
    """Convert a text from `text_of` back to units (n,) int64.

    Raises:
        ValueError: a character is not a unit.
    """
    # "surrogatepass", so that lone surrogates, possible in JSON, are reported like other
    # characters.
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.int64)
    units = np.where(points < _FIRST_B, points - _FIRST_A, points - _FIRST_B + _PLANE)
    low = (points >= _FIRST_A) & (points < _FIRST_A + _PLANE)
    high = (points >= _FIRST_B) & (points < _FIRST_B + _PLANE)
    if not (low | high).all():
        wrong = int(points[~(low | high)][0])
        raise ValueError(f"U+{wrong:04X} stands for no unit")
    return units
