"""Small made-up pictures with boxes, in VOC's and COCO's layout: the same pictures and boxes in each."""

import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

LABELS = ("cat", "dog", "owl")
COLOURS = ((250, 20, 20), (20, 250, 20), (20, 20, 250))  # of the boxes of each label
NUMBERS = (3, 7, 90)  # COCO's, of the labels


class Thing(NamedTuple):
    """x1, y1, x2, y2 between pixels"""

    label: int
    box: tuple[int, int, int, int]
    hard: bool = False


class Picture(NamedTuple):
    name: str
    width: int
    height: int
    things: list[Thing]

    def encoded(self) -> bytes:
        """Grey, each box filled with the colour of its label."""
        pixels = np.full((self.height, self.width, 3), 90, np.uint8)
        for label, (x1, y1, x2, y2), _ in self.things:
            pixels[y1:y2, x1:x2] = COLOURS[label]
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "png")
        return file.getvalue()


def pictures(split: str, count: int) -> list[Picture]:
    """Of any size, with 0 to 3 boxes, of different labels, that do not overlap; every fifth box is a hard one."""
    random = np.random.default_rng(len(split))
    found = []
    for number in range(count):
        width, height = random.integers(48, 90, 2).tolist()
        things = []
        for place in range(number % 4):
            third = width // 3
            x1, x2 = (third * place + random.integers([1, third // 2], [third // 3, third - 1])).tolist()
            y1, y2 = random.integers([0, height // 2], [height // 3, height]).tolist()
            things.append(Thing((place + number) % 3, (x1, y1, x2, y2), (number + place) % 5 == 4))
        found.append(Picture(f"{split}{number:03d}", width, height, things))
    return found


def annotation(picture: Picture, extra: str = "") -> str:
    """VOC's XML."""
    objects = "".join(
        f"<object><name>{LABELS[label]}</name><difficult>{int(hard)}</difficult><bndbox><xmin>{x1 + 1}</xmin>"
        f"<ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for label, (x1, y1, x2, y2), hard in picture.things
    )
    size = f"<size><width>{picture.width}</width><height>{picture.height}</height><depth>3</depth></size>"
    return f"<annotation><filename>other.jpg</filename>{size}{objects}{extra}</annotation>"


def write_voc(root: Path, splits: dict[str, list[Picture]]) -> Path:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for split, images in splits.items():
        (root / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"{picture.name}\n" for picture in images))
        for picture in images:
            (root / "JPEGImages" / f"{picture.name}.png").write_bytes(picture.encoded())
            (root / "Annotations" / f"{picture.name}.xml").write_text(annotation(picture))
    return root


def instances(images: list[Picture]) -> dict:
    """COCO's table; hard boxes are crowds there. Boxes are not in the order of their images."""
    categories = [{"id": number, "name": name, "supercategory": "animal"} for number, name in zip(NUMBERS, LABELS)]
    entries, boxes = [], []
    for number, picture in enumerate(images, 100):
        size = {"width": picture.width, "height": picture.height}
        entries.append({"id": number, "file_name": f"{picture.name}.png", **size})
        for thing in picture.things:
            x1, y1, x2, y2 = thing.box
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": int(thing.hard)}
            boxes.append({"image_id": number, "category_id": NUMBERS[thing.label], **box})
    order = sorted(range(len(boxes)), key=lambda i: (i % 2, i))  # of one image still in order, mostly
    numbered = [{"id": 1000 + i, **boxes[i]} for i in order]
    return {"images": entries, "categories": categories[::-1], "annotations": numbered}


def write_coco(root: Path, splits: dict[str, list[Picture]], year: str = "2017") -> Path:
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for split, images in splits.items():
        (root / f"{split}{year}").mkdir(parents=True, exist_ok=True)
        for picture in images:
            (root / f"{split}{year}" / f"{picture.name}.png").write_bytes(picture.encoded())
        (root / f"annotations/instances_{split}{year}.json").write_text(json.dumps(instances(images)))
    return root
