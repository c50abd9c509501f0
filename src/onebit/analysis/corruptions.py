"""Pictures made worse as ImageNet-C makes them (Hendrycks & Dietterich 2019), by the package imagecorruptions 1.1.2.

A corruption has a name and a severity from 1 to 5. It changes pixels, before any normalisation, and what it draws depends on
(seed, name, severity, index of the picture) alone: not on the batch, the other corruptions, or the number of processes.

The package was written for NumPy 1 and the scikit-image and setuptools of its day, draws from NumPy's global generator (and in
one place from scikit-image's, which nobody can seed), reads a photograph of frost from the disk for every picture, and prints
where a layer comes out a pixel short. So its module `corruptions` is executed here as a private copy, in which six names stand
for what it expects: `pkg_resources` and `scipy.ndimage.interpolation` while it is imported, then `np` (float_, and a seeded
`random`), `sk` and `gaussian` (today's arguments), `cv2` (frost is read and enlarged once), and `print`. Its arithmetic is
as it is, known weaknesses included: its `glass_blur` copies pixels where ImageNet-C's swaps them.
"""

import functools
import signal
import sys
import zlib
from collections.abc import Iterator, Sequence
from importlib import util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from onebit.errors import UserError
from onebit.tables import Table

GROUPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "extra": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),
}
COMMON = tuple(name for group, names in GROUPS.items() if group != "extra" for name in names)  # ImageNet-C's fifteen
NAMES = (*COMMON, *GROUPS["extra"])
SETS = {"common": COMMON, "all": NAMES, **GROUPS}
SEVERITIES = (1, 2, 3, 4, 5)
Condition = tuple[str, int]  # name, severity
SMALLEST = 32  # pixels of a side that the package takes


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """The corruptions that are named, one by one or by a row of SETS, each once. Raises UserError for an unknown name."""
    table: Table[Any] = Table("corruption", {**SETS, **{name: (name,) for name in NAMES}})
    return tuple(dict.fromkeys(name for given in names for name in table[given]))


def check(names: Sequence[str], severities: Sequence[int], shape: Sequence[int]) -> None:
    """Refuse what cannot be done to pictures of `shape` (C, H, W): a UserError."""
    chosen(names)
    if wrong := [severity for severity in severities if severity not in SEVERITIES]:
        raise UserError(f"severity {wrong[0]} does not exist; choose from {', '.join(map(str, SEVERITIES))}")
    channels, height, width = shape
    if channels not in (1, 3):
        raise UserError(f"corruptions are for pictures of 1 or 3 channels, not of {channels}")
    if min(height, width) < SMALLEST:
        raise UserError(
            f"corruptions are defined for pictures of at least {SMALLEST} × {SMALLEST} pixels, these have "
            f"{height} × {width}; choose another data set with --data"
        )


def corrupt(picture: np.ndarray, name: str, severity: int, seed: int, index: int) -> np.ndarray:
    """The picture uint8 (H, W, C), C = 1 or 3, corrupted: the same shape and type.

    A grey picture is corrupted in colour, as the package does, and its luma taken (ITU-R 601, as Pillow has it).
    """
    source = np.random.SeedSequence([seed, zlib.crc32(name.encode()), severity, index])
    library = copy_of_library()
    library.seed(np.random.MT19937(source))
    channels = picture.shape[2]
    colour = Image.fromarray(np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3))))
    # Of liquid that covers nothing, spatter divides 0 by 0: NaN, which is no liquid, not black.
    with np.errstate(invalid="ignore", divide="ignore"):
        made = np.asarray(getattr(library.module, name)(colour, severity))
    if np.issubdtype(made.dtype, np.floating):
        made = np.where(np.isnan(made), np.asarray(colour, made.dtype), made)
    found = made.astype(np.uint8)  # (H, W, 3), values in [0, 255], rounded down as the package does
    if channels == 1:
        found = np.asarray(Image.fromarray(found).convert("L"))[:, :, None]
    return found


