"""The bit convention, to the byte."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onebit.errors import UserError
from onebit.runtime import bits


def test_golden_bytes() -> None:
    tiny = np.float32(1e-45)  # subnormal
    x = np.array([1, -1, 0.0, -0.0, tiny, -tiny, np.inf, -np.inf, -2], np.float32)
    #             0   1   0     0    0      1      0       1        1
    assert bits.pack(x).tolist() == [0b10100010, 0b00000001]


def test_bit_order_is_little_endian_words() -> None:
    for i in (0, 1, 7, 8, 31, 63, 64, 100):
        x = np.ones(128, np.float32)
        x[i] = -1
        words = bits.pack(x).view("<u8")
        assert int(words[i // 64]) == 1 << (i % 64)
        assert words.sum() == words[i // 64]


def test_weights_are_dense_taps_first() -> None:
    weight = np.ones((1, 3, 2, 2), np.float32)  # (O, I, KH, KW)
    weight[0, 2, 1, 0] = -1  # bit (1·2 + 0)·3 + 2 = 8
    assert bits.pack_weight(weight).tolist() == [[0, 1]]


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 200)), elements=st.floats(-2, 2, width=32)))
def test_unpack_inverts_pack(x: np.ndarray) -> None:
    packed = bits.pack(x)
    assert packed.shape == (len(x), bits.bytes_for(x.shape[1]))
    assert bits.tail_is_zero(packed, x.shape[1])
    assert np.array_equal(bits.unpack(packed, x.shape[1]), np.where(x >= 0, 1, -1))


@given(st.integers(1, 5), st.integers(1, 20), st.integers(1, 3), st.integers(1, 3))
def test_unpack_inverts_pack_weight(out: int, in_: int, kh: int, kw: int) -> None:
    weight = np.random.default_rng(0).normal(size=(out, in_, kh, kw))
    assert np.array_equal(bits.unpack_weight(bits.pack_weight(weight), in_, (kh, kw)), np.sign(weight))


@given(st.integers(1, 300))
def test_tails_cancel_in_the_dot_product(n: int) -> None:
    a, b = np.random.default_rng(n).normal(size=(2, n))
    mismatches = int(np.unpackbits(bits.pack(a) ^ bits.pack(b)).sum())
    assert n - 2 * mismatches == int(np.sign(a) @ np.sign(b))


def test_tail_bits_are_seen() -> None:
    assert not bits.tail_is_zero(np.array([[0, 0b100]], np.uint8), 10)
    assert bits.tail_is_zero(np.array([[255, 0b11]], np.uint8), 10)


def test_nan_is_refused() -> None:
    with pytest.raises(UserError, match="NaN"):
        bits.pack(np.array([1, np.nan]))


def test_wrong_number_of_bytes_is_refused() -> None:
    with pytest.raises(UserError, match="9 bits take 2 bytes, got 1"):
        bits.unpack(np.zeros((1, 1), np.uint8), 9)
