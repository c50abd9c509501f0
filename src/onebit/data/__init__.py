"""The data table: one set, one file, one line here. A row loads the set from a root folder."""

from pathlib import Path

from onebit.data.cifar import cifar10, cifar100
from onebit.data.dataset import Batch, Data, LoadOptions, MemorySet, Normalization
from onebit.data.digits import digits
from onebit.data.imagefolder import imagefolder
from onebit.errors import UserError

DATA = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "digits": digits,
    "imagefolder": imagefolder,
}


def load(
    name: str, root: str | Path = "data", download: bool = False, *, image_size: int = 224, workers: int = 2
) -> Data:
    """The data set `name` of DATA. Raises UserError for an unknown name, or files that are missing or damaged.

    image_size and workers matter to folders of photographs only.
    """
    if name not in DATA:
        raise UserError(f"data set {name!r} is unknown; choose one of {', '.join(sorted(DATA))}")
    return DATA[name](Path(root), LoadOptions(download, image_size, workers))


__all__ = ["DATA", "Batch", "Data", "LoadOptions", "MemorySet", "Normalization", "load"]
