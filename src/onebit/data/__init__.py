"""The data table: one set, one file, one line here. A row loads the set from a root folder."""

import dataclasses
from pathlib import Path

from onebit.data.cifar import cifar10, cifar100
from onebit.data.dataset import Batch, Data, LoadOptions, MemorySet, Normalization
from onebit.data.digits import digits
from onebit.data.imagefolder import imagefolder
from onebit.data.loading.mixing import MixedSet
from onebit.data.parquet import parquet
from onebit.data.webdataset import webdataset
from onebit.errors import UserError

DATA = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "digits": digits,
    "imagefolder": imagefolder,
    "parquet": parquet,
    "webdataset": webdataset,
}


def load(name: str, root: str | Path = "data", options: LoadOptions | None = None) -> Data:
    """The data set `name` of DATA, its training images mixed where options say so.

    Raises UserError for an unknown name, files that are missing or damaged, and augmentation that the set does not have.
    """
    options = options or LoadOptions()
    if name not in DATA:
        raise UserError(f"data set {name!r} is unknown; choose one of {', '.join(sorted(DATA))}")
    data = DATA[name](Path(root), options)
    if data.resize is None:
        for key in ("color_jitter", "rand_augment", "lighting"):
            if value := getattr(options, key):
                raise UserError(f"{key} = {value!r} is for photographs, not for {name}; leave it out")
    if options.mixup or options.cutmix:
        mixed = MixedSet(data.train, len(data.labels), options.mixup, options.cutmix)
        data = dataclasses.replace(data, train=mixed)
    return data


__all__ = ["DATA", "Batch", "Data", "LoadOptions", "MemorySet", "Normalization", "load"]
