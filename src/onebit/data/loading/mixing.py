"""Mixup (Zhang et al., ICLR 2018) and CutMix (Yun et al., ICCV 2019) of training batches, by timm.

A batch is mixed with its own reverse, image i with image B - 1 - i, both labels in the same share lambda ~ Beta(alpha, alpha):
mixup adds the images, x = lambda x_i + (1 - lambda) x_j; CutMix pastes a rectangle of x_j into x_i and lambda is the share
of x_i's pixels that are left. With both switched on, each batch is one or the other, at even odds.
"""

from collections.abc import Iterator, Sequence

import torch
from timm.data import Mixup

from onebit.data.dataset import Batch, Examples, epoch_seed
from onebit.data.loading.seeding import seeded
from onebit.errors import UserError


class MixedSet(Examples):
    """A set whose training batches are mixed; their targets are probabilities, float32 (B, classes), rows sum to 1.

    Labels are not smoothed here: cross-entropy smooths probabilities too, (1 - e) y + e / classes, and once is enough.
    Random numbers come from (seed, epoch, step, rank) alone.

    Args:
        images: the set to mix
        classes: number of classes
        mixup: alpha of mixup; 0 means none
        cutmix: alpha of CutMix; 0 means none
    """

    def __init__(self, images: Examples, classes: int, mixup: float, cutmix: float):
        self.images = images
        self.mix = Mixup(mixup, cutmix, label_smoothing=0.0, num_classes=classes)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def corrupt(self) -> Sequence[str]:
        return self.images.corrupt

    def to(self, device: torch.device) -> "MixedSet":
        self.images = self.images.to(device)
        return self

    def some(self, count: int) -> Examples:
        return self.images.some(count)

    def evaluation_batches(self, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        return self.images.evaluation_batches(batch_size, rank, world)

    def training_batches(
        self, batch_size: int, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """Raises UserError for a batch whose images do not pair up."""
        if batch_size % 2:
            raise UserError(f"mixup and cutmix pair the images of a batch: {batch_size} images per device must be even")
        batches = self.images.training_batches(batch_size, seed, epoch, start, rank, world)
        for step, batch in enumerate(batches, start):
            with seeded(epoch_seed(seed, epoch), step * world + rank):
                mixed = Batch(*self.mix(batch.inputs, batch.targets))
            yield mixed
