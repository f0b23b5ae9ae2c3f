"""Units as text: one code point each, of those that no normaliser touches.

Text libraries normalise, split at spaces and treat scripts apart. None of that can happen to code
points of Unicode's two supplementary private use areas: they have no decomposition, no case, no
script and no width, and nobody may give them a meaning.
"""

import numpy as np

_FIRST_A, _FIRST_B = 0xF0000, 0x100000
#: U+F0000 to U+FFFFD, and as many from U+100000; the two last of each plane are no characters.
_PLANE = 65_534

#: How many units there are code points for.
MAX_UNITS = 2 * _PLANE


def text_of(units: np.ndarray) -> str:
    """Units (n,), integers from 0 to `MAX_UNITS` - 1, as n code points."""
    points = units.astype("<u4")
    points += np.where(points < _PLANE, _FIRST_A, _FIRST_B - _PLANE).astype("<u4")
    return points.tobytes().decode("utf-32-le")


def units_in(text: str) -> np.ndarray:
    """The inverse of `text_of`: units (n,) int64.

    Raises:
        ValueError: a character stands for no unit.
    """
    # Lone surrogates, which JSON can spell, are as wrong as any other character.
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.int64)
    units = np.where(points < _FIRST_B, points - _FIRST_A, points - _FIRST_B + _PLANE)
    low = (points >= _FIRST_A) & (points < _FIRST_A + _PLANE)
    high = (points >= _FIRST_B) & (points < _FIRST_B + _PLANE)
    if not (low | high).all():
        wrong = int(points[~(low | high)][0])
        raise ValueError(f"U+{wrong:04X} stands for no unit")
    return units
