"""What goes into a network: the kinds of input, and how one network's input becomes another's."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

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
    """

    channels: int
    size: int
    normalization: Normalization
    resize: int | None = None

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

    def change_to(self, other: "Images") -> tuple[Tensor, Tensor] | None:
        """scale, shift (C, 1, 1) that turn inputs of this kind into the other's, None where they are the same."""
        return None if self.normalization == other.normalization else self.normalization.change_to(other.normalization)


def inputs_of(record: Mapping[str, Any], where: str) -> Images:
    """The inputs that a record describes. Raises UserError, which starts with `where`, for anything else."""
    try:
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
