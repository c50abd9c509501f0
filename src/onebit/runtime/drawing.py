"""A detector's answers drawn on its pictures, as `onebit run --draw` writes them: needs Pillow."""

from __future__ import annotations

import colorsys
import os
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, Any, cast

from onebit import files
from onebit.errors import UserError
from onebit.runtime.answers import Answer
from onebit.runtime.decoding import Image
from onebit.runtime.folders import Found

try:
    from PIL import ImageDraw, ImageFont
except ModuleNotFoundError as error:
    from onebit.machine import installation

    raise UserError(installation.missing(error.name, "drawing pictures")) from error

TURN = 0.618034  # of the circle of colours from one label to the next: any few are far apart
SHARE_LINE, SHARE_TEXT = 250, 32  # of the side of a square as large as the picture
SMALLEST_TEXT = 10  # pixels
OPTIONS = {"JPEG": {"quality": 92, "subsampling": 0}}  # which would blur thin coloured lines
FORMATS = {  # by ending: those that keep any picture's size and colours
    **{".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"},
    **{".ppm": "PPM", ".tga": "TGA"},
}
LIMITS = {"JPEG": 65_500, "WEBP": 16_383, "TGA": 65_535}  # pixels of a side
OTHER = ".png"  # of all others

Colour = tuple[int, int, int]


def targets(found: Sequence[Found], folder: str) -> list[Path]:
    """Where the picture of each file goes: by its own name, below the folder that it was found in. Raises UserError where two
    would have one name, and where one would replace a picture that is read."""
    if not folder.strip():
        raise UserError("--draw: the folder's name is empty")
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise UserError(f"--draw {folder} is a file; give a folder")
    for root in {file.root for file in found if file.root}:
        if Path(folder).resolve().is_relative_to(Path(root).resolve()):
            raise UserError(
                f"--draw {folder} lies in {root}, which is searched for pictures: the next run would read what is drawn; give a folder "
                "beside it"
            )
    taken: dict[Path, str] = {}
    places = []
    read = {identity(file.path) for file in found}
    for file in found:
        target = Path(folder) / file.inside
        if target.suffix.lower() not in FORMATS:
            target = target.with_name(target.name + OTHER)
        if (other := taken.setdefault(target, file.path)) != file.path:
            raise UserError(f"--draw {folder}: {other} and {file.path} would both be drawn as {target}; run them apart")
        if identity(target) in read - {None}:
            files.check_output(target, [each.path for each in found], "--draw")
        places.append(target)
    return places


def identity(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """The same for two names of one file; None where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def save(picture: Image.Image, target: Path) -> Path:
    """Write the picture, as PNG beside the name where the name's format cannot hold it; returns where. Raises UserError for a place
    that cannot be written."""
    name = FORMATS[target.suffix.lower()]
    if max(picture.size) > LIMITS.get(name, max(picture.size)):
        target, name = target.with_name(target.name + OTHER), "PNG"
    content = BytesIO()
    picture.save(content, name, **OPTIONS.get(name, {}))
    with files.failures(target):
        target.parent.mkdir(parents=True, exist_ok=True)

    def fill(file: IO[bytes]) -> None:
        file.write(content.getbuffer())

    files.write(target, fill)
    return target


def drawn(picture: Image.Image, answer: Answer, labels: Sequence[str] | None) -> Image.Image:
    """The picture, which is RGB, with a frame and a line of text for each box: the best on top, a colour for each label."""
    picture = picture.copy()
    side = (picture.width * picture.height) ** 0.5
    line = max(1, round(side / SHARE_LINE))
    font = ImageFont.load_default(max(SMALLEST_TEXT, round(side / SHARE_TEXT)))
    draw = ImageDraw.Draw(picture)
    for part in reversed(answer):
        colour = colour_of(part["label"], labels)
        left, top, right, bottom = (round(at) for at in part["box"])
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=line)
        title(draw, picture.size, (left, top), f"{part['label']} {100 * part['score']:.0f} %", font, colour, line)
    return picture


def title(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    corner: tuple[int, int],
    words: str,
    font: Any,
    colour: Colour,
    margin: int,
) -> None:
    """Words on a ground of the colour above a box's corner; inside the box where there is no room above, and moved left as far as
    they would leave the picture."""
    words = " ".join(words.split())
    left, top, right, bottom = draw.textbbox((0, 0), words, font=font)
    width, height = int(right - left) + 2 * margin, int(bottom - top) + 2 * margin
    x = max(0, min(corner[0], size[0] - width))
    y = corner[1] - height if corner[1] >= height else min(corner[1], max(0, size[1] - height))
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
    draw.text((x + margin - left, y + margin - top), words, fill=contrast(colour), font=font)


def colour_of(label: str, labels: Sequence[str] | None) -> Colour:
    """The same for one label in all pictures of a network."""
    place = labels.index(label) if labels and label in labels else zlib.crc32(label.encode())
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(place * TURN % 1, 0.85, 0.95))
    return red, green, blue


def contrast(colour: Colour) -> Colour:
    """Black or white, whichever is farther from the colour in relative luminance (WCAG 2)."""
    red, green, blue = (linear(part / 255) for part in colour)
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return (0, 0, 0) if (light + 0.05) / 0.05 >= 1.05 / (light + 0.05) else (255, 255, 255)


def linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else cast(float, ((part + 0.055) / 1.055) ** 2.4)
