"""What a file of COCO's instances says: the images of a split, the categories, and the boxes.

    {"images": [{"id": 9, "file_name": "9.jpg", "width": 640, "height": 480}, ...],
     "categories": [{"id": 1, "name": "person"}, ...],
     "annotations": [{"id": 5, "image_id": 9, "category_id": 1, "bbox": [x, y, width, height], "iscrowd": 0}, ...]}

Other keys are left alone. Boxes are places between pixels: an image reaches from 0 to its width.
"""

import gc
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onebit.errors import UserError
from onebit.runtime.contents import content_of

LARGEST = 1_000_000  # pixels of a side
LISTS = ("images", "categories", "annotations")


@dataclass
class Instances:
    """path          of the file
    names, sizes     files of the N images, in the order of the file, and their widths and heights, int64 (N, 2)
    categories       names by COCO's number, in the order of the numbers
    counts           boxes of each image, int64 (N,); M in all
    corners          x1, y1, x2, y2, float64 (M, 4), image after image
    labels           int64 (M,): place of the category in that order
    crowd            bool (M,)
    """

    path: Path
    names: list[str]
    sizes: np.ndarray
    categories: dict[int, str]
    counts: np.ndarray
    corners: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray


def read(path: Path) -> Instances:
    """The instances in a file. Raises UserError, which starts with the path, for what is none."""
    try:
        content = parsed(content_of(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # of the text, its encoding, a number too long; of lists too deep
        raise UserError(f"{path} is no JSON ({error}); fetch or write it anew") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in LISTS):
        raise UserError(f"{path} is not in COCO's format: it must be a table with the lists {', '.join(LISTS)}")
    names, sizes, place = images_of(content["images"], path)
    categories = categories_of(content["categories"], path)
    things = boxes_of(content["annotations"], path, place, {number: i for i, number in enumerate(categories)})
    order = np.argsort(things[:, 0], kind="stable")
    image, label, crowd, *corners = things[order].T  # each (M,)
    counts = np.bincount(image.astype(np.int64), minlength=len(names))
    return Instances(
        path,
        names,
        sizes,
        categories,
        counts,
        np.stack(corners, 1),  # (M, 4)
        label.astype(np.int64),
        crowd.astype(bool),
    )


def parsed(text: bytes) -> Any:
    """What JSON says. Python looks for circles among new objects again and again, in vain; without that COCO's largest file takes
    5 seconds, not 12."""
    looks = gc.isenabled()
    gc.disable()
    try:
        return json.loads(text)
    finally:
        if looks:
            gc.enable()


def images_of(entries: list[Any], path: Path) -> tuple[list[str], np.ndarray, dict[int, int]]:
    """File names, sizes int64 (N, 2), and the place of each image's number."""
    names: list[str] = []
    sizes: list[tuple[Any, Any]] = []
    place: dict[int, int] = {}
    for number, entry in numbered(entries, path, "image"):
        name, width, height = (entry.get(key) for key in ("file_name", "width", "height"))
        if not isinstance(name, str) or not name:
            raise UserError(f"{path}: image {number}: file_name is {name!r}; it must be the name of a file")
        if not all(type(side) is int and 0 < side <= LARGEST for side in (width, height)):
            problem = f"width and height are {width!r} and {height!r}; they must be numbers of pixels"
            raise UserError(f"{path}: image {number}: {problem}")
        place[number] = len(names)
        names.append(name)
        sizes.append((width, height))
    if not names:
        raise UserError(f"{path} holds no images")
    return names, np.array(sizes, np.int64), place


def categories_of(entries: list[Any], path: Path) -> dict[int, str]:
    """Names by number, in the order of the numbers."""
    found: dict[int, str] = {}
    for number, entry in numbered(entries, path, "category"):
        name = entry.get("name")
        if not isinstance(name, str) or not name:
            raise UserError(f"{path}: category {number}: name is {name!r}; it must be text")
        if name in found.values():
            raise UserError(f"{path}: category {number}: {name!r} is the name of another category, too; rename one")
        found[number] = name
    if not found:
        raise UserError(f"{path} holds no categories")
    return dict(sorted(found.items()))


def boxes_of(entries: list[Any], path: Path, images: dict[int, int], labels: dict[int, int]) -> np.ndarray:
    """Place of the image, place of the category, whether a crowd, x1, y1, x2, y2: float64 (M, 7), in the order of the file."""
    rows = np.empty((len(entries), 7))
    for row, (number, entry) in enumerate(numbered(entries, path, "annotation")):
        said: list[Any] = [entry.get(key) for key in ("image_id", "category_id", "iscrowd", "bbox")]
        image, category, crowd, box = said
        problem = ""
        if type(image) is not int or image not in images:
            problem = f"image_id {image!r} is none of the file's images; correct or remove it"
        elif type(category) is not int or category not in labels:
            problem = f"category_id {category!r} is none of the file's categories; correct or remove it"
        elif crowd not in (0, 1, None):
            problem = f"iscrowd is {crowd!r}; it must be 0 or 1"
        elif not isinstance(box, list) or len(box) != 4 or not all(map(is_place, box)):
            problem = f"bbox is {short(box)}; it must be 4 numbers: x, y, width and height in pixels"
        if problem:
            raise UserError(f"{path}: annotation {number}: {problem}")
        x, y, width, height = box
        rows[row] = (images[image], labels[category], crowd or 0, x, y, x + width, y + height)
    return rows


def numbered(entries: list[Any], path: Path, kind: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(its number, the entry) of a list. Raises UserError for numbers that are none, or there twice."""
    seen: set[int] = set()
    for place, entry in enumerate(entries, 1):
        number = entry.get("id") if isinstance(entry, dict) else None
        if type(number) is not int:
            problem = f"{kind} {place} of the list has no id; it must be a table with a whole number of that name"
            raise UserError(f"{path}: {problem}")
        if number in seen:
            raise UserError(f"{path}: two entries of kind {kind} have the id {number}; give one another")
        seen.add(number)
        yield number, entry


def is_place(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= LARGEST  # of NaN that is false, too


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
