"""What training and evaluation see of a data set: batches of inputs and targets, reproducible from a seed.

A `MemorySet` of fixed-size images lives in memory as uint8 and is augmented in batches, with tensor operations on the
device that trains. All random numbers of an epoch come from (seed, epoch) alone and are drawn before its first batch, so
a run that resumes in the middle of an epoch, or on another number of processes, sees the same images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from onebit.data.inputs import Inputs, Normalization


@dataclass(frozen=True)
class Batch:
    """inputs (B, ...): for images float32 (B, C, H, W), normalised, for words int64 (B, 3, T) (`Words`); targets: B of what the
    task is to answer: for classes int64 (B,), or probabilities float32 (B, classes) after mixing; for objects a tuple of
    `Boxes`; for quantities float32 (B,)."""

    inputs: Tensor
    targets: Any

    def __len__(self) -> int:
        return len(self.inputs)

    def laid_out(self, layout: torch.memory_format) -> "Batch":
        """The same batch, its maps (B, C, H, W) in this memory layout."""
        return Batch(
            self.inputs.contiguous(memory_format=layout) if self.inputs.dim() == 4 else self.inputs, self.targets
        )

    def split(self, parts: int) -> list["Batch"]:
        """`parts` batches of B / parts examples each; B is a multiple of parts."""
        size = len(self) // parts
        cuts = [slice(start, start + size) for start in range(0, len(self), size)]
        return [Batch(self.inputs[cut], self.targets[cut]) for cut in cuts]


class Examples(Protocol):
    """Inputs and targets, in memory or on disk. corrupt: names of the training examples that this process could not decode."""

    @property
    def corrupt(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def to(self, device: torch.device) -> "Examples": ...

    def cut(self, height: int, width: int, resize: int | None) -> "Examples":
        """The same examples, cut in evaluation to another size, as `onebit.runtime.pictures.cut` does; images of a fixed
        size stay as they are."""
        return self

    def some(self, count: int) -> "Examples":
        """`count` of the examples for evaluation, those of `evenly`; all, where there are no more."""
        ...

    def evaluation_batches(self, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Batch]: ...

    def training_steps(self, batch_size: int, world: int = 1) -> int:
        """Batches an epoch; an incomplete last batch is dropped, as the papers do."""
        return len(self) // (batch_size * world)

    def training_batches(
        self, batch_size: int, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]: ...


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of all random numbers of an epoch."""
    return seed * 1_000_003 + epoch


def evenly(total: int, count: int) -> np.ndarray:
    """Indices int64 (min(count, total),) of examples that are spaced evenly: sets sorted by class keep their mixture."""
    count = min(count, total)
    return np.arange(count) * total // max(count, 1)


class MemorySet(Examples):
    """Images in memory: uint8 (N, C, H, W), targets (N, ...), such as labels int64 (N,).

    pad, flip: random crops out of the image padded by `pad` zero pixels, random horizontal flips; for training only.
    """

    corrupt: Sequence[str] = ()

    def __init__(self, images: Tensor, targets: Tensor, normalization: Normalization, pad: int = 0, flip: bool = False):
        self.images = images.permute(0, 2, 3, 1).contiguous()  # (N, H, W, C): one gather crops, flips and lays out
        self.targets = targets
        self.normalization = normalization
        self.pad, self.flip = pad, flip
        self.device = images.device

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> "MemorySet":
        """Move images and targets to the training device, once."""
        self.images, self.targets = self.images.to(device), self.targets.to(device)
        self.device = device
        return self

    def some(self, count: int) -> "MemorySet":
        chosen = torch.from_numpy(evenly(len(self), count)).to(self.device)
        images = self.images[chosen].permute(0, 3, 1, 2)  # (N, C, H, W)
        return MemorySet(images, self.targets[chosen], self.normalization)

    def evaluation_batches(self, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """All images in order, without augmentation; of several ranks, each gets every world-th batch."""
        for start in range(rank * batch_size, len(self), world * batch_size):
            images = self.images[start : start + batch_size].permute(0, 3, 1, 2)
            yield Batch(self.normalization(images), self.targets[start : start + batch_size])

    def training_batches(
        self, batch_size: int, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """The augmented batches of an epoch from step `start`; ranks take neighbouring slices of each global batch."""
        generator = torch.Generator().manual_seed(epoch_seed(seed, epoch))
        order = torch.randperm(len(self), generator=generator)
        shifts = torch.randint(0, 2 * self.pad + 1, (len(self), 2), generator=generator)
        flips = torch.rand(len(self), generator=generator) < (0.5 if self.flip else 0.0)
        order, shifts, flips = (t.to(self.device) for t in (order, shifts, flips))
        for step in range(start, self.training_steps(batch_size, world)):
            first = (step * world + rank) * batch_size
            chosen = slice(first, first + batch_size)
            indices = order[chosen]
            images = self.augment(self.images[indices], shifts[chosen], flips[chosen])
            yield Batch(self.normalization(images), self.targets[indices])

    def augment(self, images: Tensor, shifts: Tensor, flips: Tensor) -> Tensor:
        """Crop at `shifts` (B, 2) of the padded image, mirror where `flips` (B,): (B, H, W, C) -> (B, C, H, W)."""
        height, width = images.shape[1:3]
        if self.pad:
            images = torch.nn.functional.pad(images, (0, 0, self.pad, self.pad, self.pad, self.pad))
        rows = shifts[:, :1] + torch.arange(height, device=images.device)  # (B, H)
        across = torch.arange(width, device=images.device).expand(len(images), width)
        across = torch.where(flips[:, None], width - 1 - across, across)
        columns = shifts[:, 1:] + across  # (B, W)
        batch = torch.arange(len(images), device=images.device)[:, None, None]
        cropped = images[batch, rows[:, :, None], columns[:, None, :]]  # (B, H, W, C)
        return cropped.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Data:
    """A data set ready for use.

    train, test   examples
    inputs        what a network for it must take
    labels        names of the classes, or of whatever the task tells apart
    task          a row of the task table: what a network for it is to answer
    scores        names of that task's scores, the first one first, where the task leaves them to the data set
    """

    name: str
    train: Examples
    test: Examples
    inputs: Inputs
    labels: tuple[str, ...]
    task: str = "classification"
    scores: tuple[str, ...] = ()
