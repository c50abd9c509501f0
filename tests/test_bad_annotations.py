"""Boxes that are put right, and annotations that are refused: one line each, which names the file and the object."""

import copy
import json

import numpy as np
import pytest

import object_files
from object_files import LABELS, Picture, Thing
from onebit import data
from onebit.cli import main as cli
from onebit.errors import UserError

PICTURES = {
    "train": [Picture("a", 40, 30, [Thing(0, (2, 3, 20, 25)), Thing(2, (5, 5, 9, 9))]), Picture("b", 50, 60, [])],
    "val": [Picture("c", 30, 30, [Thing(1, (1, 1, 30, 30))])],
}
XML = object_files.annotation(PICTURES["train"][0])
COCO = object_files.instances(PICTURES["train"])
BOMB = '<!DOCTYPE a [<!ENTITY x "xxxxxxxx"><!ENTITY y "&x;&x;&x;&x;&x;&x;&x;&x;">]>'


@pytest.fixture
def voc(tmp_path):
    return object_files.write_voc(tmp_path, PICTURES)


@pytest.fixture
def coco(tmp_path):
    return object_files.write_coco(tmp_path, PICTURES)


def load(kind, root, **options):
    return data.load(kind, root, data.LoadOptions(image_size=32, workers=0, **options))


def refused(kind, root, *says):
    """Loading says one line with all of these."""
    with pytest.raises(UserError) as raised:
        load(kind, root)
    line = str(raised.value)
    assert "\n" not in line and not [part for part in says if part not in line], line


def replaced(*pairs):
    text = XML
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    return text


BAD_XML = {
    "empty": ("", "is no XML", "no element found"),
    "cut off": (XML[:-30], "is no XML", "column"),
    "text": ("hello", "is no XML", "line 1"),
    "bytes": (b"\xff\xfe\x00\x01\x02", "is no XML"),
    "unknown encoding": (b'<?xml version="1.0" encoding="klingon"?><a/>', "unknown encoding"),
    "entities": (BOMB + XML.replace("other.jpg", "&y;"), "declares a document type"),
    "entities in UTF-16": ((BOMB + XML).encode("utf-16"), "declares a document type"),
    "a file from elsewhere": (f'<!DOCTYPE a SYSTEM "file:///etc/passwd">{XML}', "declares a document type"),
    "deep": ("<a>" * 100000 + "</a>" * 100000, "size/width is missing"),
    "another document": ("<html><body/></html>", "size/width is missing"),
    "no size": (replaced(("<size>", "<sizes>"), ("</size>", "</sizes>")), "size/width is missing"),
    "no height": (replaced(("<height>30</height>", "")), "size/height is missing", "number of pixels"),
    "size 0": (replaced(("<width>40", "<width>0")), "size/width is '0'"),
    "size -3": (replaced(("<width>40", "<width>-3")), "size/width is '-3'"),
    "size a word": (replaced(("<width>40", "<width>wide")), "size/width is 'wide'"),
    "size too long": (replaced(("<width>40", "<width>" + "9" * 5000)), "size/width is '999"),
    "size in other digits": (replaced(("<width>40", "<width>٤٠")), "size/width is '٤٠'"),
    "no corner": (replaced(("<ymin>4</ymin>", "")), "object 1 (cat): ymin is missing"),
    "no box": (replaced(("<bndbox>", "<box>"), ("</bndbox>", "</box>")), "object 1 (cat): xmin is missing"),
    "corner a word": (replaced(("<ymax>9", "<ymax>nine")), "object 2 (owl): ymax is 'nine'", "number of pixels"),
    "corner empty": (replaced(("<ymax>9", "<ymax>")), "object 2 (owl): ymax is ''"),
    "corner nan": (replaced(("<xmax>20", "<xmax>nan")), "object 1 (cat): xmax is 'nan'"),
    "corner inf": (replaced(("<xmax>20", "<xmax>1e999")), "object 1 (cat): xmax is '1e999'"),
    "no name": (replaced(("<name>owl</name>", "")), "object 2 has no name"),
    "empty name": (replaced(("<name>owl", "<name> ")), "object 2 has no name"),
    "difficult": (
        replaced(("<difficult>0", "<difficult>maybe")),
        "object 1 (cat): difficult is 'maybe'; it must be 0 or 1",
    ),
}


