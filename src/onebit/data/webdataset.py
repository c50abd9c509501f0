"""Photographs in WebDataset's layout: uncompressed tar files, in which KEY.jpg, .jpeg or .png and KEY.cls belong together.

ROOT/train/*.tar or ROOT/train-*.tar, and likewise for val, validation or test. KEY.cls holds the number of the class, as
text; other members are left alone. The names of the classes are the lines of ROOT/classes.txt, if there is such a file, else
the numbers.

The headers of the tar files are read once, at the start; then any image can be read by itself, so that order, resume and
the share of each process are exact, as they are not in a stream.
"""

import tarfile
from pathlib import Path

import numpy as np

from onebit.data.dataset import Data, LoadOptions
from onebit.data.photographs import photographs
from onebit.data.shards import check_labels, find_shards
from onebit.errors import UserError

SUFFIXES = ("jpg", "jpeg", "png")
BLOCK = 512  # bytes of a tar header


class Index:
    """Where the images of a tar file are: keys, offsets and sizes in bytes, labels."""

    def __init__(self, path: Path):
        self.path = path
        images: dict[str, tuple[int, int]] = {}
        labels: dict[str, int] = {}
        try:
            with tarfile.open(path, "r:") as tar:
                while (member := tar.next()) is not None:
                    folder, slash, name = member.name.rpartition("/")
                    stem, _, suffix = name.partition(".")
                    key, suffix = folder + slash + stem, suffix.lower()
                    if not member.isreg() or suffix not in (*SUFFIXES, "cls"):
                        continue
                    if key in (labels if suffix == "cls" else images):
                        raise UserError(f"webdataset: {path} holds {key}.{suffix} twice; write the file again")
                    if suffix == "cls":
                        file = tar.extractfile(member)
                        assert file is not None  # a regular member
                        labels[key] = self.label(file.read(64), member.name)
                    else:
                        images[key] = (member.offset_data, member.size)
                end = tar.offset
            with open(path, "rb") as plain:
                plain.seek(end)
                if plain.read(BLOCK) != bytes(BLOCK):  # tarfile takes a damaged header for the end
                    raise tarfile.ReadError(f"damaged or truncated at byte {end}")
        except tarfile.TarError as error:
            raise UserError(
                f"webdataset: {path} is not a whole, uncompressed tar file ({error}); fetch it again"
            ) from error
        except OSError as error:
            raise UserError(f"webdataset: {path} cannot be read: {error.strerror or error}") from error
        for one, other, what in ((images, labels, "cls"), (labels, images, "jpg, .jpeg or .png")):
            if lonely := next((key for key in one if key not in other), None):
                raise UserError(f"webdataset: {path} has no {lonely}.{what}; every image needs its class")
        self.keys = np.array([key.encode(errors="surrogateescape") for key in images], dtype=bytes)
        self.places = np.array(list(images.values()), np.int64).reshape(-1, 2)  # offset, size
        self.labels = np.array([labels[key] for key in images], np.int64)

    def label(self, content: bytes, member: str) -> int:
        try:
            return int(content)
        except ValueError:
            raise UserError(f"webdataset: {self.path}: {member} holds {content!r}, not the number of a class") from None


class TarSamples:
    """Images in tar files, by their places."""

    def __init__(self, root: Path, paths: list[Path]):
        self.root = root
        self.paths = paths
        indices = [Index(path) for path in paths]
        self.shards = [len(index.labels) for index in indices]
        if not sum(self.shards):
            raise UserError(f"webdataset: {paths[0]} and the {len(paths)} files of its split hold no images")
        self.ends = np.cumsum(self.shards)
        self.keys = np.concatenate([index.keys for index in indices if len(index.keys)])
        self.places = np.concatenate([index.places for index in indices])
        self.labels = np.concatenate([index.labels for index in indices])

    def path(self, index: int) -> Path:
        return self.paths[int(np.searchsorted(self.ends, index, side="right"))]

    def name(self, index: int) -> str:
        return f"{self.path(index)}: {self.keys[index].decode(errors='replace')}"

    def read(self, index: int) -> bytes:
        offset, size = map(int, self.places[index])
        with open(self.path(index), "rb", buffering=0) as file:
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
    if names.is_file():
        labels = tuple(line.strip() for line in names.read_text(encoding="utf-8").splitlines() if line.strip())
    else:
        labels = tuple(str(label) for label in range(max(train.labels.max(), test.labels.max()) + 1))
    for samples in (train, test):
        check_labels("webdataset", samples.labels, len(labels), str(samples.paths[0].parent))
    return photographs("webdataset", train, test, labels, options)
