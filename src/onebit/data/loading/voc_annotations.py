"""What an annotation of PASCAL VOC says, an XML file for each image.

    <annotation>
      <size> <width> 500 <height> 375
      <object> <name> dog <difficult> 0 <bndbox> <xmin> 48 <ymin> 240 <xmax> 195 <ymax> 371

Corners are numbers of pixels, from 1, the last one included: the box of a whole image is 1, 1, width, height. As in Detectron2
a box reaches from xmin - 1 to xmax in a picture that reaches from 0 to width; the overlap of two such boxes is what VOC's
evaluation, which counts pixels, says. (MMDetection takes 1 from all four corners, and counts pixels.) Parts of objects, as
VOC 2012 has them, are left alone.
"""

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple, NoReturn

from onebit.errors import UserError
from onebit.runtime.contents import content_of

CORNERS = ("xmin", "ymin", "xmax", "ymax")
LARGEST = 1_000_000  # pixels of a side
TRUTH = {"0": False, "1": True, "false": False, "true": True, "": False, "unspecified": False}


class Thing(NamedTuple):
    """An object: its number in the file, from 1, its label, whether it is difficult, and xmin, ymin, xmax, ymax."""

    number: int
    label: str
    difficult: bool
    corners: tuple[float, ...]


class Annotation(NamedTuple):
    path: str
    width: int
    height: int
    things: tuple[Thing, ...]


class Tree(ElementTree.TreeBuilder):
    """Elements of XML without a document type: what declares entities is no annotation, and may grow without bounds."""

    def doctype(self, name: str, *_: object) -> NoReturn:
        raise ValueError("it declares a document type; remove the line <!DOCTYPE ...>")


def read(path: Path) -> Annotation:
    """An annotation. Raises UserError, which starts with the path, for what is none."""
    try:
        root = ElementTree.XML(content_of(path), ElementTree.XMLParser(target=Tree()))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except ElementTree.ParseError as error:
        raise UserError(f"{path} is no XML ({error}); write it anew, or take it out of the split") from error
    except (ValueError, LookupError) as error:  # of the document type; of an unknown encoding
        raise UserError(f"{path} is no annotation: {error}") from error
    width, height = (whole(root, f"size/{side}", path) for side in ("width", "height"))
    things = tuple(thing(element, number, path) for number, element in enumerate(root.findall("object"), 1))
    return Annotation(str(path), width, height, things)


def whole(root: ElementTree.Element, place: str, path: Path) -> int:
    """The text at `place`, a number of pixels."""
    text = (root.findtext(place) or "").strip()
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= LARGEST):
        found = f"is {text!r}" if text else "is missing"
        raise UserError(f"{path}: {place} {found}; it must be the number of pixels of the image")
    return int(text)


def thing(element: ElementTree.Element, number: int, path: Path) -> Thing:
    """An <object>."""
    where = f"{path}: object {number}"
    label = (element.findtext("name") or "").strip()
    if not label:
        raise UserError(f"{where} has no name; say what it is")
    corners = []
    for corner in CORNERS:
        text = element.findtext(f"bndbox/{corner}")
        try:
            value = float(text or "")
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or abs(value) > LARGEST:
            found = "is missing" if text is None else f"is {text.strip()!r}"
            raise UserError(f"{where} ({label}): {corner} {found}; it must be a number of pixels")
        corners.append(value)
    said = (element.findtext("difficult") or "").strip()
    if said.lower() not in TRUTH:
        raise UserError(f"{where} ({label}): difficult is {said!r}; it must be 0 or 1")
    return Thing(number, label, TRUTH[said.lower()], tuple(corners))
