"""Photographs in ImageNet's layout: ROOT/train/<class>/*.jpeg and ROOT/val/<class>/*.jpeg.

Training: random resized crop of 8 % to 100 % of the area, random mirror. Evaluation: the shorter side resized to
size * 256 / 224, the centre cut out. Images are decoded by worker processes; the random numbers of an image depend on
(seed, epoch, image) alone, so they are the same for any number of workers and after a resume.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets
from torchvision.transforms import InterpolationMode, v2

from onebit.data.dataset import IMAGENET_MEAN, IMAGENET_STD, Batch, Data, LoadOptions, Normalization, epoch_seed
from onebit.errors import UserError


class Decoded(Dataset[tuple[Tensor, int]]):
    """The chosen images in the given order, decoded and transformed: (uint8 (3, S, S), label)."""

    def __init__(self, samples: list[tuple[str, int]], order: list[int], transform: v2.Transform, seed: int):
        self.samples, self.order, self.transform, self.seed = samples, order, transform, seed

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        index = self.order[position]
        path, label = self.samples[index]
        try:
            with Image.open(path) as image:
                picture = image.convert("RGB")
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise UserError(f"{path} cannot be decoded ({error}); replace or remove it") from error
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed((self.seed * 1_000_003 + index) % 2**63)
            return self.transform(picture), label


class FolderSet:
    """Images on disk behind the interface of MemorySet."""

    def __init__(self, folder: datasets.ImageFolder, image_size: int, workers: int, normalization: Normalization):
        self.samples = folder.samples
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.workers, self.normalization = min(workers, processors), normalization
        self.device = torch.device("cpu")
        to_tensor = [v2.PILToTensor()]
        resize, size = resize_of(image_size), image_size
        bilinear = InterpolationMode.BILINEAR
        self.training = v2.Compose(
            [v2.RandomResizedCrop(size, interpolation=bilinear), v2.RandomHorizontalFlip(), *to_tensor]
        )
        self.evaluation = v2.Compose([v2.Resize(resize, interpolation=bilinear), v2.CenterCrop(size), *to_tensor])

    def __len__(self) -> int:
        return len(self.samples)

    def to(self, device: torch.device) -> "FolderSet":
        self.device = device
        return self

    def batches(self, order: list[int], transform: v2.Transform, seed: int, batch_size: int) -> Iterator[Batch]:
        loader: DataLoader[Any] = DataLoader(
            Decoded(self.samples, order, transform, seed),
            batch_size,
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
        )
        try:
            for images, labels in loader:
                yield Batch(self.normalization(images.to(self.device)), labels.to(self.device))
        except UserError as error:  # a worker's error carries its traceback; the last line says what the user needs
            raise UserError(str(error).strip().split("\n")[-1].removeprefix("onebit.errors.UserError: ")) from None

    def evaluation_batches(self, batch_size: int) -> Iterator[Batch]:
        return self.batches(list(range(len(self))), self.evaluation, 0, batch_size)

    def training_steps(self, batch_size: int, world: int = 1) -> int:
        return len(self) // (batch_size * world)

    def training_batches(
        self, batch_size: int, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(epoch_seed(seed, epoch))
        order = torch.randperm(len(self), generator=generator)[
            : self.training_steps(batch_size, world) * batch_size * world
        ]
        mine = order.reshape(-1, world, batch_size)[start:, rank].flatten().tolist()  # (steps, world, B) -> own slices
        return self.batches(mine, self.training, epoch_seed(seed, epoch), batch_size)


def resize_of(image_size: int) -> int:
    """Shorter side before the centre crop: 256 for 224, in proportion for other sizes."""
    return round(image_size * 256 / 224)


def imagefolder(root: Path, options: LoadOptions) -> Data:
    parts = {}
    for split in ("train", "val"):
        if not (root / split).is_dir():
            raise UserError(f"imagefolder: {root / split} does not exist; --root names the folder with train/ and val/")
        try:
            parts[split] = datasets.ImageFolder(str(root / split))
        except (FileNotFoundError, OSError) as error:
            raise UserError(f"imagefolder: {root / split}: {str(error).splitlines()[0]}") from error
    if parts["train"].classes != parts["val"].classes:
        different = sorted(set(parts["train"].classes) ^ set(parts["val"].classes))
        raise UserError(f"imagefolder: {root}: train and val differ in the class folder {different[0]!r}")
    normalization = Normalization(IMAGENET_MEAN, IMAGENET_STD)
    train, test = (FolderSet(parts[s], options.image_size, options.workers, normalization) for s in ("train", "val"))
    labels = tuple(parts["train"].classes)
    return Data("imagefolder", train, test, labels, normalization, options.image_size, 3, resize_of(options.image_size))
