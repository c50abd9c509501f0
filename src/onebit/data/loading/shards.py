"""Image sets that come as a few large files (shards): which files, and an order of images that reads them piece by piece."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from onebit.errors import UserError

WINDOW = (
    16  # shards that an epoch draws from at a time; 16 of ImageNet's usual 1000-image shards are 2 GB of page cache
)


def find_shards(name: str, root: Path, splits: tuple[str, ...], suffix: str) -> list[Path]:
    """Files of the first split that exists: ROOT/SPLIT/*, ROOT/SPLIT-*, ROOT/*-SPLIT-*, ROOT/data/SPLIT-*, sorted by name."""
    if not root.is_dir():
        raise UserError(f"{name}: {root} does not exist; --root names the folder with {splits[0]}/*.{suffix}")
    for split in splits:
        for pattern in (f"{split}/*", f"{split}-*", f"*-{split}-*", f"data/{split}-*"):
            found = sorted(root.glob(f"{pattern}.{suffix}"))
            if found := [path for path in found if not path.name.startswith(".")]:  # hidden files are no data
                return found
    raise UserError(
        f"{name}: {root} holds neither {splits[0]}/*.{suffix} nor {splits[0]}-*.{suffix} "
        f"(splits looked for: {', '.join(splits)}); --root names the folder with these files"
    )


def shuffled(shards: list[int], generator: torch.Generator) -> Tensor:
    """A random order of the images of shards with so many images each: int64 (sum of shards,).

    The shards are permuted and dealt into windows of at most WINDOW, and the images of each window are permuted: reads stay
    within a window's files, which the page cache holds, where a permutation of all images would seek through the whole set.
    A set of at most WINDOW shards is permuted whole.
    """
    if len(shards) <= WINDOW:
        return torch.randperm(sum(shards), generator=generator)
    ends = torch.tensor(shards).cumsum(0)
    order = torch.randperm(len(shards), generator=generator)
    windows = np.array_split(order.numpy(), -(-len(shards) // WINDOW))
    parts = []
    for window in windows:
        images = torch.cat([torch.arange(int(ends[s]) - shards[s], int(ends[s])) for s in window.tolist()])
        parts.append(images[torch.randperm(len(images), generator=generator)])
    return torch.cat(parts)


def check_labels(name: str, labels: np.ndarray, classes: int, where: str) -> None:
    """Refuse labels outside 0..classes - 1."""
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise UserError(f"{name}: {where} has the label {wrong[0]}, which is none of the {classes} classes from 0")


def numbers(name: str, *labels: np.ndarray) -> tuple[str, ...]:
    """Names of classes that have none, "0" to the largest label. Refuses labels that cannot be numbers of classes."""
    largest = max(int(part.max()) for part in labels)
    if largest >= 1_000_000:
        raise UserError(f"{name}: the largest label is {largest}; labels are numbers of classes from 0 without gaps")
    return tuple(str(label) for label in range(largest + 1))
