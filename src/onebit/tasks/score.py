"""How good outputs are: a task's metrics over many batches, of one process or of all, and of a network on a data set."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from onebit.data.dataset import Batch
from onebit.tasks.task import Task

State = dict[str, dict[str, Any]]  # by metric, by name of the metric's state: a tensor, or a list of tensors


class Score:
    """The metrics of a task in percent, by name, over the examples so far. Sums stay on the device until they are read."""

    def __init__(self, task: Task, device: torch.device):
        self.metrics = MetricCollection(dict(task.metrics().items()), compute_groups=False).to(
            device
        )  # no shared states
        self.examples = 0
        self.each: dict[str, Metric] = dict(self.metrics.items(keep_base=True))
        for metric in self.each.values():
            # What all ranks know is asked for explicitly. Read by compute(), set from the constructor's sync_on_compute.
            metric._to_sync = False
            metric.compute_with_cache = False  # which would not notice gather()

    def update(self, outputs: Any, targets: Any) -> None:
        self.metrics.update(outputs, targets)
        self.examples += len(targets)

    def compute(self) -> dict[str, float]:
        """Of this process's examples."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchmetrics warns where a rank had no example
            return {name: 100 * float(value) for name, value in self.metrics.compute().items()}

    def gather(self) -> State:
        """Make the score one of all processes' examples (a collective operation); returns a copy of the metrics' states."""
        for metric in self.each.values():
            metric.sync(of_all_ranks, distributed_available=torch.distributed.is_initialized)
        return {
            name: {
                part: [v.clone() for v in value] if isinstance(value, list) else value.clone()
                for part, value in metric.metric_state.items()
            }
            for name, metric in self.each.items()
        }

    def release(self) -> None:
        """Undo `gather`."""
        for metric in self.each.values():
            if metric._is_synced:
                metric.unsync()

    def load(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Continue from the states that `gather` returned, where a list of several ranks may have become one tensor."""
        for name, metric in self.each.items():
            for part, value in state.get(name, {}).items():
                values = [v.to(metric.device, copy=True) for v in (value if isinstance(value, list) else [value])]
                setattr(metric, part, values if isinstance(getattr(metric, part), list) else values[0])


def of_all_ranks(part: Tensor, group: Any = None) -> list[Tensor]:
    """A state's tensors of all ranks that have one: of a rank without examples nobody knows the type and shape."""
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, part.cpu())
    return [theirs.to(part.device) for theirs in parts if theirs.numel()] or [part]


@torch.inference_mode()
def score_network(
    network: Callable[[Tensor], Any],
    batches: Iterable[Batch],
    task: Task,
    device: torch.device,
    observe: Callable[[Any, Any], None] | None = None,
) -> tuple[dict[str, float], int]:
    """(score in percent by name, examples) of what network answers to the batches of all ranks; `observe` sees the outputs
    and targets of each batch of this rank."""
    score = Score(task, device)
    for batch in batches:
        outputs = network(batch.inputs)
        score.update(outputs, batch.targets)
        if observe is not None:
            observe(outputs, batch.targets)
    score.gather()
    examples = torch.tensor(score.examples, device=device)
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(examples)
    return score.compute(), int(examples)


def score_module(
    model: nn.Module, batches: Iterable[Batch], task: Task, layout: torch.memory_format = torch.channels_last
) -> tuple[dict[str, float], int]:
    """score_network of a module in float32 evaluation mode; it is left in the mode it was in."""
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    try:
        return score_network(model, (batch.laid_out(layout) for batch in batches), task, device)
    finally:
        model.train(training)
