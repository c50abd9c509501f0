"""PyTorch: the parent in float32, eager and compiled."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from onebit.bench.peers.peer import Call, Peer


class Eager(Peer):
    """PyTorch as it is, channels last: its fastest layout for convolutions."""

    packages: ClassVar[tuple[str, ...]] = ("torch",)
    onednn: ClassVar[bool] = True

    def __init__(self, parent: nn.Module, samples: Sequence[np.ndarray], folder: str) -> None:
        self.network = copy.deepcopy(parent).to(memory_format=torch.channels_last)

    def sessions(self, threads: int) -> dict[str, Call]:
        return {"float32": run_torch(self.network)}


class Compiled(Eager):
    """torch.compile with frozen weights, which folds the batch norms."""

    def sessions(self, threads: int) -> dict[str, Call]:
        torch.set_num_threads(threads)  # the number is written into the generated code, and part of its cache's key
        options: dict[str, Any] = {"freezing": True, "cpp.threads": threads}
        return {"float32": run_torch(torch.compile(copy.deepcopy(self.network), dynamic=False, options=options))}


def run_torch(network: Callable[..., Any]) -> Call:
    """A call of the network without gradients, which turns its inputs to channels last, float32 (B, C, H, W)."""

    def call(inputs: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(inputs).contiguous(memory_format=torch.channels_last)).numpy()

    return call
