"""How well boxes are found: COCO's average precision (faster-coco-eval through torchmetrics) and VOC's, of all images.

    map_50         COCO's, at an IoU of 0.5: precision at 101 recalls, the mean over classes
    map            the mean of the same over IoUs of 0.50, 0.55, ... 0.95
    voc07_map_50   VOC 2007's: precision at the 11 recalls 0, 0.1, ... 1
    voc_map_50     VOC 2010's: the area under the curve of precision over recall

Precision at a recall is the best at that recall or a higher one. COCO counts up to 100 boxes of an image, VOC all. A box may be
found in a difficult object as often as it likes, which counts neither way; so may one in a crowd, of which COCO takes the
share of the found box that lies inside for the IoU.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from torchvision.ops import box_iou

from onebit.data.boxes import Boxes
from onebit.tasks.found import Found

SCORES = ("map_50", "map", "voc07_map_50", "voc_map_50")
IOU = 0.5


class AveragePrecision(Metric):
    """The scores of SCORES in [0, 1], of what `read` makes of a network's outputs.

    State: a row of float64 for each box, so that processes and resumed epochs can be joined.

        images    image
        targets   image, label, difficult, crowd, x1, y1, x2, y2
        answers   image, label, score, x1, y1, x2, y2
    """

    full_state_update = False
    images: Any
    targets: Any
    answers: Any

    def __init__(self, read: Callable[[Any], Sequence[Found]]):
        super().__init__()
        self.read = read
        for name in ("images", "targets", "answers"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, outputs: Any, targets: Sequence[Boxes]) -> None:
        for found, target in zip(self.read(outputs), targets, strict=True):
            self.images.append(torch.tensor([target.image], dtype=torch.float64, device=self.device))
            marks = (target.labels, target.difficult, target.crowd)
            self.targets.append(rows(target.image, marks, target.boxes).to(self.device))
            self.answers.append(rows(target.image, (found.labels, found.scores), found.boxes).to(self.device))

    def compute(self) -> dict[str, Tensor]:
        if not len(self.images):
            return {name: torch.tensor(torch.nan) for name in SCORES}
        images = dim_zero_cat(self.images).unique().tolist()
        targets, answers = dim_zero_cat(self.targets).cpu(), dim_zero_cat(self.answers).cpu()
        return coco(images, targets, answers) | voc(targets, answers)


def rows(image: int, marks: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """float64 (N, 1 + marks + 4)."""
    columns = [torch.full((len(boxes), 1), float(image), dtype=torch.float64, device=boxes.device)]
    return torch.cat([*columns, *(mark[:, None].double() for mark in marks), boxes.double()], 1)


def coco(images: Sequence[float], targets: Tensor, answers: Tensor) -> dict[str, Tensor]:
    """{"map_50", "map"}: difficult objects are crowds to COCO, which knows no others that do not count."""
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(backend="faster_coco_eval")
    metric.warn_on_many_detections = False  # of which it counts 100, as COCO does
    for image in images:
        found, there = answers[answers[:, 0] == image], targets[targets[:, 0] == image]
        metric.update(
            [{"boxes": found[:, 3:].float(), "labels": found[:, 1].long(), "scores": found[:, 2].float()}],
            [
                {
                    "boxes": there[:, 4:].float(),
                    "labels": there[:, 1].long(),
                    "iscrowd": (there[:, 2] + there[:, 3]).clamp(max=1).long(),
                }
            ],
        )
    result = metric.compute()
    return {name: result[name].double().clamp(min=0) for name in ("map_50", "map")}


def voc(targets: Tensor, answers: Tensor) -> dict[str, Tensor]:
    """{"voc07_map_50", "voc_map_50"}: means over the labels that objects have which count."""
    counted = targets[(targets[:, 2] + targets[:, 3]) == 0]
    labels = counted[:, 1].unique()
    if not len(labels):
        return {name: torch.tensor(0.0, dtype=torch.float64) for name in ("voc07_map_50", "voc_map_50")}
    pairs = [curve(targets[targets[:, 1] == label], answers[answers[:, 1] == label]) for label in labels]
    return {
        "voc07_map_50": torch.stack([eleven_points(*pair) for pair in pairs]).mean(),
        "voc_map_50": torch.stack([area(*pair) for pair in pairs]).mean(),
    }


def curve(targets: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """(recall, precision) after each of one label's boxes that counts, the best scores first.

    A box is right if the object of its image that it overlaps most is overlapped by IOU or more and no better box has found
    that object; it does not count where that object is difficult or a crowd.
    """
    answers = answers[answers[:, 2].sort(descending=True, stable=True).indices]
    ignored = (targets[:, 2] + targets[:, 3]) > 0
    taken = torch.zeros(len(targets), dtype=torch.bool)
    right, counts = torch.zeros(len(answers)), torch.ones(len(answers), dtype=torch.bool)
    places = {image: torch.nonzero(targets[:, 0] == image)[:, 0] for image in targets[:, 0].unique().tolist()}
    for number, answer in enumerate(answers):
        own = places.get(float(answer[0]))
        if own is None:
            continue
        overlaps = box_iou(answer[None, 3:], targets[own, 4:])[0]
        best = int(overlaps.argmax())
        if overlaps[best] < IOU:
            continue
        place = own[best]
        if ignored[place]:
            counts[number] = False
        elif not taken[place]:
            taken[place], right[number] = True, 1.0
    right = right[counts].double()
    hits = right.cumsum(0)
    return hits / (~ignored).sum(), hits / torch.arange(1, len(right) + 1, dtype=torch.float64)


def eleven_points(recall: Tensor, precision: Tensor) -> Tensor:
    """The mean of the precisions at recalls of 0, 0.1, ... 1."""
    best = [
        precision[recall >= step / 10].max() if (recall >= step / 10).any() else torch.tensor(0.0) for step in range(11)
    ]
    return torch.stack([value.double() for value in best]).mean()


def area(recall: Tensor, precision: Tensor) -> Tensor:
    """The area under the curve, which never rises."""
    envelope = precision.flip(0).cummax(0).values.flip(0) if len(precision) else precision
    steps = recall.diff(prepend=recall.new_zeros(1))
    return (steps * envelope).sum()
