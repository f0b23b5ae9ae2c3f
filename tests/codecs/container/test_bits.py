import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from syllabary.codecs.container import bits

WIDTHS = st.one_of(
    st.lists(st.integers(1, 31), min_size=1, max_size=5),
    st.sampled_from([[4] * 80, [8] * 3, [16], [4], [4, 4], [16, 8]]),
)


@st.composite
def codes_and_widths(draw):
    widths = draw(WIDTHS)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    highs = 2 ** np.array(widths)
    flat = draw(st.sampled_from(["random", "extreme", "constant"]))
    positions = draw(st.integers(0, 20))
    codes = rng.integers(0, highs, (positions, len(widths)))
    if flat == "extreme":
        codes = np.where(codes % 2, highs - 1, 0)
    if flat == "constant":
        codes[:] = highs // 2
    return codes, widths


@given(codes_and_widths())
def test_packing(case):
    codes, widths = case
    data = bits.pack(codes, widths)
    assert len(data) == bits.packed_size(len(codes), widths) == -(-len(codes) * sum(widths) // 8)
    assert np.array_equal(bits.unpack(data, len(codes), widths), codes)


def test_the_order_of_bits_is_fixed():
    # From docs/token-format.md: changing these bytes changes the format.
    assert bits.pack(np.array([[5, 2], [1, 3]]), [3, 2]) == bytes([0b10110001, 0b11000000])
    assert bits.pack(np.array([[1, 2], [3, 15]]), [4, 4]) == bytes([0x12, 0x3F])
    assert bits.pack(np.array([[258]]), [16]) == bytes([1, 2])
