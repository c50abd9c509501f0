"""What a peer is: made once, from the parent and some batches of inputs; then a function from inputs to logits for each
precision it has.

Inputs are numpy arrays, float32 (B, C, H, W), for every peer as for our engine, so each pays for its own change of layout.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

if TYPE_CHECKING:  # the names of peers, and the files they made, are used without PyTorch
    from torch import nn

Call = Callable[[np.ndarray], np.ndarray]  # float32 (B, C, H, W) -> float32 (B, classes)
PACKED = "1 bit"  # the precision of the packed network itself
CALIBRATION_INPUTS = 32


class Peer(ABC):
    """An engine with the parent in every precision it has."""

    packages: ClassVar[tuple[str, ...]]  # the first one is the engine
    onednn: ClassVar[bool]  # whether ONEDNN_MAX_CPU_ISA holds for it

    @abstractmethod
    def __init__(self, parent: nn.Module, samples: Sequence[np.ndarray], folder: str) -> None:
        """parent: in eval mode; samples: batches (B, C, H, W) of the shape that is timed, to calibrate int8 with; folder:
        for its files, which stay there as long as it is used."""

    @abstractmethod
    def sessions(self, threads: int) -> dict[str, Call]:
        """Calls on that many threads, by precision: "float32", "int8", PACKED."""


class FilePeer(Peer):
    """A peer that makes files, which other processes can run as well."""

    paths: dict[str, str]  # of the files, by precision

    def add_packed(self, path: str, batch: int, folder: str) -> None:
        """Adds the packed network itself to `paths`, as PACKED, for inputs (batch, C, H, W), if the engine has 1-bit
        operators. Raises UserError for networks that they do not cover."""

    def sessions(self, threads: int) -> dict[str, Call]:
        return {precision: self.open(path, precision, threads) for precision, path in self.paths.items()}

    @staticmethod
    @abstractmethod
    def open(path: str, precision: str, threads: int) -> Call:
        """The call of one of the files on that many threads."""


def calibration_batches(batch: int) -> int:
    """How many batches of this size a peer is made from: CALIBRATION_INPUTS inputs in all, but at least two batches."""
    return max(2, CALIBRATION_INPUTS // batch)
