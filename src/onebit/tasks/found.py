"""From a detector's outputs to boxes, as torchvision's SSD and Faster R-CNN do it; `onebit.runtime.boxes` does the same without
PyTorch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes

from onebit.runtime import box_settings, boxes
from onebit.runtime.model import Model


@dataclass(frozen=True)
class Found:
    """Boxes (N, 4), x1 y1 x2 y2 in pixels of the network's input, their labels (N,) from 0 on and scores (N,) in [0, 1], the
    best first."""

    boxes: Tensor
    labels: Tensor
    scores: Tensor


def anchors(settings: Mapping[str, Any]) -> Tensor:
    """float32 (R, 4), x1 y1 x2 y2: map by map, row by row, cell by cell, the boxes around each cell's centre."""
    return torch.from_numpy(boxes.anchors(box_settings.parse(settings, "settings")))


@torch.no_grad()
def found(outputs: Mapping[str, Tensor], settings: Mapping[str, Any]) -> list[Found]:
    """What each image shows, of scores (B, R, K + 1), offsets (B, R, 4) or (B, R, 4 (K + 1)), and of detectors in two stages
    proposals (B, R, 4)."""
    scores, offsets = outputs["scores"].float().softmax(-1), outputs["offsets"].float()
    given = outputs.get("proposals")
    around = [anchors(settings).to(scores.device)] * len(scores) if given is None else list(given.float())
    return [found_in(*one, settings) for one in zip(scores, offsets, around)]


def found_in(scores: Tensor, offsets: Tensor, around: Tensor, settings: Mapping[str, Any]) -> Found:
    """Of one image, scores (R, K + 1) as probabilities."""
    coder, (height, width) = BoxCoder(tuple(settings["weights"])), settings["size"]
    columns = scores.shape[1]
    every = coder.decode_single(offsets, around).reshape(len(around), -1, 4)  # (R, 1 or K + 1, 4)
    every = clip_boxes_to_image(every, (height, width))
    kept = []
    for label in range(1, columns):
        places, score = every[:, label if every.shape[1] > 1 else 0], scores[:, label]
        chosen = torch.nonzero(score > settings["score"])[:, 0]
        chosen = chosen[score[chosen].sort(descending=True, stable=True).indices]
        if "smallest" in settings:
            chosen = chosen[remove_small_boxes(places[chosen], settings["smallest"])]
        chosen = chosen[: settings.get("candidates", len(chosen))]
        kept.append((places[chosen], torch.full_like(chosen, label - 1), score[chosen]))
    places, labels, score = (torch.cat(parts) for parts in zip(*kept))
    best = batched_nms(places, score, labels, settings["overlap"])[: settings["most"]]
    return Found(places[best], labels[best], score[best])


def packed_found(packed: Model, inputs: Tensor) -> list[Found]:
    """What a packed detector finds in normalised images (B, C, H, W), by its own record."""
    outputs = packed(np.ascontiguousarray(inputs.numpy()))
    record = box_settings.parse(packed.task.settings, "settings")
    answers = boxes.detections([outputs[name] for name in packed.outputs], record)
    return [Found(*map(torch.from_numpy, (one.boxes, one.labels, one.scores))) for one in answers]
