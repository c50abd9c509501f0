"""What training and evaluation see of a data set: batches of normalised images and labels, reproducible from a seed.

A `MemorySet` of fixed-size images lives in memory as uint8 and is augmented in batches, with tensor operations on the
device that trains. All random numbers of an epoch come from (seed, epoch) alone and are drawn before its first batch, so
a run that resumes in the middle of an epoch, or on another number of processes, sees the same images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Protocol, Self

import torch
from torch import Tensor

from onebit.training.recipe import Recipe

# ImageNet's statistics: RBNN and AdaBin normalise CIFAR with them too.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Batch:
    """images float32 (B, C, H, W), normalised; labels int64 (B,), or probabilities float32 (B, classes) after mixing."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Normalization:
    """x = (pixel / 255 - mean) / std per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (B, C, H, W) -> float32, same shape."""
        mean = torch.tensor(self.mean, device=images.device).reshape(-1, 1, 1)
        std = torch.tensor(self.std, device=images.device).reshape(-1, 1, 1)
        return (images.float() / 255 - mean) / std

    def change_to(self, other: "Normalization") -> tuple[Tensor, Tensor]:
        """scale, shift (C, 1, 1): scale x + shift is normalised as `other` says, for x normalised as this one says."""
        mean, std, mean_o, std_o = (torch.tensor(v) for v in (self.mean, self.std, other.mean, other.std))
        return (std / std_o).reshape(-1, 1, 1), ((mean - mean_o) / std_o).reshape(-1, 1, 1)


@dataclass(frozen=True)
class LoadOptions:
    """What a row of the data table may need: the keys of a recipe that concern data, with their names and defaults there."""

    download: bool = Recipe.download
    image_size: int = Recipe.image_size
    workers: int = Recipe.workers
    crop_scale: float = Recipe.crop_scale
    color_jitter: float = Recipe.color_jitter
    rand_augment: str = Recipe.rand_augment
    lighting: float = Recipe.lighting
    mixup: float = Recipe.mixup
    cutmix: float = Recipe.cutmix
    max_corrupt: int = Recipe.max_corrupt

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        return cls(**{field.name: getattr(recipe, field.name) for field in fields(cls)})


class ImageSet(Protocol):
    """Images and labels, in memory or on disk. corrupt: names of the training images that this process could not decode."""

    @property
    def corrupt(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def to(self, device: torch.device) -> "ImageSet": ...

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


class MemorySet(ImageSet):
    """Images in memory: uint8 (N, C, H, W), labels int64 (N,).

    pad, flip: random crops out of the image padded by `pad` zero pixels, random horizontal flips; for training only.
    """

    corrupt: Sequence[str] = ()

    def __init__(self, images: Tensor, labels: Tensor, normalization: Normalization, pad: int = 0, flip: bool = False):
        self.images = images.permute(0, 2, 3, 1).contiguous()  # (N, H, W, C): one gather crops, flips and lays out
        self.labels = labels
        self.normalization = normalization
        self.pad, self.flip = pad, flip
        self.device = images.device

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "MemorySet":
        """Move images and labels to the training device, once."""
        self.images, self.labels = self.images.to(device), self.labels.to(device)
        self.device = device
        return self

    def evaluation_batches(self, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """All images in order, without augmentation; of several ranks, each gets every world-th batch."""
        for start in range(rank * batch_size, len(self), world * batch_size):
            images = self.images[start : start + batch_size].permute(0, 3, 1, 2)
            yield Batch(self.normalization(images), self.labels[start : start + batch_size])

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
            yield Batch(self.normalization(images), self.labels[indices])

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
    """A data set ready for use: training and test sets, class names, and what a network for it must accept.

    resize: shorter side in pixels before the centre crop of evaluation; None where images have the network's size.
    """

    name: str
    train: ImageSet
    test: ImageSet
    labels: tuple[str, ...]
    normalization: Normalization
    image_size: int
    in_channels: int
    resize: int | None = None
