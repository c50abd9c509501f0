"""What goes into a network: images, tokens and floats, as a file says it and as a caller gives it.

A type is one class here and one row of TYPES. Each has, beside its fields,

    parse, to_dict   its object in the file's JSON
    map              the shape of its value as operators see it, at the default size: (H, W, C), (T, 1, 1), or (C,) of a vector
    checked(value)   what a caller gave, as backends take it; raises UserError
    sizes(array)     the shape, as `map`, of a checked array
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from onebit.errors import FormatError, UserError
from onebit.runtime.fields import MAX_CHANNELS, MAX_SIZE, boolean, fields, integer, name, numbers, optional, show, word

Map = tuple[int, ...]
PIECES, KINDS, MASK = "pieces", "types", "mask"  # what tokens can hold of texts
RAW = 8  # times what normalised pixels can reach: beyond it, values from 0 to 255 are pixels that nobody normalised
MIN_STD = 1e-12


@dataclass(frozen=True)
class Image:
    """Pixels.

    shape      (C, H, W); a network that fits other sizes takes them too
    mean, std  bytes become (byte / 255 - mean) / std; one number per channel. A single number stands for all, () for 0 and 1
    resize     pixels of the shorter side before the centre crop when pictures are read; None: they are resized to H x W
    fixed      whether other sizes are refused: of a network that computes something else there
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: int | None = None
    name: str = "input"
    fixed: bool = False
    type: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        for key, default in (("mean", 0.0), ("std", 1.0)):
            value = getattr(self, key)
            value = default if isinstance(value, tuple) and not value else value
            if type(value) in (int, float) and isinstance(self.shape, tuple | list) and len(self.shape) == 3:
                object.__setattr__(self, key, (float(value),) * self.shape[0])

    @classmethod
    def parse(cls, entry: Any, where: str) -> Image:
        fields(entry, where, {"name", "type", "shape", "mean", "std"}, {"resize", "fixed"})
        shape = _map_shape(entry["shape"], f"{where}: shape")
        std = numbers(entry["std"], shape[0], f"{where}: std")
        if any(abs(value) < MIN_STD for value in std):
            raise FormatError(f"{where}: std must not contain 0, got {show(list(std))}")
        mean = numbers(entry["mean"], shape[0], f"{where}: mean")
        resize = optional(entry.get("resize"), integer(1, MAX_SIZE), f"{where}: resize")
        return cls(shape, mean, std, resize, entry["name"], _fixed(entry, where))

    def to_dict(self) -> dict[str, Any]:
        found = {**_head(self), "shape": list(self.shape), "mean": list(self.mean), "std": list(self.std)}
        return found | ({} if self.resize is None else {"resize": self.resize}) | _tail(self)

    @property
    def map(self) -> Map:
        channels, height, width = self.shape
        return height, width, channels

    def words(self) -> str:
        return f"an image {self.shape}"

    def checked(self, value: Any) -> np.ndarray:
        """uint8 (B, H, W, C), of pixels; or float32 (B, C, H, W), normalised already."""
        images, channels = _array(value, "images"), self.shape[0]
        if images.dtype == np.uint8:
            images = images[None] if images.ndim == 3 else images
            if images.ndim != 4 or images.shape[-1] != channels:
                raise UserError(f"uint8 images must be (B, H, W, {channels}) or (H, W, {channels}), got {images.shape}")
        elif images.dtype == np.float32:
            if images.ndim != 4 or images.shape[1] != channels:
                raise UserError(f"float32 images must be (B, {channels}, H, W), got {images.shape}")
        else:
            raise UserError(f"images must be uint8 (B, H, W, C) or float32 (B, C, H, W), got {images.dtype}")
        if len(images) < 1:
            raise UserError("the batch is empty; give at least one image")
        height, width, _ = self.sizes(images)
        if not (1 <= height <= MAX_SIZE and 1 <= width <= MAX_SIZE):
            raise UserError(f"images of {height} × {width} pixels; height and width must be from 1 to {MAX_SIZE}")
        if images.dtype == np.float32 and self._raw < images.max() <= 255 and images.min() >= 0:  # never true of NaN
            raise UserError(
                f"float32 images must be normalised, (pixel / 255 - mean) / std, got values from {images.min():g} to "
                f"{images.max():g}; give pixels as uint8 (B, H, W, {channels}), or normalise them (model.normalized)"
            )
        return images

    def sizes(self, array: np.ndarray) -> Map:
        rows, columns = (1, 2) if array.dtype == np.uint8 else (2, 3)
        return array.shape[rows], array.shape[columns], self.shape[0]

    def normalized(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, C) -> float32 (B, H, W, C)."""
        return normalized(pixels, np.array(self.mean, np.float32), np.array(self.std, np.float32))

    @cached_property
    def _raw(self) -> float:
        """What normalised pixels cannot reach."""
        if not any(self.mean) and set(self.std) == {1.0}:  # the file does not say how its images are normalised
            return math.inf
        return RAW * max(max(abs(m), abs(1 - m)) / abs(s) for m, s in zip(self.mean, self.std, strict=True))


@dataclass(frozen=True)
class Tokens:
    """Whole numbers from 0 to count - 1, `length` of them; a network that fits other lengths takes them too.

    holds       what makes them of a text: "pieces", numbers of word pieces; "types", 1 for those of the second of two texts, else
                0; "mask", 1 for those that are there, 0 for those that fill up; "" if nothing does
    lowercase   of pieces: whether texts are put in small letters without accents first
    vocabulary  of pieces: all of them, in the order of their numbers. In a file it is a tensor, not part of `to_dict`
    """

    length: int
    count: int
    name: str = "input"
    fixed: bool = False
    holds: str = ""
    lowercase: bool = True
    vocabulary: tuple[str, ...] = field(default=(), repr=False)
    type: ClassVar[str] = "tokens"

    @classmethod
    def parse(cls, entry: Any, where: str) -> Tokens:
        holds = word(PIECES, KINDS, MASK)(entry["holds"], f"{where}: holds") if "holds" in entry else ""
        of_pieces = {"lowercase"} if holds == PIECES else set()
        fields(entry, where, {"name", "type", "length", "count", *of_pieces}, {"fixed", "holds"})
        length = integer(1, MAX_SIZE)(entry["length"], f"{where}: length")
        count = integer(1, MAX_CHANNELS)(entry["count"], f"{where}: count")
        if holds in (KINDS, MASK) and count != 2:
            raise FormatError(f"{where} holds {show(holds)}, so count must be 2, got {count}")
        lowercase = boolean(entry.get("lowercase", True), f"{where}: lowercase")
        return cls(length, count, entry["name"], _fixed(entry, where), holds, lowercase)

    def to_dict(self) -> dict[str, Any]:
        held = {"holds": self.holds} if self.holds else {}
        of_pieces = {"lowercase": self.lowercase} if self.holds == PIECES else {}
        return {**_head(self), "length": self.length, "count": self.count, **held, **of_pieces, **_tail(self)}

    @property
    def map(self) -> Map:
        return self.length, 1, 1

    def words(self) -> str:
        what = "word pieces" if self.holds == PIECES else "tokens"
        return f"{self.length} {what} from 0 to {self.count - 1}"

    def checked(self, value: Any) -> np.ndarray:
        """int32 (B, T), of integers of any type, (B, T) or (T,)."""
        tokens = _array(value, "tokens")
        if tokens.dtype.kind not in "iu":
            raise UserError(f"tokens must be integers, got {tokens.dtype}")
        tokens = tokens[None] if tokens.ndim == 1 else tokens
        if tokens.ndim != 2:
            raise UserError(f"tokens must be (B, T) or (T,), got {tokens.shape}")
        if len(tokens) < 1:
            raise UserError("the batch is empty; give at least one row of tokens")
        if not 1 <= tokens.shape[1] <= MAX_SIZE:
            raise UserError(f"rows of {tokens.shape[1]} tokens; their number must be from 1 to {MAX_SIZE}")
        for found in (int(tokens.min()), int(tokens.max())):
            if not 0 <= found < self.count:
                raise UserError(f"the token {found} is unknown; tokens must be from 0 to {self.count - 1}")
        return np.ascontiguousarray(tokens, np.int32)

    def sizes(self, array: np.ndarray) -> Map:
        return array.shape[1], 1, 1


@dataclass(frozen=True)
class Floats:
    """Numbers as they are: a map, `shape` (C, H, W), of which H and W may differ where the network fits; or a vector (C,)."""

    shape: tuple[int, int, int] | tuple[int]
    name: str = "input"
    fixed: bool = False
    type: ClassVar[str] = "floats"

    @classmethod
    def parse(cls, entry: Any, where: str) -> Floats:
        fields(entry, where, {"name", "type", "shape"}, {"fixed"})
        shape = entry["shape"]
        if isinstance(shape, list | tuple) and len(shape) == 1:
            return cls((integer(1, MAX_CHANNELS)(shape[0], f"{where}: shape"),), entry["name"], _fixed(entry, where))
        return cls(_map_shape(shape, f"{where}: shape"), entry["name"], _fixed(entry, where))

    def to_dict(self) -> dict[str, Any]:
        return {**_head(self), "shape": list(self.shape), **_tail(self)}

    @property
    def map(self) -> Map:
        return self.shape if len(self.shape) == 1 else (*self.shape[1:], self.shape[0])

    def words(self) -> str:
        return f"floats {self.shape}"

    def checked(self, value: Any) -> np.ndarray:
        """float32 (B, C, H, W), or (B, C) or (C,), finite."""
        floats = _array(value, "floats")
        floats = floats[None] if len(self.shape) == 1 and floats.ndim == 1 else floats
        wanted = f"(B, {self.shape[0]}{', H, W' if len(self.shape) == 3 else ''})"
        if floats.dtype != np.float32:
            raise UserError(f"floats must be float32 {wanted}, got {floats.dtype}")
        if floats.ndim != 1 + len(self.shape) or floats.shape[1] != self.shape[0]:
            raise UserError(f"floats must be {wanted}, got {floats.shape}")
        if len(floats) < 1:
            raise UserError(f"the batch is empty; give floats {wanted} with B at least 1")
        if not all(1 <= size <= MAX_SIZE for size in floats.shape[2:]):
            raise UserError(f"floats {floats.shape}: height and width must be from 1 to {MAX_SIZE}")
        if not np.isfinite(floats).all():
            raise UserError("floats contain NaN or infinity; check where they come from")
        return floats

    def sizes(self, array: np.ndarray) -> Map:
        return (*array.shape[2:], array.shape[1])


Input = Image | Tokens | Floats
TYPES: dict[str, type[Image] | type[Tokens] | type[Floats]] = {"image": Image, "tokens": Tokens, "floats": Floats}


def parse(entry: Any, where: str) -> Input:
    """An input of the file's JSON. Raises FormatError."""
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
        raise FormatError(f'{where} must be an object with a string "type", got {show(entry)}')
    if entry["type"] not in TYPES:
        raise FormatError(f"{where} has the unknown type {show(entry['type'])}; known: {', '.join(TYPES)}")
    found = name(entry.get("name"), f"{where}.name")
    return TYPES[entry["type"]].parse(entry, f"input {found!r}")


