"""exp and what is made of it, in float64: the expressions of the format's page, which csrc/kernels/steps/exponentials.inc has too.

    e^x = 2^k·e^r,    k = x·log2(e) rounded to the nearest integer (the even one of two),    r = x − k·ln 2,    |r| ≤ 0.347

e^r − 1 is r times a polynomial of degree 9, of Taylor's coefficients 1/n!: its relative error is below 3e-13.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_BOUND = 708.0  # e^±708 and 2^k of it are normal numbers
_LOG2_E = float.fromhex("0x1.71547652b82fep+0")
_LN2 = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")  # their sum; k times the first is exact
_SHIFT = 1.5 * 2.0**52  # added and subtracted it rounds
_FIT = (  # P of `normal`, the highest power first
    0.0630858435943,
    -0.5567954856692,
    1.9822865480879,
    -3.6969152558712,
    3.8225773902430,
    -2.1227180445386,
    0.7125918327996,
    -0.3379492491978,
    -0.0564774342727,
    0.0807075030582,
    0.3751206316725,
    0.9999978343568,
    -1.2655121170707,
)


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


def normal(x: np.ndarray) -> np.ndarray:
    """The integral of the normal distribution up to x, Φ(x) = erfc(−x/√2)/2. With z = |x|/√2 and t = 1/(1 + z/2)

        erfc(z) = t·e^(P(t) − z²),

    the form of erfcc in Press et al., Numerical Recipes (6.2). P, of degree 12, meets ln(erfc(z)/t) + z² at the Chebyshev points
    of 0 < t < 1: the relative error of erfc(z) is below 1e-8 for all z.
    """
    z = np.abs(x) * 0.7071067811865476
    t = 1.0 / (1.0 + 0.5 * z)
    total = np.full_like(t, _FIT[0])
    for coefficient in _FIT[1:]:
        total = total * t + coefficient
    tail = (0.5 * t) * exp(total - z * z)
    return np.where(x < 0, tail, 1.0 - tail)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1/(1 + e^−x)."""
    return 1.0 / (1.0 + exp(-x))


def tanh(x: np.ndarray) -> np.ndarray:
    """(e^2x − 1)/(e^2x + 1)."""
    e = expm1(2.0 * x)
    return e / (e + 2.0)


def silu(x: np.ndarray) -> np.ndarray:
    """x/(1 + e^−x), which is x·sigmoid(x)."""
    return x / (1.0 + exp(-x))


def elu(x: np.ndarray, alpha: np.float32) -> np.ndarray:
    """x where x > 0, else α·(e^x − 1)."""
    return np.where(x > 0, x, np.float64(alpha) * expm1(x))


def gelu(x: np.ndarray) -> np.ndarray:
    """x·Φ(x)."""
    return x * normal(x)


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2, which is x/(1 + e^−u) with twice that argument as u."""
    u = 1.5957691216057308 * (x + 0.044715 * ((x * x) * x))  # 2·√(2/π)
    return x / (1.0 + exp(-u))


def softmax(x: np.ndarray, there: np.ndarray | None = None) -> np.ndarray:
    """e^(x − max x) / Σ e^(x − max x) over the last axis, whose sum begins at the first: float32 -> float32.

    there    bool, of a shape that fits x: where it is false, x counts for nothing and gives 0
    """
    wide = x.astype(np.float64)
    seen: Any = True if there is None else there
    largest = np.where(seen, wide, -np.inf).max(axis=-1, keepdims=True)
    e = np.where(seen, exp(np.where(seen, wide - largest, 0.0)), 0.0)
    total = np.cumsum(e, axis=-1)[..., -1:]
    total = np.where(total > 0, total, 1.0)  # where nothing is there
    y: np.ndarray = (e / total).astype(np.float32)
    return y
