"""Pictures as networks take them, for `onebit run`, `Model.predict` and evaluation: needs Pillow, not PyTorch."""

import math
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from onebit.errors import UserError
from onebit.runtime.answers import Frame
from onebit.runtime.contents import content_of
from onebit.runtime.decoding import Image, converted, decode
from onebit.runtime.folders import Found, walk
from onebit.runtime.network import Network

MANY = 64  # read at a time
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
LONG = 8  # times as long as wide: from here on a picture is not enlarged as a whole
ARRAYS = "(H, W, C) with 1, 3 or 4 channels, or (H, W)"


def find(paths: Sequence[str]) -> list[Found]:
    """Image files among files and folders (searched with their subfolders), in order; those named are taken as they are."""
    found: list[Found] = []
    for path in (str(Path(path)) if path else "" for path in paths):
        if os.path.isdir(path):
            nothing = Found(path, f"it holds no image files ({', '.join(SUFFIXES)})")
            found += [file._replace(root=path) for file in walk(path, SUFFIXES)] or [nothing]
        else:
            found.append(
                Found(
                    path,
                    ""
                    if os.path.lexists(path)
                    else "it does not exist; give image files or folders"
                    if path
                    else "its name is empty",
                )
            )
    return found


def check_model(model: Network) -> None:
    """Refuse a network that takes no pictures."""
    if model.input_shape[0] not in (1, 3):
        raise UserError(f"{model.name} takes images of {model.input_shape[0]} channels; image files have 1 or 3")


class Seen(NamedTuple):
    """A picture as a network sees it.

    pixels   uint8 (H, W, C)
    frame    the part of the upright picture that they show: x1 y1 x2 y2 in its pixels
    """

    pixels: np.ndarray
    frame: Frame


def opened(file: Found, model: Network) -> Seen:
    """`seen`, of a file that was found."""
    if file.problem:
        raise UserError(f"{file.path} cannot be read as an image: {file.problem}")
    return seen(file.path, model)


def groups(inputs: Sequence[Seen]) -> list[list[int]]:
    """Numbers of those that run together: all."""
    return [[*range(len(inputs))]] if inputs else []


def given(inputs: Sequence[Seen], model: Network) -> list[np.ndarray]:
    """Pictures as a call takes them: uint8 (B, H, W, C)."""
    return [np.stack([source.pixels for source in inputs])]


def frame(source: Seen) -> Frame:
    return source.frame


def read(source: Any, model: Network) -> np.ndarray:
    """The pixels of `seen`."""
    return seen(source, model).pixels


def seen(source: Any, model: Network) -> Seen:
    """A picture as the network was evaluated on.

    source    a path, the bytes of an image file, a Pillow image, or an array uint8 (H, W, C) or (H, W)

    Raises UserError, which starts with the path if there is one, for what cannot be read.
    """
    channels, height, width = model.input_shape
    if isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.shape == (height, width, channels):
        return Seen(source, (0, 0, width, height))
    check_model(model)
    picture = upright(source, "L" if channels == 1 else "RGB")
    pixels = np.asarray(cut(picture, height, width, model.resize), np.uint8)
    pixels = pixels.reshape(height, width, channels)  # grey images have no last axis yet
    return Seen(pixels, shown(picture.size, height, width, model.resize))


def upright(source: Any, mode: str) -> Image.Image:
    """The whole picture as "RGB" or "L", turned as its EXIF says. Raises UserError."""
    if not isinstance(source, bytes | str | os.PathLike):
        return picture_of(source, mode)
    try:
        return decode(source if isinstance(source, bytes) else content_of(source), mode)
    except (OSError, ValueError) as error:
        what = f"{len(source)} bytes" if isinstance(source, bytes) else os.fspath(source)
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{what} cannot be read as an image: {reason}") from error


def picture_of(source: Any, mode: str) -> Image.Image:
    """A Pillow image, or pixels uint8 (H, W, C), as "RGB" or "L". Raises UserError."""
    if isinstance(source, Image.Image):
        copy = source.copy()
        copy.format = source.format
        try:
            return converted(copy, mode)
        except ValueError as error:
            raise UserError(f"the image cannot be used: {error}") from error
    if not hasattr(source, "__array__"):
        raise UserError(
            f"a picture is a path, the bytes of an image file, a Pillow image or an array, got {type(source).__name__}"
        )
    pixels = np.asarray(source)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype != np.uint8:
        raise UserError(f"arrays of pixels must be uint8, 0 to 255, got {pixels.dtype}; call the model for others")
    if not pixels.size or (pixels.ndim != 2 and (pixels.ndim != 3 or pixels.shape[2] not in (3, 4))):
        raise UserError(f"arrays of pixels must be {ARRAYS}, got {pixels.shape}")
    return converted(Image.fromarray(pixels), mode)


def cut(picture: Image.Image, height: int, width: int, resize: int | None) -> Image.Image:
    """The picture at the size of the network.

    The shorter side is resized to `resize` pixels (bilinear, antialiased) and the centre cut out, rounded as torchvision's
    Resize and CenterCrop: the ImageNet protocol. Without `resize` the whole picture is resized. Of pictures LONG times as
    long as wide only the part that is cut out is resized. Pillow takes its place as float32 and rounds after each
    direction: values may differ by 2.
    """
    if resize is None:
        if picture.size == (width, height):
            return picture
        return picture.resize((width, height), Image.Resampling.BILINEAR)
    scaled, left, top = centred(picture.size, height, width, resize)
    if max(picture.size) < LONG * min(picture.size):
        whole = picture.resize(scaled, Image.Resampling.BILINEAR)
        return whole.crop((left, top, left + width, top + height))
    x, right, columns = stretch(picture.width, scaled[0], left, width)
    y, bottom, rows = stretch(picture.height, scaled[1], top, height)
    part = picture.crop((columns[0], rows[0], columns[1], rows[1]))
    return part.resize((width, height), Image.Resampling.BILINEAR, (x, y, right, bottom))


def centred(size: tuple[int, int], height: int, width: int, resize: int) -> tuple[tuple[int, int], int, int]:
    """((width, height) of the resized picture, where the centre begins: left, top)."""
    short = min(size)
    scaled = (max(width, resize * size[0] // short), max(height, resize * size[1] // short))
    return scaled, round((scaled[0] - width) / 2), round((scaled[1] - height) / 2)


def shown(size: tuple[int, int], height: int, width: int, resize: int | None) -> Frame:
    """The part of a picture of a size (width, height) that `cut` leaves, in its pixels."""
    if resize is None:
        return 0, 0, *size
    scaled, left, top = centred(size, height, width, resize)
    across, down = size[0] / scaled[0], size[1] / scaled[1]
    return left * across, top * down, (left + width) * across, (top + height) * down


def stretch(length: int, scaled: int, first: int, count: int) -> tuple[float, float, tuple[int, int]]:
    """Of `length` pixels that become `scaled` ones, of which `count` from `first` are wanted: the pixels that those depend
    on, from and to, and where in them the wanted ones begin and end."""
    ratio = Fraction(length, scaled)
    margin = (
        math.ceil(max(ratio, Fraction(1))) + 1
    )  # what a bilinear filter sees beyond the end, and a pixel for rounding
    begin, end = first * ratio, (first + count) * ratio
    start, stop = max(0, math.floor(begin) - margin), min(length, math.ceil(end) + margin)
    return float(begin - start), float(end - start), (start, stop)
