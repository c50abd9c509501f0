"""Photographs in ImageNet's layout: ROOT/train/<class>/*.jpeg and ROOT/val/<class>/*.jpeg."""

import os
from pathlib import Path

import numpy as np
from torchvision import datasets

from onebit.data.dataset import Data
from onebit.data.loading.photographs import photographs
from onebit.data.options import LoadOptions
from onebit.errors import UserError


class FolderSamples:
    """A file for each image; its folder is its class."""

    def __init__(self, root: Path, split: Path, files: list[tuple[str, int]]):
        self.root = root
        self.folder = split
        self.paths = np.array([os.fsencode(os.path.relpath(path, split)) for path, _ in files])  # bytes, fixed width
        self.labels = np.array([label for _, label in files], np.int64)
        self.shards = [len(files)]

    def name(self, index: int) -> str:
        return os.path.join(self.folder, os.fsdecode(self.paths[index]))

    def read(self, index: int) -> bytes:
        with open(self.name(index), "rb") as file:
            return file.read()


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
    train, test = (FolderSamples(root, root / split, parts[split].samples) for split in ("train", "val"))
    return photographs("imagefolder", train, test, tuple(parts["train"].classes), options)
