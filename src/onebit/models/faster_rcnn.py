"""Faster R-CNN (Ren et al. 2015) with a feature pyramid on ResNet-18, wired as IDa-Det's released code wires its one-bit detector.

body        the ImageNet ResNet-18 of the method's structure: a real 7x7 stem, one shortcut around each binary convolution where
            the block is "bireal", real 1x1 downsamples
neck        FPN of binary 3x3 convolutions, five levels of steps 4, 8, 16, 32, 64
first stage a binary 3x3 convolution and PReLU, shared by the levels, real 1x1 layers for logits and offsets of the anchors
            (areas (8 step)^2, ratios 1/2, 1, 2)
second      RoIAlign 7x7 of the first four levels, two linear layers, one for scores and one for offsets: all real, since with
            binary ones nothing is detected at all

Anchors, box coding, matching, sampling and the losses are torchvision's. The four losses are added; IDa-Det multiplies each by 5.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss

from onebit.data.boxes import Boxes
from onebit.errors import UserError
from onebit.methods.method import Method
from onebit.models.architecture import architecture
from onebit.models.blocks import binary_conv, binary_linear, initialize
from onebit.models.fpn import FPN
from onebit.models.resnet import Body, projection
from onebit.models.resnet_imagenet import WIDTHS
from onebit.nn.layers import BinaryLinear
from onebit.nn.proposals import Proposals
from onebit.nn.roi_align import RoIAlign, sides
from onebit.nn.structure import Structure, positive_number

STEPS = (4, 8, 16, 32, 64)
RATIOS = (0.5, 1.0, 2.0)
ANCHOR_SCALE = 8  # sides of square anchors in steps
POOLED = 7
CODING = (10.0, 10.0, 5.0, 5.0)  # weights of the second stage's offsets
MULTIPLE = 32  # of which image sizes are, so that each level of the pyramid has half the size of the one before


class FirstStage(nn.Module):
    """Maps (B, C, H, W) of all levels -> logits (B, N, 1) and offsets (B, N, 4) of all anchors: levels, rows, columns, shapes."""

    def __init__(self, method: Method, channels: int, shapes: int):
        super().__init__()
        self.conv = binary_conv(method, channels, channels, 3, padding=1)
        self.act = nn.PReLU(channels)
        self.logits = nn.Conv2d(channels, shapes, 1)
        self.offsets = nn.Conv2d(channels, 4 * shapes, 1)

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        logits, offsets = [], []
        for x in maps:
            x = self.act(self.conv(x))
            logits.append(self.logits(x).permute(0, 2, 3, 1).reshape(len(x), -1, 1))  # (B, H W shapes, 1)
            offsets.append(self.offsets(x).permute(0, 2, 3, 1).reshape(len(x), -1, 4))  # (B, H W shapes, 4)
        return torch.cat(logits, 1), torch.cat(offsets, 1)


class SecondStage(nn.Module):
    """What the boxes hold, (B, R, I) -> scores (B, R, K + 1) and offsets (B, R, 4 (K + 1)). binary: the method of the two hidden
    layers, None for real ones."""

    def __init__(self, binary: Method | None, inputs: int, hidden: int, classes: int):
        super().__init__()
        self.fc1, self.fc2 = binary_linear(binary, inputs, hidden), binary_linear(binary, hidden, hidden)
        self.act1: nn.Module = nn.ReLU() if binary is None else nn.PReLU(hidden)
        self.act2: nn.Module = nn.ReLU() if binary is None else nn.PReLU(hidden)
        self.scores = nn.Linear(hidden, classes + 1)
        self.offsets = nn.Linear(hidden, 4 * (classes + 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.act2, nn.PReLU):  # whose channels are the second axis
            x = self.act1(self.fc1(x).transpose(1, 2)).transpose(1, 2)
            x = self.act2(self.fc2(x).transpose(1, 2)).transpose(1, 2)
        else:
            x = self.act2(self.fc2(self.act1(self.fc1(x))))
        return self.scores(x), self.offsets(x)


class FasterRCNN(Body):
    """Images (B, C, S, S) -> {"scores": (B, R, K + 1), "offsets": (B, R, 4 (K + 1)), "proposals": (B, R, 4)}.

    Channel 0 of the scores is the background, 1 + c label c; offsets come class by class. Proposals are in pixels of the input,
    rows that are none all 0. `losses` is what training minimises; `settings` how boxes are made of the outputs.
    """

    def __init__(
        self,
        method: Method,
        structure: Structure,
        classes: int,
        in_channels: int,
        image_size: int,
        channels: int,
        hidden: int,
        counts: dict[str, tuple[int, int]],
        samples: int,
        binary_heads: bool,
        loss_scale: float,
    ):
        super().__init__(method, structure, WIDTHS, (2, 2, 2, 2), projection, in_channels, stem=7)
        self.neck = FPN(method, WIDTHS, channels)
        self.first = FirstStage(method, channels, len(RATIOS))
        grids = [-(-image_size // step) for step in STEPS]
        sizes = [float(ANCHOR_SCALE * step) for step in STEPS]
        self.proposals, self.training_proposals = (
            Proposals(image_size, grids, STEPS, sizes, RATIOS, *counts[use]) for use in ("testing", "training")
        )
        self.pools = nn.ModuleList(
            RoIAlign(1 / step, low, high, POOLED) for step, (low, high) in zip(STEPS, sides(STEPS[:-1]))
        )
        self.second = SecondStage(method if binary_heads else None, POOLED**2 * channels, hidden, classes)
        # Only its functions are used; it has no parameters.
        self.rules = RoIHeads(None, None, None, 0.5, 0.5, samples, 0.25, CODING, 0.05, 0.5, 100)
        self.loss_scale = loss_scale
        self.settings: dict[str, Any] = {
            "size": [image_size, image_size],
            "weights": list(CODING),
            "score": self.rules.score_thresh,
            "overlap": self.rules.nms_thresh,
            "smallest": 0.01,
            "most": self.rules.detections_per_img,
        }
        self.warning = (
            "binary_heads = true: the hidden layers of the second stage are binary, too; with such heads others detected nothing"
            if any(isinstance(layer, BinaryLinear) for layer in self.second.modules())
            else ""
        )
        self._initialize(structure)

    def _initialize(self, structure: Structure) -> None:
        """Convolutions as the classifier's; real linear layers from He's uniform, last layers small, as the detectors of others."""
        initialize(self, structure, "fan_out")
        for layer in (self.second.fc1, self.second.fc2):
            if not isinstance(layer, BinaryLinear):
                nn.init.kaiming_uniform_(layer.weight, a=1)
                nn.init.zeros_(layer.bias)
        for head, std in (
            (self.first.logits, 0.01),
            (self.first.offsets, 0.01),
            (self.second.scores, 0.01),
            (self.second.offsets, 0.001),
        ):
            nn.init.normal_(head.weight, std=std)
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.neck(self.maps(images))
        proposals = self.proposals(*self.first(maps))  # (B, R, 4)
        scores, offsets = self.second(self._pooled(proposals, maps))
        return {"scores": scores, "offsets": offsets, "proposals": proposals}

    @torch.compiler.disable
    def _pooled(self, boxes: Tensor, maps: list[Tensor]) -> Tensor:
        """(B, R, 4) -> (B, R, 7 7 C): each box from the level of its size."""
        first, *others = (pool(boxes, x) for pool, x in zip(self.pools, maps))
        for other in others:
            first = first + other
        return first

    def losses(self, images: Tensor, targets: Sequence[Boxes]) -> dict[str, Tensor]:
        """Of the first stage: binary cross entropy of logits, smooth L1 (beta 1/9) of offsets, over 256 sampled anchors an image;
        of the second: cross entropy of scores, smooth L1 of the right label's offsets, over `samples` boxes, among which the true
        ones are. In float32, each times loss_scale."""
        maps = self.neck(self.maps(images))
        first, rows, real, labels, aims = self._sampled(*self.first(maps), targets)
        scores, offsets = self.second(self._pooled(rows, maps))  # (B, samples, ...)
        classes, boxes = fastrcnn_loss(scores[real].float(), offsets[real].float(), labels, aims)
        losses = {**first, "classes": classes, "boxes": boxes}
        return {name: self.loss_scale * loss for name, loss in losses.items()}

    @torch.compiler.disable
    def _sampled(self, logits: Tensor, offsets: Tensor, targets: Sequence[Boxes]) -> tuple[Any, ...]:
        """The first stage's losses, and what the second learns from: boxes (B, n, 4), which of the rows are some (B, n), and
        of those, image by image, the labels and the coded offsets."""
        logits, offsets = logits.float(), offsets.float()  # bfloat16 would round the losses
        truth = [{"boxes": target.boxes, "labels": target.labels + 1} for target in targets]
        rules, anchors = self.training_proposals.rules, [self.training_proposals.anchors] * len(truth)
        kinds, matched = rules.assign_targets_to_anchors(anchors, truth)
        wanted = rules.box_coder.encode(matched, anchors)
        objects, proposals = rules.compute_loss(logits, offsets.reshape(-1, 4), kinds, wanted)
        found = [image[image[:, 2] > image[:, 0]] for image in self.training_proposals(logits, offsets)]
        chosen, _, labels, aims = self.rules.select_training_samples(found, truth)
        rows = nn.utils.rnn.pad_sequence(list(chosen), batch_first=True)  # (B, n, 4)
        counts = torch.tensor([len(image) for image in chosen], device=rows.device)
        real = torch.arange(rows.shape[1], device=rows.device) < counts[:, None]  # (B, n)
        return {"objects": objects, "proposals": proposals}, rows, real, labels, aims


@architecture("residual_imagenet", task="detection")
def fasterrcnn_resnet18_fpn(
    method: Method,
    structure: Structure,
    *,
    classes: int = 10,
    in_channels: int = 3,
    image_size: int = 320,
    channels: int = 256,
    hidden: int = 1024,
    candidates: int = 1000,
    proposals: int = 1000,
    training_candidates: int = 2000,
    training_proposals: int = 2000,
    samples: int = 512,
    binary_heads: bool = False,
    loss_scale: float = 1.0,
) -> FasterRCNN:
    """channels: of the pyramid; hidden: of the second stage's linear layers; candidates: of each level before suppression;
    proposals: R; both also in training; samples: boxes of an image that the second stage's losses are of.

    Raises UserError for an image size that is no multiple of 32, counts below 1 and a loss_scale that is not above 0.
    """
    given = {
        **{"channels": channels, "hidden": hidden, "candidates": candidates, "proposals": proposals},
        **{"training_candidates": training_candidates, "training_proposals": training_proposals, "samples": samples},
    }
    for name, value in given.items():
        if type(value) is not int or value < 1:
            raise UserError(f"fasterrcnn_resnet18_fpn: {name} = {value!r} must be a whole number of 1 or more")
    if type(binary_heads) is not bool:
        raise UserError(f"fasterrcnn_resnet18_fpn: binary_heads = {binary_heads!r} must be true or false")
    positive_number("fasterrcnn_resnet18_fpn", "loss_scale", loss_scale)
    if image_size % MULTIPLE:
        raise UserError(
            f"fasterrcnn_resnet18_fpn: image size {image_size} is not a multiple of {MULTIPLE}; choose "
            f"{-(-image_size // MULTIPLE) * MULTIPLE}"
        )
    counts = {"testing": (candidates, proposals), "training": (training_candidates, training_proposals)}
    return FasterRCNN(
        method,
        structure,
        classes,
        in_channels,
        image_size,
        channels,
        hidden,
        counts,
        samples,
        binary_heads,
        float(loss_scale),
    )