def corrupt_all(pictures: np.ndarray, condition: Condition, seed: int, indices: np.ndarray) -> np.ndarray:
    """`corrupt` of pictures uint8 (B, H, W, C), whose indices are (B,)."""
    found = [corrupt(picture, *condition, seed, int(index)) for picture, index in zip(pictures, indices)]
    return np.stack(found)


def prepare() -> None:
    """Of a process that does nothing else: Ctrl-C is for the command, which ends it; OpenCV needs no threads of its own."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


class Library:
    """A private copy of the package's module, and the generators that it draws from."""

    def __init__(self) -> None:
        self.module, self.numpy = imported(), Numpy()
        self.generator: np.random.Generator | None = None
        module: Any = self.module
        module.np = self.numpy
        module.gaussian = functools.partial(gaussian_of_today, module.gaussian)
        module.sk = SimpleNamespace(color=module.sk.color, util=SimpleNamespace(random_noise=self.random_noise))
        module.cv2 = OpenCV(module.cv2)
        module.print = lambda *words: None

    def seed(self, bits: np.random.MT19937) -> None:
        self.numpy.random = Random(bits)
        self.generator = np.random.Generator(bits)

    def random_noise(self, image: np.ndarray, **options: Any) -> np.ndarray:
        from skimage.util import random_noise

        found: np.ndarray = random_noise(image, rng=self.generator, **options)
        return found


class Random(np.random.RandomState):
    """Pairs of integers, which glass_blur draws for every pixel, are drawn by the thousand: a quarter of its time."""

    def __init__(self, bits: np.random.MT19937):
        super().__init__(bits)
        self.pairs: dict[tuple[int, int], Iterator[list[int]]] = {}

    def randint(self, low: int, high: int | None = None, size: Any = None) -> Any:  # type: ignore[override]
        if size != (2,) or high is None:
            return super().randint(low, high, size)
        if (low, high) not in self.pairs:
            self.pairs[low, high] = self.drawn(low, high)
        return next(self.pairs[low, high])

    def drawn(self, low: int, high: int) -> Iterator[list[int]]:
        while True:
            yield from super().randint(low, high, (1024, 2)).tolist()


class Numpy:
    """NumPy as it was before version 2, with a generator of its own."""

    float_ = np.float64
    random: Random

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


class OpenCV:
    """OpenCV that remembers the photographs it has read and enlarged."""

    def __init__(self, module: Any):
        self.module, self.enlarged = module, dict[tuple[int, tuple[int, int]], Any]()
        self.imread = functools.cache(module.imread)  # which keeps the arrays that `enlarged` knows by their identity

    def resize(self, image: np.ndarray, dsize: tuple[int, int], interpolation: int) -> Any:
        key = (id(image), dsize)
        if key not in self.enlarged:
            self.enlarged[key] = self.module.resize(image, dsize=dsize, interpolation=interpolation)
        return self.enlarged[key]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)


def gaussian_of_today(gaussian: Any, image: np.ndarray, sigma: Any, multichannel: bool = False, **options: Any) -> Any:
    """skimage.filters.gaussian with the argument that `channel_axis` has replaced."""
    return gaussian(image, sigma, channel_axis=-1 if multichannel else None, **options)


@functools.cache
def copy_of_library() -> Library:
    return Library()


def imported() -> ModuleType:
    """imagecorruptions/corruptions.py, executed. Raises ModuleNotFoundError where it, or what it needs, is not installed."""
    found = util.find_spec("imagecorruptions")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'imagecorruptions'", name="imagecorruptions")
    from scipy import ndimage

    folder = Path(found.submodule_search_locations[0])
    spec = util.spec_from_file_location("onebit_imagecorruptions", folder / "corruptions.py")
    assert spec is not None and spec.loader is not None
    stand_ins = {
        "pkg_resources": SimpleNamespace(resource_filename=lambda module, name: str(folder / name)),
        "scipy.ndimage.interpolation": SimpleNamespace(map_coordinates=ndimage.map_coordinates),
    }
    before = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)  # type: ignore[arg-type]
    try:
        module = util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        for name, theirs in before.items():
            if theirs is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = theirs
    return module
