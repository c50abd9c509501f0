"""exp and what is made of it, in float64: the expressions of the format's page, which csrc/kernels/steps/exponentials.inc has too.

    e^x = 2^k·e^r,    k = x·log2(e) rounded to the nearest integer (the even one of two),    r = x − k·ln 2,    |r| ≤ 0.347

e^r − 1 is r times a polynomial of degree 9, of Taylor's coefficients 1/n!: its relative error is below 3e-13.
"""

from __future__ import annotations

import math

import numpy as np

_BOUND = 708.0  # e^±708 and 2^k of it are normal numbers
_LOG2_E = float.fromhex("0x1.71547652b82fep+0")
_LN2 = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")  # their sum; k times the first is exact
_SHIFT = 1.5 * 2.0**52  # added and subtracted it rounds


def _exponential(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(2^k, e^r − 1). Of x below -708 or above 708 those of the bound, of NaN of the lower."""
    x = np.where(x > -_BOUND, x, -_BOUND)
    x = np.where(x < _BOUND, x, _BOUND)
    k = (x * _LOG2_E + _SHIFT) - _SHIFT
    r = (x - k * _LN2[0]) - k * _LN2[1]
    total = np.full_like(r, 1 / math.factorial(10))
    for n in range(9, 0, -1):
        total = total * r + 1 / math.factorial(n)
    return np.ldexp(1.0, k.astype(np.int32)), total * r


def exp(x: np.ndarray) -> np.ndarray:
    """e^x of float64."""
    power, rest = _exponential(x)
    return power * (1.0 + rest)


def expm1(x: np.ndarray) -> np.ndarray:
    """e^x − 1 of float64, which of small x loses no digit."""
    power, rest = _exponential(x)
    return power * rest + (power - 1.0)


def softmax(x: np.ndarray) -> np.ndarray:
    """e^(x − max x) / Σ e^(x − max x) over the last axis, whose sum begins at the first: float32 -> float32."""
    wide = x.astype(np.float64)
    e = exp(wide - wide.max(axis=-1, keepdims=True))
    y: np.ndarray = (e / np.cumsum(e, axis=-1)[..., -1:]).astype(np.float32)
    return y
