"""The loss of SSD (Liu et al., ECCV 2016, sec. 2.2) on torchvision's matching and coding of boxes.

A default box belongs to the object that it overlaps most, by an IoU of 0.5 or more, and each object has the box that overlaps
it most; the others are background, of which the 3 per object count that have the largest loss. With N of the batch that belong
to objects

    L = 1/N (Σ_objects smooth_l1(offsets - coded) + Σ_objects cross entropy + Σ_hard background cross entropy)
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, SSDMatcher
from torchvision.ops import box_iou

from onebit.data.boxes import Boxes
from onebit.models.default_boxes import WEIGHTS

IOU = 0.5
NEGATIVES = 3  # of the background for each object


def matched(anchors: Tensor, target: Boxes, coder: BoxCoder) -> tuple[Tensor, Tensor]:
    """(classes int64 (R,) with 0 for the background, coded offsets (R, 4)) of the default boxes (R, 4) in one image."""
    classes = torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
    if not len(target):
        return classes, torch.zeros_like(anchors)
    owners = SSDMatcher(IOU)(box_iou(target.boxes, anchors))  # (R,), below 0 for the background
    found = owners.clamp(min=0)
    offsets = coder.encode_single(target.boxes[found], anchors)
    return torch.where(owners >= 0, target.labels[found] + 1, classes), offsets


@torch.compiler.disable
def multibox_loss(scores: Tensor, offsets: Tensor, anchors: Tensor, targets: Sequence[Boxes]) -> dict[str, Tensor]:
    """{"classes", "boxes"} of scores (B, R, K + 1) and offsets (B, R, 4), in float32."""
    scores, offsets = scores.float(), offsets.float()
    coder = BoxCoder(WEIGHTS)
    pairs = [matched(anchors, target, coder) for target in targets]
    classes, coded = torch.stack([pair[0] for pair in pairs]), torch.stack([pair[1] for pair in pairs])
    objects = classes > 0  # (B, R)
    count = objects.sum().clamp(min=1)
    boxes = F.smooth_l1_loss(offsets[objects], coded[objects], reduction="sum")
    each = F.cross_entropy(scores.flatten(0, 1), classes.flatten(), reduction="none").reshape(classes.shape)  # (B, R)
    background = each.detach().masked_fill(objects, -torch.inf)
    rank = background.argsort(1, descending=True).argsort(1)
    hard = (rank < NEGATIVES * objects.sum(1, keepdim=True)) & ~objects
    return {"classes": each[objects | hard].sum() / count, "boxes": boxes / count}
