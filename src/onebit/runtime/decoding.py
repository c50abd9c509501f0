"""From an encoded picture to pixels of 8 bits, as a person sees them: for training, evaluation and `onebit run` alike.

- The orientation that a camera wrote into EXIF is applied.
- 16 bits a channel become 8: value / 257, rounded; floats from 0 to 1, the usual range of such files, 255 times the value.
  32-bit integers and other floats have no range that a file states: refused.
- What is transparent shows white; opaque pixels stay as they are.
- Of an animation, the first picture. CMYK, palettes and the like become RGB as Pillow converts them.

Needs Pillow, not PyTorch.
"""

import io
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from onebit.errors import UserError
from onebit.machine import installation

try:
    from PIL import Image, ImageOps
except ModuleNotFoundError as error:
    raise UserError(installation.missing(error.name, "reading pictures")) from error

PNG = b"\x89PNG\r\n\x1a\n"
TEXTS = {b"tEXt", b"zTXt", b"iTXt", b"iCCP"}  # chunks of a PNG that do not change its pixels


def decode(content: bytes, mode: str = "RGB") -> Image.Image:
    """The picture as "RGB", or "L" for one channel. Raises ValueError, with the reason on one line, for one that cannot be
    decoded to its last row."""
    if not content:
        raise ValueError("it is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's doubts about metadata
            with opened(content) as image:
                return converted(image, mode)
    except Exception as error:  # damaged content raises many types in Pillow's decoders
        reason = " ".join(str(error).split()) or type(error).__name__
        unknown = "it is no image, or of a kind that Pillow does not read"
        raise ValueError(re.sub(r"cannot identify image file <.*>", unknown, reason)) from error


def opened(content: bytes) -> Image.Image:
    """The whole picture. Pillow refuses a PNG with a comment of a megabyte: it is read without its comments then."""
    try:
        return loaded(content)
    except Exception:
        if not content.startswith(PNG):
            raise
        return loaded(PNG + b"".join(chunk for chunk in chunks(content) if chunk[4:8] not in TEXTS))


def loaded(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()  # a truncated image opens, and fails here
    return image


def chunks(content: bytes) -> Iterator[bytes]:
    """The chunks of a PNG, each with its length, type and check sum; the last one may be truncated."""
    start = len(PNG)
    while start + 8 <= len(content):
        (length,) = struct.unpack_from(">I", content, start)
        yield content[start : start + 12 + length]
        start += 12 + length


def converted(image: Image.Image, mode: str) -> Image.Image:
    """A loaded image, which this may change, as "RGB" or "L". Raises ValueError for pixels of unknown range."""
    kind = image.format
    with suppress(Exception):  # damaged EXIF says nothing of the orientation
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")):  # both hold 16 bits
        wide = np.asarray(image).astype(np.uint32)  # (H, W)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert(mode)
    if image.mode == "F":
        real = np.asarray(image)  # (H, W); NaN is not within the range either
        if real.min() >= 0 and real.max() <= 1:
            return Image.fromarray(np.rint(255 * real).astype(np.uint8)).convert(mode)
    if image.mode in ("I", "F"):
        what = "32-bit integers" if image.mode == "I" else "floating-point numbers not from 0 to 1,"
        raise ValueError(f"its pixels are {what} of unknown range; save it with 8 or 16 bits a channel")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert(mode)
