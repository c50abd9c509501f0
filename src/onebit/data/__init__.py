"""The data table: one set, one file, one line here. A row loads the set from a root folder."""

from pathlib import Path

from onebit.data.cifar import cifar10, cifar100
from onebit.data.dataset import Batch, Data, MemorySet, Normalization
from onebit.data.digits import digits
from onebit.errors import UserError

DATA = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "digits": digits,
}


def load(name: str, root: str | Path = "data", download: bool = False) -> Data:
    """The data set `name` of DATA. Raises UserError for an unknown name, or files that are missing or damaged."""
    if name not in DATA:
        raise UserError(f"data set {name!r} is unknown; choose one of {', '.join(sorted(DATA))}")
    return DATA[name](Path(root), download)


__all__ = ["DATA", "Batch", "Data", "MemorySet", "Normalization", "load"]
