"""Photographs in WebDataset's layout: uncompressed tar files, in which KEY.jpg, .jpeg or .png and KEY.cls belong together.

ROOT/train/*.tar or ROOT/train-*.tar, and likewise for val, validation or test. KEY.cls holds the number of the class, as
text; other members are left alone. KEY ends at the first dot of a member's own name, as WebDataset has it; images and
classes that would be lost by that, as photo.v1.jpg and photo.v1.cls, are refused by name. The names of the classes are the lines of ROOT/classes.txt, if there is such a file, else
the numbers.

The headers of the tar files are read once, at the start; then any image can be read by itself, so that order, resume and
the share of each process are exact, as they are not in a stream.
"""

from pathlib import Path

import numpy as np

from onebit.data.dataset import Data
from onebit.data.loading.class_names import read_names
from onebit.data.loading.photographs import Labelled, photographs
from onebit.data.loading.shards import check_labels, find_shards, numbers
from onebit.data.loading.tar_index import index
from onebit.data.options import LoadOptions
from onebit.errors import UserError


class TarSamples(Labelled):
    """Images in tar files, by their places."""

    def __init__(self, root: Path, paths: list[Path]):
        self.root = root
        self.paths = paths
        found = index(paths)
        if not len(found.labels):
            raise UserError(f"webdataset: {paths[0]} and the {len(paths) - 1} files beside it hold no images")
        self.shards: list[int] = found.shards.tolist()
        self.ends = np.cumsum(found.shards)
        self.keys, self.places, self.labels = found.keys, found.places, found.labels

    def path(self, number: int) -> Path:
        return self.paths[int(np.searchsorted(self.ends, number, side="right"))]

    def name(self, number: int) -> str:
        return f"{self.path(number)}: {self.keys[number].decode(errors='replace')}"

    def read(self, number: int) -> bytes:
        offset, size = map(int, self.places[number])
        with open(self.path(number), "rb", buffering=0) as file:
            file.seek(offset)
            content = file.read(size)
        if len(content) < size:
            raise OSError(f"the file ends before byte {offset + size}")
        return content


def webdataset(root: Path, options: LoadOptions) -> Data:
    train, test = (
        TarSamples(root, find_shards("webdataset", root, splits, "tar"))
        for splits in (("train",), ("val", "validation", "test"))
    )
    names = root / "classes.txt"
    labels = read_names(names) if names.is_file() else numbers("webdataset", train.labels, test.labels)
    for samples in (train, test):
        check_labels("webdataset", samples.labels, len(labels), str(samples.paths[0].parent))
    return photographs("webdataset", train, test, labels, options)
