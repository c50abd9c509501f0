"""Photographs in ImageNet's layout: ROOT/train/<class>/*.jpeg and ROOT/val/<class>/*.jpeg. Without val/, of ROOT/train or else
ROOT itself a share of each class (`val_split`, drawn by `split_seed`) is kept for the test.

As torchvision reads it: classes in the order of their names, images with their subfolders. Hidden files and folders are no
data.
"""

import os
from pathlib import Path

import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS

from onebit.data.dataset import Data
from onebit.data.loading.class_names import check_names
from onebit.data.loading.photographs import Labelled, photographs
from onebit.data.options import VAL_SPLIT, LoadOptions
from onebit.errors import UserError
from onebit.runtime.contents import content_of
from onebit.runtime.folders import walk


class FolderSamples(Labelled):
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
    train, val = root / "train", root / "val"
    if not val.exists():
        return split_folder(root, train if train.is_dir() else root, options)
    if options.val_split is not None:
        raise UserError(
            f"imagefolder: val_split = {options.val_split}, but {val} is there; leave val_split out, or rename that folder"
        )
    splits = {split: classes_of(root / split) for split in ("train", "val")}
    names = splits["train"]
    if different := sorted(set(names) ^ set(splits["val"])):
        raise UserError(f"imagefolder: {root}: train and val differ in the class folder {different[0]!r}")
    check_names(names, f"imagefolder: {train}", "rename the folder in train and val")
    training, test = (FolderSamples(root, root / split, images_of(root / split, names)) for split in splits)
    return photographs("imagefolder", training, test, tuple(names), options)


def split_folder(root: Path, folder: Path, options: LoadOptions) -> Data:
    """The data of class folders without a test set: of each class a share is kept for one."""
    names = classes_of(folder)
    check_names(names, f"imagefolder: {folder}", "rename the folder")
    files = images_of(folder, names)
    share = VAL_SPLIT if options.val_split is None else options.val_split
    labels = np.array([label for _, label in files])
    kept = held_out(labels, share, options.split_seed)
    counts = np.bincount(labels, minlength=len(names))
    if (counts < 2).any():
        raise UserError(
            f"imagefolder: {folder / names[int(counts.argmin())]} holds 1 image; without val/ a class needs 2 or more, to train "
            "on and to test on"
        )
    training, test = (
        FolderSamples(root, folder, [file for file, chosen in zip(files, kept) if chosen == part])
        for part in (False, True)
    )
    return photographs("imagefolder", training, test, tuple(names), options)


def held_out(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which examples are kept for the test, bool (N,): of each class of n max(1, round(share n)), at most n - 1, by the seed."""
    kept = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(share * len(members))), len(members) - 1)
        # a generator of its own for each class: another class's images change nothing
        kept[np.random.default_rng([seed, int(label)]).permutation(members)[:count]] = True
    return kept


def classes_of(split: Path) -> list[str]:
    """The folders of a split that are not hidden, sorted by name. Raises UserError."""
    if not split.is_dir():
        raise UserError(
            f"imagefolder: {split} does not exist; --root names the folder with train/ and val/, or with a folder for each class"
        )
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
