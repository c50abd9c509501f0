"""The data table: one set, one file, one line here. A row loads the set from a root folder."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from onebit.data.options import LoadOptions
from onebit.errors import UserError
from onebit.tables import Table

if TYPE_CHECKING:
    from onebit.data.dataset import Data

DATA: "Table[Callable[[Path, LoadOptions], Data]]" = Table(
    "data set",
    {
        "cifar10": "onebit.data.cifar:cifar10",
        "cifar100": "onebit.data.cifar:cifar100",
        "coco": "onebit.data.coco:coco",
        "coco2014": "onebit.data.coco:coco2014",
        "coco2017": "onebit.data.coco:coco2017",
        "digits": "onebit.data.digits:digits",
        "glue": "onebit.data.glue:glue",
        "imagefolder": "onebit.data.imagefolder:imagefolder",
        "parquet": "onebit.data.parquet:parquet",
        "voc": "onebit.data.voc:voc",
        "voc0712": "onebit.data.voc:voc0712",
        "voc2007": "onebit.data.voc:voc2007",
        "voc2012": "onebit.data.voc:voc2012",
        "webdataset": "onebit.data.webdataset:webdataset",
    },
)

# Keys that only some sets read
PHOTOGRAPHS = ("crop_scale", "color_jitter", "rand_augment", "lighting")
OBJECTS = ("photometric", "zoom_out", "iou_crop", "mirror", "vertical_flip")
TEXTS = ("glue", "length", "vocabulary", "replace_words")


def load(name: str, root: str | Path = "data", options: LoadOptions | None = None) -> "Data":
    """The data set `name` of DATA, its training examples mixed where options say so.

    Raises UserError for an unknown name, files that are missing or damaged, and augmentation that the set does not have.
    """
    options = options or LoadOptions()
    data = DATA[name](Path(root), options)
    defaults = LoadOptions()
    for key, what in unread(data.task, data.inputs.resize).items():
        if (value := getattr(options, key)) != getattr(defaults, key):
            raise UserError(f"{key} = {value!r} is for {what}, not for {name}; leave it out")
    if options.mixup or options.cutmix:
        from onebit.data.loading.mixing import MixedSet

        if data.task != "classification":
            raise UserError(f"mixup and cutmix are for classes, not for the task {data.task} of {name}; leave them out")
        data = dataclasses.replace(data, train=MixedSet(data.train, len(data.labels), options.mixup, options.cutmix))
    return data


def unread(task: str, resize: int | None) -> dict[str, str]:
    """The keys that a set for `task`, whose pictures are cut after `resize` (`Images`), does not read, and what they are for."""
    photographs = {} if resize is not None else dict.fromkeys(PHOTOGRAPHS, "photographs")
    objects = {} if task == "detection" else dict.fromkeys(OBJECTS, "pictures with boxes")
    return photographs | objects | ({"image_size": "images"} if task == "text" else dict.fromkeys(TEXTS, "texts"))


__all__ = ["DATA", "LoadOptions", "load", "unread"]
