"""Boxes around objects: scores (B, R, K + 1) and offsets (B, R, 4) of R anchors, targets a tuple of `Boxes`.

What an anchor is, and how outputs become boxes, says the network in its `settings` (docs/format.md).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from onebit.data.boxes import Boxes
from onebit.errors import UserError
from onebit.runtime.model import Model
from onebit.tasks.average_precision import SCORES, AveragePrecision
from onebit.tasks.found import Found, found, packed_found
from onebit.tasks.task import Task


class Detection(Task):
    name, answer, running = "detection", "boxes", False

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        raise UserError("the loss of a detector is the network's own: it needs losses(images, targets)")

    def forward(self, model: nn.Module, inputs: Tensor, targets: Any) -> tuple[Tensor | None, Any]:
        """(the sum of the network's own losses, None)."""
        if targets is None:
            return None, None
        losses: dict[str, Tensor] = model.losses(inputs, targets)  # type: ignore[operator]
        return torch.stack([part.float() for part in losses.values()]).sum(), None

    def metrics(self) -> MetricCollection:
        """What `average_precision.SCORES` lists."""
        return MetricCollection({"average_precision": AveragePrecision(self.read)})

    def scores(self) -> tuple[str, ...]:
        return tuple(SCORES)

    def read(self, outputs: Any) -> Sequence[Found]:
        """What is found in each image: of outputs (B, R, ...), or as it is where the engine has read them."""
        return found(outputs, self.settings) if isinstance(outputs, Mapping) else outputs

    def outputs_of(self, packed: Model) -> Callable[[Tensor], Any]:
        return partial(packed_found, packed)

    def random_targets(self, count: int, generator: torch.Generator) -> tuple[Boxes, ...]:
        """Eight boxes an image."""
        made = []
        for image in range(count):
            corners = torch.rand(8, 2, generator=generator) * 200
            boxes = torch.cat([corners, corners + 20 + 60 * torch.rand(8, 2, generator=generator)], 1)
            none = torch.zeros(8, dtype=torch.bool)
            made.append(Boxes(boxes, torch.randint(len(self.labels), (8,), generator=generator), none, none, image))
        return tuple(made)

    def check_labels(self, theirs: Sequence[str] | None, where: str) -> None:
        """Refuse other labels than the data set's: which of its labels a free folder has decides its annotations."""
        if theirs is not None and tuple(theirs) != self.labels:
            raise UserError(
                f"{where} finds {listed(theirs)}, the data set has {listed(self.labels)}; the labels must be the same, in one order: a "
                "folder in VOC's layout takes them from labels.txt, one a line, where it has one"
            )

    def check_outputs(self, outputs: Any, where: str) -> None:
        if isinstance(outputs, Sequence) and all(isinstance(each, Found) for each in outputs):
            return
        columns = len(self.labels) + 1
        if not isinstance(outputs, Mapping) or not {"scores", "offsets"} <= set(outputs):
            raise UserError(f"{where} does not give the scores and offsets of a detector")
        if outputs["scores"].dim() != 3 or outputs["scores"].shape[-1] != columns:
            raise UserError(
                f"{where} tells {outputs['scores'].shape[-1] - 1} classes apart, the data set has {len(self.labels)}"
            )


def listed(labels: Sequence[str]) -> str:
    """The first labels, for a message."""
    return ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
