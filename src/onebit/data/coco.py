"""Pictures with boxes in COCO's layout: ROOT/annotations/instances_SPLIT.json, and the images in ROOT/SPLIT, ROOT/images/SPLIT,
ROOT/images or ROOT.

Row coco, any such folder: the file with train in its name trains, the one with val, or else test, tests.

Row coco2017: train2017, val2017. Row coco2014, what papers call trainval35k and minival: the split files
instances_trainvalminusminival2014.json (or, in its place, instances_train2014.json and instances_valminusminival2014.json) and
instances_minival2014.json, the images in train2014 and val2014. The image lists of that split came with the code of Fast R-CNN,
not with COCO.

Labels are the categories in the order of COCO's numbers, which leave gaps: label 0 is the first.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onebit.data.dataset import Data
from onebit.data.loading.class_names import check_names
from onebit.data.loading.coco_annotations import Instances, read
from onebit.data.loading.objects import Annotated, ObjectSamples, objects
from onebit.data.options import LoadOptions
from onebit.errors import UserError

PARTS_2014 = ("train2014", "val2014")  # folders of images
MINIVAL = (
    "trainval35k and minival are the files instances_trainvalminusminival2014.json (or instances_train2014.json with "
    "instances_valminusminival2014.json) and instances_minival2014.json, which came with the code of Fast R-CNN"
)


def coco(root: Path, options: LoadOptions) -> Data:
    folder = annotations_of("coco", root)
    there = sorted(path.name for path in folder.glob("instances_*.json"))
    train = [name for name in there if "train" in name]
    test = next(
        (found for part in ("val", "test") if (found := [n for n in there if part in n and n not in train])), []
    )
    if len(train) != 1 or len(test) != 1:
        raise UserError(
            f"coco: {folder} must hold one instances_*.json with train in its name and one with val or else test, it holds "
            f"{', '.join(there) or 'none'}; move others away"
        )
    return data("coco", root, [folder / train[0]], [folder / test[0]], (), options)


def coco2017(root: Path, options: LoadOptions) -> Data:
    folder = annotations_of("coco2017", root)
    files = [folder / f"instances_{split}2017.json" for split in ("train", "val")]
    for file in files:
        if not file.is_file():
            raise UserError(f"coco2017: {file} does not exist; fetch COCO's annotations of 2017")
    return data("coco2017", root, files[:1], files[1:], (), options)


def coco2014(root: Path, options: LoadOptions) -> Data:
    folder = annotations_of("coco2014", root)
    whole, train, rest, test = (
        folder / f"instances_{split}2014.json"
        for split in ("trainvalminusminival", "train", "valminusminival", "minival")
    )
    training = [whole] if whole.is_file() else [train, rest]
    for file in (*training, test):
        if not file.is_file():
            raise UserError(f"coco2014: {file} does not exist; {MINIVAL}")
    return data("coco2014", root, training, [test], PARTS_2014, options)


def annotations_of(name: str, root: Path) -> Path:
    folder = root / "annotations"
    if not folder.is_dir():
        raise UserError(f"{name}: {folder} does not exist; --root names the folder with COCO's annotations/ and images")
    return folder


def data(
    name: str, root: Path, train: Sequence[Path], test: Sequence[Path], parts: Sequence[str], options: LoadOptions
) -> Data:
    """The data set of the files of its two splits; `parts`: further folders of images.

    Raises UserError for files that differ in their categories, and for images that are not there.
    """
    splits = [[read(path) for path in paths] for paths in (train, test)]
    first = splits[0][0]
    for said in (said for split in splits for said in split):
        if different := sorted(set(first.categories.items()) ^ set(said.categories.items())):
            number, label = different[0]
            raise UserError(
                f"{name}: {first.path} and {said.path} differ in category {number}, {label!r}; both must have the same"
            )
    labels = check_names(list(first.categories.values()), f"{name}: {first.path}", "rename the category")
    samples = []
    for split, training in zip(splits, (True, False), strict=True):
        flags = np.concatenate([said.crowd for said in split])
        annotated = Annotated(
            [path for said in split for path in images_of(name, root, said, parts)],
            [str(said.path) for said in split for _ in said.names],
            np.concatenate([said.sizes for said in split]),
            np.concatenate([said.counts for said in split]),
            np.concatenate([said.corners for said in split]),
            np.concatenate([said.labels for said in split]),
            np.zeros_like(flags),
            flags,
            first=0,
        )
        where = " and ".join(str(said.path) for said in split)
        samples.append(ObjectSamples(root, f"{name}: {where}", annotated, training))
    return objects(name, samples[0], samples[1], labels, options)


def images_of(name: str, root: Path, said: Instances, parts: Sequence[str]) -> list[str]:
    """Paths of the images of a file. Raises UserError for the first one that is in no folder."""
    split = said.path.stem.removeprefix("instances_")
    folders = [root / part for split_or_part in (split, *parts) for part in (split_or_part, f"images/{split_or_part}")]
    folders = [folder for folder in (*folders, root / "images", root) if folder.is_dir()]
    found: dict[str, str] = {}
    for folder in folders:  # listed, not asked for one by one, which takes minutes on a network's disk
        try:
            listed = set(os.listdir(folder))
        except OSError as error:
            raise UserError(f"{name}: {folder} cannot be read: {error.strerror or error}") from error
        for file in said.names:
            if file not in found and (file in listed or ("/" in file and os.path.isfile(folder / file))):
                found[file] = str(folder / file)
        if len(found) == len(said.names):
            break
    if missing := next((file for file in said.names if file not in found), None):
        looked = ", ".join(map(str, folders))
        raise UserError(f"{name}: {said.path} names {missing}, which is in none of {looked}; add the images of {split}")
    return [found[file] for file in said.names]