def normalized(pixels: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """(byte / 255 - mean) / std in float32, one rounding per operation: uint8 (B, H, W, C) -> float32 (B, H, W, C)."""
    return (pixels.astype(np.float32) / np.float32(255) - mean) / std


def _head(source: Input) -> dict[str, Any]:
    return {"name": source.name, "type": source.type}


def _tail(source: Input) -> dict[str, Any]:
    return {"fixed": True} if source.fixed else {}


def _fixed(entry: Any, where: str) -> bool:
    return boolean(entry.get("fixed", False), f"{where}: fixed")


def _map_shape(value: Any, where: str) -> tuple[int, int, int]:
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise FormatError(f"{where} must be [channels, height, width], got {show(value)}")
    channels, height, width = (integer(1, MAX_SIZE)(size, where) for size in value)
    return channels, height, width


def _array(value: Any, what: str) -> np.ndarray:
    if hasattr(value, "__array__"):  # torch tensors and Pillow images too
        try:
            value = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        except (TypeError, ValueError, RuntimeError) as error:  # tensors of types, or places, that numpy has not
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"{what} cannot be made a numpy array: {reason}; give float32, uint8 or integers") from None
    if not isinstance(value, np.ndarray):
        raise UserError(f"{what} must be a numpy array, got {type(value).__name__}")
    return value
