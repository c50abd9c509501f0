"""Photographs in ImageNet's layout: ROOT/train/<class>/*.jpeg and ROOT/val/<class>/*.jpeg.

As torchvision reads it: classes in the order of their names, images with their subfolders. Hidden files and folders are no
data.
"""

import os
from pathlib import Path

import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS

from onebit.data.dataset import Data
from onebit.data.loading.class_names import check_names
from onebit.data.loading.photographs import photographs
from onebit.data.options import LoadOptions
from onebit.errors import UserError
from onebit.runtime.folders import walk
from onebit.runtime.pictures import content_of


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
        return content_of(self.name(index))


def imagefolder(root: Path, options: LoadOptions) -> Data:
    splits = {split: classes_of(root / split) for split in ("train", "val")}
    names = splits["train"]
    if different := sorted(set(names) ^ set(splits["val"])):
        raise UserError(f"imagefolder: {root}: train and val differ in the class folder {different[0]!r}")
    check_names(names, f"imagefolder: {root / 'train'}", "rename the folder in train and val")
    train, test = (FolderSamples(root, root / split, images_of(root / split, names)) for split in splits)
    return photographs("imagefolder", train, test, tuple(names), options)


def classes_of(split: Path) -> list[str]:
    """The folders of a split that are not hidden, sorted by name. Raises UserError."""
    if not split.is_dir():
        raise UserError(f"imagefolder: {split} does not exist; --root names the folder with train/ and val/")
    try:
        with os.scandir(split) as entries:
            found = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except OSError as error:
        raise UserError(f"imagefolder: {split} cannot be read: {error.strerror or error}") from error
    if not found:
        raise UserError(f"imagefolder: {split} holds no folders; it must hold one for each class")
    return found


def images_of(split: Path, names: list[str]) -> list[tuple[str, int]]:
    """(path, number of the class) of all images, in torchvision's order. Raises UserError for a class without any."""
    files: list[tuple[str, int]] = []
    for label, name in enumerate(names):
        folder = os.path.join(split, name)
        found = list(walk(folder, IMG_EXTENSIONS))
        if bad := next((item for item in found if item.problem), None):
            raise UserError(f"imagefolder: {bad.path} is no image: {bad.problem}; remove it")
        if not found:
            known = ", ".join(IMG_EXTENSIONS)
            raise UserError(f"imagefolder: {folder} holds no images ({known}); add some, or remove the folder")
        files += [(path, label) for path in sorted((item.path for item in found), key=os.path.split)]
    return files
