"""What becomes of a decoded photograph and of what is known of it: pixels for the network, and the target of its task."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from PIL import Image
from torch import Tensor

from onebit.data.loading.augmentation import cut_to, evaluation_transform, lighting_shift, training_transform
from onebit.data.options import LoadOptions

Cut = tuple[int, int, int | None]  # height, width and `resize` of `onebit.runtime.pictures.cut`


class Prepared(NamedTuple):
    """pixels uint8 (3, H, W), the target, and what is added to the pixels once they are in [0, 1]: float32 (3,), if anything."""

    pixels: Tensor
    target: Any
    shift: Tensor | None = None


class Preparation(Protocol):
    """Made in the training process, at work in processes of its own: what it holds is copied."""

    def training(self, picture: Image.Image, known: Any, index: int) -> Prepared:
        """An image augmented with random numbers of PyTorch's, numpy's and Python's generators. index: of the image in its set"""
        ...

    def evaluation(self, picture: Image.Image, known: Any, index: int) -> Prepared: ...

    def join(self, targets: Sequence[Any]) -> Any:
        """B targets as a few tensors, on their way out of a worker process."""
        ...

    def targets(self, joined: Any, device: torch.device) -> Any:
        """`Batch.targets` of what was joined."""
        ...


class ClassPreparation:
    """Photographs of which a class is known: the target is its number, int64 (B,).

    Args:
        options: image size, augmentation
        cut: of evaluation, if it does not follow from the image size
    """

    def __init__(self, options: LoadOptions, cut: Cut | None = None):
        self.lighting = options.lighting
        self.augment = training_transform(options)
        self.cut = cut_to(*cut) if cut else evaluation_transform(options.image_size)

    def training(self, picture: Image.Image, known: int, index: int) -> Prepared:
        pixels = self.augment(picture)
        return Prepared(pixels, known, lighting_shift(self.lighting) if self.lighting else None)

    def evaluation(self, picture: Image.Image, known: int, index: int) -> Prepared:
        return Prepared(self.cut(picture), known)

    def join(self, targets: Sequence[int]) -> Tensor:
        return torch.tensor(targets, dtype=torch.int64)

    def targets(self, joined: Tensor, device: torch.device) -> Tensor:
        return joined.to(device, non_blocking=True)
