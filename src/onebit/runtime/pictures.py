"""Image files as networks take them, for `onebit run`: needs Pillow and the runtime, not PyTorch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from onebit.errors import UserError
from onebit.runtime import Model

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def find(paths: Sequence[str]) -> list[Path]:
    """Image files among files and folders (searched with their subfolders), in order."""
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise UserError(f"{path} holds no image files ({', '.join(sorted(SUFFIXES))})")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"{path} does not exist; give image files or folders")
    return found


def read(path: Path, model: Model) -> np.ndarray:
    """An image as the network was evaluated on: uint8 (H, W, C).

    The shorter side is resized to `resize` of the file and the centre cut out (the ImageNet protocol); without `resize`
    the image is resized to the network's input.
    """
    channels, height, width = model.input_shape
    if channels not in (1, 3):
        raise UserError(f"{model.name} takes images of {channels} channels; image files have 1 or 3")
    try:
        with Image.open(path) as image:
            picture = image.convert("L" if channels == 1 else "RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as an image: {error}") from error
    resize = model.graph["input"].get("resize")
    if resize is None:
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    else:
        short = min(picture.size)  # rounded as torchvision's Resize and CenterCrop, with which networks are evaluated
        scaled = (max(width, resize * picture.width // short), max(height, resize * picture.height // short))
        left, top = round((scaled[0] - width) / 2), round((scaled[1] - height) / 2)
        picture = picture.resize(scaled, Image.Resampling.BILINEAR).crop((left, top, left + width, top + height))
    pixels = np.asarray(picture, np.uint8)
    return pixels.reshape(height, width, channels)  # grey images have no last axis yet
