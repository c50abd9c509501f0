"""Sums over the taps of a binary convolution's windows that lie inside the image, which depend on the border, for formats whose
models hold them as constants."""

from __future__ import annotations

import numpy as np

from onebit.runtime.graph import Node
from onebit.runtime.windows import window_size


def sums(node: Node, size: tuple[int, ...], signs: np.ndarray) -> np.ndarray:
    """Σ of the weights of the taps inside an image of this size, exact: (O, I, KH, KW) -> float32 (O, OH, OW)."""
    settings = zip(size, node["kernel"], node["stride"], node["padding"], node["dilation"], strict=True)
    rows, columns = (inside(*of_axis) for of_axis in settings)  # (OH, KH), (OW, KW)
    return rows @ signs.sum(1, dtype=np.float32) @ columns.T


def inside(size: int, kernel: int, stride: int, padding: int, dilation: int) -> np.ndarray:
    """Along one axis, 1 where an output's tap lies inside the image and 0 where it is padding: float32 (outputs, kernel)."""
    outputs = window_size(size, kernel, stride, padding, dilation)
    taps = stride * np.arange(outputs)[:, None] + dilation * np.arange(kernel) - padding
    return ((taps >= 0) & (taps < size)).astype(np.float32)
