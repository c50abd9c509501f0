"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in torchvision's layout: ROOT/cifar-10-batches-py, ROOT/cifar-100-python."""

from pathlib import Path

import torch
from torchvision import datasets

from onebit.data.dataset import Data, MemorySet
from onebit.data.inputs import IMAGENET_MEAN, IMAGENET_STD, Images, Normalization
from onebit.data.options import LoadOptions
from onebit.errors import UserError

CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def _load(name: str, source: type[datasets.CIFAR10], root: Path, options: LoadOptions) -> Data:
    folder = root / source.base_folder
    if not options.download and not folder.is_dir():
        raise UserError(
            f"{name}: {folder} does not exist; --root names the folder that contains {source.base_folder}/ "
            "(--download fetches it where there is a network)"
        )
    try:
        train, test = (source(root, train=training, download=options.download) for training in (True, False))
    except (RuntimeError, OSError, EOFError, KeyError) as error:
        if options.download and not folder.is_dir():
            reason = " ".join(str(error).split())
            raise UserError(
                f"{name} cannot be downloaded ({reason}); where there is no network, copy {source.base_folder}/ into {root}"
            ) from error
        raise UserError(f"{name}: the files in {folder} cannot be read ({error}); fetch them again") from error
    normalization = Normalization(IMAGENET_MEAN, IMAGENET_STD)

    def memory(part: datasets.CIFAR10, **augmentation: object) -> MemorySet:
        images = torch.from_numpy(part.data).permute(0, 3, 1, 2)  # (N, 3, 32, 32)
        return MemorySet(images, torch.tensor(part.targets), normalization, **augmentation)  # type: ignore[arg-type]

    inputs = Images(3, 32, normalization)
    return Data(name, memory(train, pad=4, flip=True), memory(test), inputs, tuple(train.classes))


def cifar10(root: Path, options: LoadOptions) -> Data:
    return _load("cifar10", datasets.CIFAR10, root, options)


def cifar100(root: Path, options: LoadOptions) -> Data:
    return _load("cifar100", datasets.CIFAR100, root, options)
