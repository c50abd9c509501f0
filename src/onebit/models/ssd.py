"""SSD (Liu et al., ECCV 2016): maps of six sizes, on each of which two real 3x3 convolutions say, for every default box, what is
in it and where."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from onebit.data.boxes import Boxes
from onebit.errors import UserError
from onebit.methods.method import Method
from onebit.models import default_boxes
from onebit.models.blocks import binary_conv
from onebit.models.multibox import multibox_loss
from onebit.nn.structure import Structure

# How torchvision's SSD answers, which are the paper's numbers but for its `candidates` (there 400, too) kept per label.
SMALLEST = 257  # pixels of a side: of fewer the last 3x3 window does not fit
ANSWER = {"score": 0.01, "overlap": 0.45, "candidates": 400, "most": 200}


class SSDHeads(nn.Module):
    """Maps -> {"scores" (B, R, classes + 1), "offsets" (B, R, 4)} of the R default boxes; channel 0 of scores is the background.

    channels   of the maps
    """

    def __init__(self, channels: Sequence[int], classes: int):
        super().__init__()
        counts = default_boxes.counts()
        self.columns = classes + 1
        self.scores = nn.ModuleList(nn.Conv2d(c, n * self.columns, 3, padding=1) for c, n in zip(channels, counts))
        self.offsets = nn.ModuleList(nn.Conv2d(c, n * 4, 3, padding=1) for c, n in zip(channels, counts))

    def reset(self) -> None:
        """Weights as torchvision starts them: uniform by Xavier's rule, biases 0."""
        for conv in [*self.scores, *self.offsets]:
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        scores = [boxwise(conv(x), self.columns) for conv, x in zip(self.scores, maps)]
        offsets = [boxwise(conv(x), 4) for conv, x in zip(self.offsets, maps)]
        return {"scores": torch.cat(scores, 1), "offsets": torch.cat(offsets, 1)}


def boxwise(x: Tensor, columns: int) -> Tensor:
    """(B, n · columns, H, W) -> (B, H · W · n, columns): rows, cells, boxes."""
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, columns)


def declare(model: nn.Module, image_size: int, sizes: Sequence[int]) -> None:
    """Give a detector its default boxes on maps of these sides, as the buffer `anchors` and in `settings`, the record of how
    its outputs are read."""
    model.register_buffer("anchors", default_boxes.default_boxes(image_size, sizes), persistent=False)
    model.settings = {  # type: ignore[assignment]
        "size": [image_size, image_size],
        "anchors": default_boxes.settings(image_size, sizes),
        "weights": list(default_boxes.WEIGHTS),
        **ANSWER,
    }


class Extra(nn.Module):
    """A map half as high and wide, or the 3x3 windows of the last ones: a 1x1 convolution, a 3x3 one, each with batch norm and
    nonlinearity: (B, inputs, H, W) -> (B, outputs, H', W'). `last`: without padding and stride."""

    def __init__(self, method: Method, structure: Structure, inputs: int, hidden: int, outputs: int, last: bool):
        super().__init__()
        self.conv1 = binary_conv(method, inputs, hidden, 1)
        self.bn1, self.act1 = nn.BatchNorm2d(hidden), structure.activation(hidden)
        stride, padding = (1, 0) if last else (2, 1)
        self.conv2 = binary_conv(method, hidden, outputs, 3, stride, padding)
        self.bn2, self.act2 = nn.BatchNorm2d(outputs), structure.activation(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        return self.act2(self.bn2(self.conv2(x)))


def sides(image_size: int, halvings: int, windows: int) -> list[int]:
    """Rows of the six maps: the first after three strides of 2, the next after `halvings` more, the last after 3x3 windows without
    padding. Raises UserError for an image for which none is left."""
    rows = [-(-image_size // 8)]
    rows += [-(-image_size // 2 ** (4 + number)) for number in range(halvings)]
    rows += [rows[-1] - 2 * number for number in range(1, windows + 1)]
    if rows[-1] < 1:
        raise UserError(f"image size {image_size} is too small for SSD's six maps; choose {SMALLEST} or more")
    return rows


class SSD(nn.Module):
    """A detector whose subclass gives the sources: images (B, C, S, S) -> what SSDHeads gives."""

    heads: SSDHeads
    anchors: Tensor
    settings: Mapping[str, Any]

    def sources(self, x: Tensor) -> list[Tensor]:
        """The maps that the heads read, the largest first."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.heads(self.sources(images))

    def losses(self, images: Tensor, targets: Sequence[Boxes]) -> dict[str, Tensor]:
        """The parts of the loss of a training step, to be added up."""
        outputs = self(images)
        return multibox_loss(outputs["scores"], outputs["offsets"], self.anchors, targets)
