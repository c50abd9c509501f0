"""The bit convention, defined here for Python and in csrc/base/bits.h for C++.

sign(x) = +1 if x >= 0 else −1, so sign(+0) = sign(−0) = +1; NaN has no sign and is refused
bit     = 1 for −1, 0 for +1
order   = bit i of a vector is bit (i mod 8) of byte (i div 8); equally bit (i mod 64) of little-endian word (i div 64)
tail    = bits past the end are 0 in both operands, so they cancel in a xor b

Σ_i a_i·b_i = n − 2·popcount(a xor b)
"""

from __future__ import annotations

import numpy as np

from onebit.errors import UserError


def bytes_for(n: int) -> int:
    """Bytes that hold n bits."""
    return (n + 7) // 8


def pack(x: np.ndarray) -> np.ndarray:
    """Signs of the last axis as bits: numbers (..., n) -> uint8 (..., ceil(n/8)). Raises UserError on NaN."""
    x = np.asarray(x)
    if np.isnan(x).any():
        raise UserError("cannot pack NaN into a bit; find the layer that produced it and train again")
    return np.packbits(x < 0, axis=-1, bitorder="little")


def unpack(bits: np.ndarray, n: int) -> np.ndarray:
    """Inverse of `pack`: uint8 (..., ceil(n/8)) -> int8 (..., n) of −1 and +1."""
    if bits.shape[-1] != bytes_for(n):
        raise UserError(f"{n} bits take {bytes_for(n)} bytes, got {bits.shape[-1]}")
    ones = np.unpackbits(bits, axis=-1, count=n, bitorder="little")
    return (1 - 2 * ones.astype(np.int8)).astype(np.int8)


def pack_weight(weight: np.ndarray) -> np.ndarray:
    """Convolution weights as the file stores them: (O, I/g, KH, KW) -> uint8 (O, ceil(KH·KW·(I/g)/8)).

    Bit (kh·KW + kw)·(I/g) + c of row o is the sign of weight[o, c, kh, kw].
    """
    taps_first = np.ascontiguousarray(np.transpose(weight, (0, 2, 3, 1)))  # (O, KH, KW, I/g)
    return pack(taps_first.reshape(len(weight), -1))  # (O, bytes)


def unpack_weight(bits: np.ndarray, group_channels: int, kernel: tuple[int, int]) -> np.ndarray:
    """Inverse of `pack_weight`: uint8 (O, bytes) -> int8 (O, I/g, KH, KW) of −1 and +1."""
    kh, kw = kernel
    signs = unpack(bits, kh * kw * group_channels)  # (O, KH·KW·I/g)
    return np.transpose(signs.reshape(len(bits), kh, kw, group_channels), (0, 3, 1, 2))  # (O, I/g, KH, KW)


def tail_is_zero(bits: np.ndarray, n: int) -> bool:
    """Whether the bits past bit n − 1 of each row are 0."""
    used = n % 8
    return used == 0 or not np.any(bits[..., -1] >> used)
