"""The keys of a recipe that concern data: which set, from where, and what happens to its examples on their way in."""

from dataclasses import dataclass
from typing import Literal

from onebit.options import FRACTION, NATURAL, POSITIVE, SHARE, Bounds, Options, key

VAL_SPLIT = 0.1
OPEN = Bounds(lambda v: 0 < v < 1, "in (0, 1)")


@dataclass
class LoadOptions(Options):
    """What a row of the data table may need."""

    download: bool = key(False, "fetch the data set where there is a network", free=True)
    image_size: int = key(
        224, "side of the square network input in pixels; sets of a fixed size have their own", POSITIVE
    )
    workers: int = key(2, "processes that decode images of folder data sets", NATURAL, free=True)
    crop_scale: float = key(0.08, "smallest share of a photograph's area that random crops keep", SHARE)
    color_jitter: float = key(
        0.0, "strength of random brightness, contrast and saturation of photographs; 0 means none", NATURAL
    )
    rand_augment: str = key("", "timm's RandAugment of photographs, such as rand-m9-mstd0.5; empty means none")
    lighting: float = key(
        0.0, "standard deviation of AlexNet's PCA lighting noise on photographs; 0 means none", NATURAL
    )
    photometric: float = key(
        1.0,
        "strength of SSD's random colours of pictures with boxes; 0 means none, 1 as SSD, less leaves the order of channels",
        Bounds(lambda v: 0 <= v <= 2, "in [0, 2]"),
    )
    zoom_out: float = key(
        4.0,
        "largest side of the canvas that pictures with boxes are placed on, in sides of the picture; 1 means none",
        Bounds(lambda v: v >= 1, "at least 1"),
    )
    iou_crop: bool = key(True, "crop pictures with boxes at random, as SSD")
    mirror: bool = key(True, "mirror every other picture with boxes")
    vertical_flip: bool = key(
        False,
        "turn every other picture with boxes upside down: for those without an up and a down, from above or a microscope",
    )
    mixup: float = key(0.0, "alpha of mixup; 0 means none", NATURAL)
    cutmix: float = key(0.0, "alpha of cutmix; 0 means none", NATURAL)
    val_split: float | None = key(
        None,
        f"share of each class that is kept for the test where imagefolder has no val/; none means {VAL_SPLIT}",
        OPEN,
    )
    split_seed: int = key(0, "of which photographs those are", NATURAL)
    glue: Literal["sst2", "cola", "mrpc", "stsb", "mnli", "mnli_mismatched", "qqp", "qnli", "rte", "wnli"] = key(
        "sst2", "which task of the data set glue"
    )
    length: int = key(
        128, "tokens of the longest text or pair of texts; longer ones are cut", Bounds(lambda v: v >= 3, "at least 3")
    )
    vocabulary: str = key(
        "",
        "file of word pieces, a line each; empty means vocab.txt or bert-base-uncased-vocab.txt in the root folder or beside it",
        free=True,
    )
    replace_words: float = key(
        0.0, "share of the word pieces of training texts that others replace at random; 0 means none", FRACTION
    )
    max_corrupt: int = key(
        10,
        "training photographs that cannot be decoded and are replaced by another one before the run stops",
        NATURAL,
        free=True,
    )


@dataclass
class DataOptions(LoadOptions):
    """Data"""

    data: str = key("cifar10", "data set, a row of the data table")
    root: str = key("data", "folder that holds the data set", free=True)
