"""What computes: the protocol of `native.Engine` and `reference.Reference`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np


class Backend(Protocol):
    """Values go in by the names of inputs: of an image uint8 (B, H, W, C) or normalised float32 (B, C, H, W), of tokens
    int32 (B, T), of floats float32 (B, C, H, W) or (B, C). They come out float32 (B, H, W, C) or (B, C)."""

    @property
    def isa(self) -> str: ...

    @property
    def threads(self) -> int: ...

    def check(self, sizes: Mapping[str, tuple[int, ...]]) -> None:
        """Raises UserError for inputs of sizes, by name (H, W, C), (T, 1, 1) or (C,), that do not fit the network."""
        ...

    def run(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name."""
        ...

    def trace(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every node's output by its name, and "<node>:accumulator" (int32 A·B) of every binary node. (Images of bytes may
        be given; `Model` normalises them first.)"""
        ...
