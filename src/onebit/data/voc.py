"""Pictures with boxes in the layout of PASCAL VOC: ROOT/Annotations/NAME.xml, ROOT/JPEGImages/NAME.jpg (or another kind of
image) and ROOT/ImageSets/Main/SPLIT.txt, a NAME a line.

Row voc, any such folder: train.txt trains and test.txt tests; where there is no test.txt, val.txt does; where there is no
train.txt, trainval.txt trains and test.txt tests. Labels are the lines of ROOT/labels.txt or ROOT/classes.txt, else the names
in the annotations of both splits, sorted.

Rows voc2007 (trainval, test), voc2012 (train, val) and voc0712 (both trainvals, the test of 2007): ROOT/VOCdevkit/VOC2007 and
VOC2012, or ROOT/VOC2007 and VOC2012, with VOC's 20 classes.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onebit.data.dataset import Data
from onebit.data.loading.class_names import check_names, read_names
from onebit.data.loading.objects import Annotated, ObjectSamples, objects
from onebit.data.loading.voc_annotations import Annotation, read
from onebit.data.options import LoadOptions
from onebit.errors import UserError
from onebit.runtime.contents import text_of
from onebit.runtime.folders import walk
from onebit.runtime.pictures import SUFFIXES

CLASSES = (
    *(
        "aeroplane",
        "bicycle",
        "bird",
        "boat",
        "bottle",
        "bus",
        "car",
        "cat",
        "chair",
        "cow",
        "diningtable",
        "dog",
        "horse",
    ),
    *("motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
FOLDERS = ("Annotations", "JPEGImages", "ImageSets/Main")
SPLITS = (("train", "test"), ("train", "val"), ("trainval", "test"))  # of which a set trains and is tested
NAMES = ("labels.txt", "classes.txt")


def voc(root: Path, options: LoadOptions) -> Data:
    check_folders("voc", root)
    there = [pair for pair in SPLITS if all(split_file(root, split).is_file() for split in pair)]
    if not there:
        raise UserError(
            f"voc: {root / FOLDERS[2]} must hold train.txt and test.txt or val.txt, or trainval.txt and test.txt: names of images"
        )
    train, test = (Split("voc", [split_file(root, split)]) for split in there[0])
    given = next((root / name for name in NAMES if (root / name).is_file()), None)
    if given is not None:
        return data("voc", root, train, test, different(read_names(given), given), str(given), options)
    found = sorted({thing.label for split in (train, test) for said in split.annotations for thing in said.things})
    if not found:
        raise UserError(
            f"voc: {root / FOLDERS[0]}: the annotations of both splits hold no object; there is nothing to learn"
        )
    labels = check_names(found, f"voc: {root / FOLDERS[0]}", "rename it in the annotations")
    return data("voc", root, train, test, labels, str(root), options)


def voc2007(root: Path, options: LoadOptions) -> Data:
    return official("voc2007", root, [("2007", "trainval")], [("2007", "test")], options)


def voc2012(root: Path, options: LoadOptions) -> Data:
    return official("voc2012", root, [("2012", "train")], [("2012", "val")], options)


def voc0712(root: Path, options: LoadOptions) -> Data:
    return official("voc0712", root, [("2007", "trainval"), ("2012", "trainval")], [("2007", "test")], options)


def official(
    name: str, root: Path, train: Sequence[tuple[str, str]], test: Sequence[tuple[str, str]], options: LoadOptions
) -> Data:
    """A set of the challenge: (year, split) of what it trains and is tested on."""
    kit = root / "VOCdevkit" if (root / "VOCdevkit").is_dir() else root
    files = [[split_file(kit / f"VOC{year}", split) for year, split in part] for part in (train, test)]
    for file in (file for part in files for file in part):
        check_folders(name, file.parents[2])
        if not file.is_file():
            raise UserError(f"{name}: {file} does not exist; unpack that part of VOC into {file.parents[2]}")
    training, testing = (Split(name, part) for part in files)
    return data(name, root, training, testing, CLASSES, "VOC", options)


def different(names: tuple[str, ...], path: Path) -> tuple[str, ...]:
    """The lines of a file of labels. Raises UserError for one that is there twice: an annotation could mean either."""
    for number, name in enumerate(names):
        if (first := names.index(name)) != number:
            raise UserError(f"{path}: {name!r} stands in lines {first + 1} and {number + 1}; remove one")
    return names


def check_folders(name: str, root: Path) -> None:
    for folder in FOLDERS:
        if not (root / folder).is_dir():
            raise UserError(
                f"{name}: {root / folder} does not exist; --root names the folder with VOC's {', '.join(FOLDERS)}"
            )


def split_file(folder: Path, split: str) -> Path:
    return folder / FOLDERS[2] / f"{split}.txt"


class Split:
    """The annotations that the lines of some split files name, in their order, and their images.

    Raises UserError for a split or an annotation that cannot be read, and for an image that is not there or there twice.
    """

    def __init__(self, name: str, files: Sequence[Path]):
        self.where = f"{name}: {files[0]}" + "".join(f" and {file}" for file in files[1:])
        self.annotations: list[Annotation] = []
        self.images: list[str] = []
        for file in files:
            folder = file.parents[2]
            images = images_of(folder / "JPEGImages")
            for line, item in lines_of(name, file).items():
                path = folder / "Annotations" / f"{item}.xml"
                named = f"{name}: {file}, line {line}: {item!r}"
                if not os.path.isfile(path):
                    raise UserError(f"{named}: {path} does not exist; add it, or remove the line")
                there = images.get(item, [])
                if len(there) != 1:
                    problem = (
                        f"{there[0]} and {there[1]} are both there"
                        if there
                        else f"{folder / 'JPEGImages' / item}.jpg does not exist"
                    )
                    raise UserError(f"{named}: {problem}; keep one image of that name")
                self.annotations.append(read(path))
                self.images.append(there[0])


def lines_of(name: str, file: Path) -> dict[int, str]:
    """The names in a split file by the number of their line. Raises UserError."""
    found = {number: line.strip() for number, line in enumerate(text_of(file, name).splitlines(), 1) if line.strip()}
    if not found:
        raise UserError(f"{name}: {file} is empty; it must name an image a line")
    first: dict[str, int] = {}
    for number, item in found.items():
        if first.setdefault(item, number) != number:
            raise UserError(f"{name}: {file}: lines {first[item]} and {number} are both {item!r}; remove one")
    return found


def images_of(folder: Path) -> dict[str, list[str]]:
    """Paths of the images in a folder by their names without the suffix."""
    found: dict[str, list[str]] = {}
    for item in walk(str(folder), SUFFIXES):
        if not item.problem:
            found.setdefault(Path(item.path).relative_to(folder).with_suffix("").as_posix(), []).append(item.path)
    return found


def data(
    name: str, root: Path, train: Split, test: Split, labels: tuple[str, ...], source: str, options: LoadOptions
) -> Data:
    """The data set of two splits. Raises UserError for a label that is none of `labels`, which come from `source`."""
    numbers = {label: number for number, label in enumerate(labels)}
    samples = []
    for split, training in ((train, True), (test, False)):
        things = [thing for said in split.annotations for thing in said.things]
        for said in split.annotations:
            for thing in said.things:
                if thing.label not in numbers:
                    raise UserError(
                        f"{said.path}: object {thing.number} is a {thing.label!r}, which is none of the {len(labels)} labels of {source}; "
                        "correct one of them"
                    )
        flags = np.array([thing.difficult for thing in things], bool)
        annotated = Annotated(
            split.images,
            [said.path for said in split.annotations],
            np.array([(said.width, said.height) for said in split.annotations]),
            np.array([len(said.things) for said in split.annotations]),
            np.array([thing.corners for thing in things], np.float64).reshape(-1, 4),  # (M, 4), of no thing too
            np.array([numbers[thing.label] for thing in things], np.int64),
            flags,
            np.zeros_like(flags),
            first=1,
        )
        samples.append(ObjectSamples(root, split.where, annotated, training))
    return objects(name, samples[0], samples[1], labels, options)