@pytest.mark.parametrize("kind", BAD_XML)
def test_xml_that_is_no_annotation(kind, voc):
    content, *says = BAD_XML[kind]
    path = voc / "Annotations/a.xml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused("voc", voc, str(path), *says)


def test_files_of_voc_that_are_missing(voc, capsys):
    (voc / "Annotations/b.xml").unlink()
    refused("voc", voc, "ImageSets/Main/train.txt, line 2: 'b'", "Annotations/b.xml does not exist; add it")
    (voc / "Annotations/b.xml").mkdir()
    refused("voc", voc, "Annotations/b.xml does not exist")
    (voc / "Annotations/b.xml").rmdir()
    (voc / "ImageSets/Main/train.txt").write_text("a\n\n../b\n")
    refused("voc", voc, "train.txt, line 3: '../b'")
    (voc / "ImageSets/Main/train.txt").write_text("a\nc\na\n")
    refused("voc", voc, "train.txt: lines 1 and 3 are both 'a'; remove one")
    (voc / "ImageSets/Main/train.txt").write_text(" \n\n")
    refused("voc", voc, "train.txt is empty")
    (voc / "ImageSets/Main/train.txt").write_bytes("a\n".encode("utf-16"))
    refused("voc", voc, "train.txt is UTF-16 text; save it as UTF-8")
    (voc / "ImageSets/Main/train.txt").write_bytes(b"a\n\xe9\n")
    refused("voc", voc, "train.txt is not UTF-8 text (line 2)")
    (voc / "ImageSets/Main/train.txt").write_text("a\n")
    (voc / "JPEGImages/a.jpeg").write_bytes(b"")
    refused("voc", voc, "train.txt, line 1: 'a'", "JPEGImages/a.jpeg and ", "JPEGImages/a.png are both there")
    (voc / "JPEGImages/a.jpeg").unlink()
    (voc / "JPEGImages/a.png").unlink()
    refused("voc", voc, "JPEGImages/a.jpg does not exist")
    (voc / "ImageSets/Main/train.txt").unlink()
    refused("voc", voc, "ImageSets/Main must hold train.txt and")
    refused("voc", voc / "nowhere", "nowhere/Annotations does not exist; --root names the folder")
    command = ["train", "--data", "voc", "--root", str(voc), "--model", "ssd300_resnet18", "--out", str(voc / "run")]
    assert cli.main([*command]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_labels_of_voc(voc):
    (voc / "labels.txt").write_text("cat\ndog\n")
    refused("voc", voc, "Annotations/a.xml: object 2 is a 'owl', which is none of the 2 labels of", "labels.txt")
    (voc / "labels.txt").write_text("cat\n\ndog\n")
    refused("voc", voc, "labels.txt: line 2 is empty")
    (voc / "labels.txt").write_text("cat\ndog\nowl\ncat\n")
    refused("voc", voc, "labels.txt: 'cat' stands in lines 1 and 4; remove one")
    (voc / "labels.txt").unlink()
    for name in "ac":
        path = voc / f"Annotations/{name}.xml"
        path.write_text(path.read_text().split("<object>")[0] + "</annotation>")
    refused("voc", voc, "hold no object; there is nothing to learn")
    official = object_files.write_voc(voc / "VOC2012", PICTURES)
    refused(
        "voc2012", voc, f"{official / 'Annotations/a.xml'}: object 2 is a 'owl', which is none of the 20 labels of VOC"
    )


def changed(*places, **changes):
    """COCO's table with something else at a place: changed("annotations", 0, bbox=[])."""
    table = copy.deepcopy(COCO)
    entry = table
    for place in places:
        entry = entry[place]
    entry.update(changes)
    for key in [key for key, value in changes.items() if value is ...]:
        del entry[key]
    return table


FIRST = COCO["annotations"][0]["id"]
BAD_JSON = {
    "empty": ("", "is no JSON"),
    "cut off": (json.dumps(COCO)[:-9], "is no JSON"),
    "bytes": (b"\xff\xfe\xfd", "is no JSON"),
    "too deep": ("[" * 200000, "is no JSON"),
    "a number too long": ('{"images": ' + "9" * 5000 + "}", "is no JSON"),
    "a list": ("[]", "is not in COCO's format", "images, categories, annotations"),
    "captions": ({"images": [], "annotations": []}, "is not in COCO's format"),
    "no images": (changed(images=[]), "holds no images"),
    "no categories": (changed(categories=[], annotations=[]), "holds no categories"),
    "image a text": (changed(images=["a.png"]), "image 1 of the list has no id"),
    "image without id": (changed("images", 1, id=...), "image 2 of the list has no id"),
    "image twice": (changed("images", 1, id=100), "two entries of kind image have the id 100"),
    "image without name": (changed("images", 0, file_name=...), "image 100: file_name is None"),
    "image without size": (changed("images", 0, width=...), "image 100: width and height are None and 30"),
    "image of size 0": (changed("images", 1, height=0), "image 101: width and height are 50 and 0"),
    "image that is missing": (changed("images", 1, file_name="z.png"), "names z.png, which is in none of", "train2017"),
    "category twice": (changed("categories", 1, id=90), "two entries of kind category have the id 90"),
    "name twice": (changed("categories", 1, name="owl"), "category 7: 'owl' is the name of another category"),
    "category without name": (changed("categories", 1, name=7), "category 7: name is 7"),
    "box twice": (changed("annotations", 1, id=FIRST), f"two entries of kind annotation have the id {FIRST}"),
    "unknown image": (changed("annotations", 0, image_id=999), f"annotation {FIRST}: image_id 999 is none of"),
    "image by name": (changed("annotations", 0, image_id=[]), f"annotation {FIRST}: image_id [] is none of"),
    "unknown category": (changed("annotations", 0, category_id=1), f"annotation {FIRST}: category_id 1 is none of"),
    "no box": (changed("annotations", 0, bbox=...), f"annotation {FIRST}: bbox is None; it must be 4 numbers"),
    "box of 3": (changed("annotations", 0, bbox=[1, 2, 3]), f"annotation {FIRST}: bbox is [1, 2, 3]"),
    "box of texts": (changed("annotations", 0, bbox=["1", 2, 3, 4]), f"annotation {FIRST}: bbox is ['1', 2, 3, 4]"),
    "box with nan": (
        changed("annotations", 0, bbox=[1, 2, float("nan"), 4]),
        f"annotation {FIRST}: bbox is [1, 2, nan",
    ),
    "box too large": (
        changed("annotations", 0, bbox=[1, 2, 10**400, 4]),
        f"annotation {FIRST}: bbox is [1, 2, 1000",
        "...",
    ),
    "iscrowd": (changed("annotations", 0, iscrowd=2), f"annotation {FIRST}: iscrowd is 2; it must be 0 or 1"),
    "iscrowd a list": (changed("annotations", 0, iscrowd=[]), f"annotation {FIRST}: iscrowd is []"),
}


@pytest.mark.parametrize("kind", BAD_JSON)
def test_json_that_is_not_cocos(kind, coco):
    content, *says = BAD_JSON[kind]
    path = coco / "annotations/instances_train2017.json"
    content = json.dumps(content) if isinstance(content, dict) else content
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused("coco", coco, str(path), *says)


def test_files_of_coco_that_are_missing(coco):
    folder = coco / "annotations"
    train, val = (folder / f"instances_{split}2017.json" for split in ("train", "val"))
    table = json.loads(val.read_text())
    table["categories"][0]["name"] = "eagle"
    whole = val.read_text()
    val.write_text(json.dumps(table))
    refused("coco", coco, f"{train} and {val} differ in category 90")
    val.write_text(whole)
    (folder / "instances_train.json").write_bytes(train.read_bytes())
    refused(
        "coco",
        coco,
        "it holds instances_train.json, instances_train2017.json, instances_val2017.json; move others away",
    )
    (folder / "instances_train.json").unlink()
    val.rename(folder / "instances_test.json")
    refused("coco", coco, "names c.png, which is in none of")
    (coco / "val2017").rename(coco / "images")
    assert len(load("coco", coco).test) == 1
    (folder / "instances_test.json").unlink()
    refused("coco", coco, f"{folder} must hold one instances_*.json with train")
    refused("coco", coco / "nowhere", "nowhere/annotations does not exist")


def corners(root, *boxes):
    """Train on one image of 40 x 30 with these boxes of VOC; what its targets are in its own pixels."""
    box = "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>"
    objects = "".join(f"<object><name>cat</name><bndbox>{box.format(*b)}</bndbox></object>" for b in boxes)
    text = f"<annotation><size><width>40</width><height>30</height></size>{objects}</annotation>"
    (root / "Annotations/a.xml").write_text(text)
    batch = next(load("voc", root).train.evaluation_batches(1))
    return batch.targets[0].boxes.numpy() * np.array([40, 30, 40, 30]) / 32


def test_boxes_are_put_right(voc, capsys):
    """VOC's corners are pixels from 1, the last one included."""

    def seen(*boxes):
        return corners(voc, *boxes).round(4).tolist(), capsys.readouterr().err

    whole, path = [0, 0, 40, 30], str(voc / "Annotations/a.xml")
    assert seen((1, 1, 40, 30)) == ([whole], "")
    assert seen((0.6, 0.7, 40.4, 30.2)) == ([whole], ""), "rounding is not worth a word"
    assert seen() == ([], "")
    boxes, line = seen((5, 6, 10, 12), (10, 12, 5, 6), (10, 6, 5, 12))
    assert boxes == [[4, 5, 10, 12]] * 3 and line.count("\n") == 1
    assert "voc: " in line and "train.txt: of 3 boxes 2 with exchanged corners turned" in line and path in line
    boxes, line = seen((-5, 6, 10, 99), (5, 6, 10, 12))
    assert boxes == [[0, 5, 10, 30], [4, 5, 10, 12]] and "of 2 boxes 1 cut at the edges" in line
    boxes, line = seen((5, 5, 5, 9), (5, 5, 9, 5), (41, 1, 60, 30), (-9, -9, 0, 0), (3, 3, 4, 4), (50, 40, 45, 35))
    assert boxes == [[2, 2, 4, 4]] and "of 6 boxes 5 left out, which have no area" in line and line.count("\n") == 1


def test_boxes_of_coco_are_put_right(coco, capsys):
    path = coco / "annotations/instances_train2017.json"
    table = copy.deepcopy(COCO)
    kept = {"image_id": 100, "category_id": 3}
    boxes = ([5, 5, 0, 3], [39.996, 5, 3, 3], [5, 5, 35.3, 3], [10, 10, -4, 6], [30, 20, 20, 20])
    table["annotations"] = [{"id": i, "bbox": box, **kept} for i, box in enumerate(boxes)]
    path.write_text(json.dumps(table))
    batch = next(load("coco", coco).train.evaluation_batches(2))
    found = batch.targets[0].boxes.numpy() * np.array([40, 30, 40, 30]) / 32
    np.testing.assert_allclose(found, [[5, 5, 40, 8], [6, 10, 10, 16], [30, 20, 40, 30]], atol=1e-4)
    line = capsys.readouterr().err
    for part in ("2 left out", "1 cut at the edges", "1 with exchanged corners turned", f"the first is in {path}"):
        assert part in line
    assert line.count("\n") == 1 and load("coco", coco).labels == LABELS
