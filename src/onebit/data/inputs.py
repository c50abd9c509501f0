"""What goes into a network: the kinds of input, images and words, and how one network's input becomes another's."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from onebit.errors import UserError

# ImageNet's statistics: RBNN and AdaBin normalise CIFAR with them too.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Normalization:
    """x = (pixel / 255 - mean) / std per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (B, C, H, W) -> float32, same shape."""
        mean = torch.tensor(self.mean, device=images.device).reshape(-1, 1, 1)
        std = torch.tensor(self.std, device=images.device).reshape(-1, 1, 1)
        return (images.float() / 255 - mean) / std

    def pixels(self, images: Tensor) -> Tensor:
        """float32 (B, C, H, W), normalised -> the uint8 pixels that they were: rounding errors are far below half a pixel."""
        mean, std = (torch.tensor(v, dtype=torch.float64).reshape(-1, 1, 1) for v in (self.mean, self.std))
        return ((images.double() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)

    def change_to(self, other: "Normalization") -> tuple[Tensor, Tensor]:
        """scale, shift (C, 1, 1): scale x + shift is normalised as `other` says, for x normalised as this one says."""
        mean, std, mean_o, std_o = (torch.tensor(v) for v in (self.mean, self.std, other.mean, other.std))
        return (std / std_o).reshape(-1, 1, 1), ((mean - mean_o) / std_o).reshape(-1, 1, 1)


@dataclass(frozen=True)
class Images:
    """Pictures, float32 (B, channels, size, size), normalised.

    resize: shorter side in pixels before the centre crop of evaluation; None where pictures have the network's size
    even: whether all batches are of one size
    """

    channels: int
    size: int
    normalization: Normalization
    resize: int | None = None
    even: ClassVar[bool] = True

    def arguments(self) -> dict[str, Any]:
        """What a network for these inputs is built with: arguments of `models.create`."""
        return {"in_channels": self.channels, "image_size": self.size}

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of one input."""
        return self.channels, self.size, self.size

    def record(self) -> dict[str, Any]:
        """As plain values, for a checkpoint: the inverse of `inputs_of`."""
        return {
            "kind": "image",
            **asdict(self),
            "normalization": {k: list(v) for k, v in asdict(self.normalization).items()},
        }

    def change_to(self, other: "Inputs") -> tuple[Tensor, Tensor] | None:
        """scale, shift (C, 1, 1) that turn inputs of this kind into the other's, None where they are the same."""
        normalization = images(other, "these pictures").normalization
        return None if self.normalization == normalization else self.normalization.change_to(normalization)

    def blank(self, count: int) -> Tensor:
        """`count` inputs of zeros, to try a network on: float32 (count, C, H, W)."""
        return torch.zeros(count, *self.shape)


@dataclass(frozen=True)
class Words:
    """Texts, or pairs of texts, as numbers of word pieces: int64 (B, 3, T), T the tokens of the longest of B, not above `length`.
    Of each, row 0 has the numbers, row 1 is 1 for the tokens of the second text of a pair, row 2 is 1 for all tokens but those
    that fill up a shorter one. One tensor, so that whatever passes batches on need not know; whole numbers, which no training's
    precision rounds.

    vocabulary   word pieces: number i is the i-th (WordPiece, as BERT)
    length       tokens of the longest input, [CLS] and [SEP] included; longer ones are cut
    lowercase    whether texts lose their capitals and accents first
    """

    vocabulary: tuple[str, ...] = field(repr=False)
    length: int
    lowercase: bool = True
    resize: ClassVar[None] = None
    even: ClassVar[bool] = False

    def arguments(self) -> dict[str, Any]:
        """What a network for these inputs is built with: arguments of `models.create`."""
        return {"vocabulary": len(self.vocabulary)}

    @property
    def shape(self) -> tuple[int, ...]:
        """(3, T) of the longest input."""
        return 3, self.length

    def record(self) -> dict[str, Any]:
        """As plain values, for a checkpoint: the inverse of `inputs_of`."""
        return {"kind": "words", **asdict(self), "vocabulary": list(self.vocabulary)}

    def change_to(self, other: "Inputs") -> None:
        """Nothing: numbers of another vocabulary cannot be changed, so UserError where it is another one."""
        if not isinstance(other, Words):
            raise UserError("these texts are for a network of words, not of images; choose another network")
        if (self.vocabulary, self.lowercase) != (other.vocabulary, other.lowercase):
            ours, theirs = (f"{len(w.vocabulary)} words{', lowercase' * w.lowercase}" for w in (self, other))
            raise UserError(
                f"the texts are numbered by a vocabulary of {ours}, the network by another one of {theirs}; name its file with "
                "the key vocabulary"
            )

    def blank(self, count: int) -> Tensor:
        """`count` inputs of the first word alone, to try a network on: int64 (count, 3, length)."""
        inputs = torch.zeros(count, *self.shape, dtype=torch.int64)
        inputs[:, 2] = 1
        return inputs


Inputs = Images | Words


def images(inputs: Inputs, what: str) -> Images:
    """The inputs, which must be images. Raises UserError, which starts with `what`, for others."""
    if not isinstance(inputs, Images):
        raise UserError(f"{what}: this is for networks of images, not of words")
    return inputs


def inputs_of(record: Mapping[str, Any], where: str) -> Inputs:
    """The inputs that a record describes. Raises UserError, which starts with `where`, for anything else."""
    try:
        if record["kind"] == "words":
            return _words(record)
        if record["kind"] != "image":
            raise ValueError(f"kind {record['kind']!r} is unknown")
        channels, size, resize = record["channels"], record["size"], record["resize"]
        mean, std = (tuple(map(float, record["normalization"][key])) for key in ("mean", "std"))
        if not all(type(v) is int and v > 0 for v in (channels, size, 1 if resize is None else resize)):
            raise ValueError("channels, size and resize must be whole numbers above 0")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where}: inputs cannot be read ({error}); it may be of another version") from error
    if not len(mean) == len(std) == channels or 0.0 in std:
        raise UserError(f"{where}: normalization must have {channels} means and stds other than 0")
    return Images(channels, size, Normalization(mean, std), resize)


def _words(record: Mapping[str, Any]) -> Words:
    vocabulary, length, lowercase = record["vocabulary"], record["length"], record["lowercase"]
    if type(vocabulary) is not list or not vocabulary or not all(type(word) is str for word in vocabulary):
        raise ValueError("vocabulary must be texts")
    if type(length) is not int or length < 1 or type(lowercase) is not bool:
        raise ValueError("length must be a whole number above 0, lowercase true or false")
    return Words(tuple(vocabulary), length, lowercase)
