"""A run's network as users meet it: packed, run by the engine, timed, and what it answers to the test examples."""

import statistics
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from onebit import runtime
from onebit.analysis.calibration import calibration
from onebit.analysis.examples import Source
from onebit.analysis.runs import Run
from onebit.errors import UserError
from onebit.machine import processor
from onebit.machine.timing import times_ms
from onebit.nn.layers import float32_bytes
from onebit.packing.from_checkpoint import pack_checkpoint
from onebit.runtime.answers import one
from onebit.runtime.examples import made_up
from onebit.tasks.task import outputs_of

SECONDS = 1.0  # of timing


@dataclass
class Answers:
    """Of a classifier, to test examples.

    logits    float32 (N, classes)
    targets   int64 (N,)
    by        what answered: "engine" or "pytorch"
    """

    logits: NDArray[np.float32]
    targets: NDArray[np.int64]
    labels: tuple[str, ...]
    by: str
    source: Source = field(repr=False)

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """softmax of the logits, as `onebit run` gives them: (N, classes)."""
        return one(self.logits)

    @property
    def predicted(self) -> NDArray[np.int64]:
        return self.logits.argmax(1)

    @property
    def accuracy(self) -> float:
        """In percent."""
        return 100 * float((self.predicted == self.targets).mean())

    @cached_property
    def calibration(self) -> dict[str, Any]:
        """`onebit.analysis.calibration` of the answers."""
        return calibration(self.probabilities, self.targets)

    def confusion(self) -> NDArray[np.int64]:
        """(classes, classes): how many examples of the row's class are called the column's."""
        n = len(self.labels)
        return np.bincount(self.targets * n + self.predicted, minlength=n * n).reshape(n, n)

    def hardest(self, count: int) -> NDArray[np.int64]:
        """Indices of the examples whose label gets the least probability, the worst first."""
        own = self.probabilities[np.arange(len(self.targets)), self.targets]
        return np.argsort(own, kind="stable")[:count]


def deploy(
    run: Run, source: Source | None, images: int, threads: int | None = None
) -> tuple[dict[str, Any], Answers | None]:
    """(sizes and speed, answers to `images` test examples, None without data or for another task).

    {"float32_bytes", "packed_bytes", "ms", "ms_q1", "ms_q3", "isa", "processor"}: ms is the median time of one image on one
    thread. What cannot be had is left out, and run.missing says why.
    """
    model = run.saved.network()
    sizes: dict[str, Any] = {"float32_bytes": float32_bytes(model)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.safetensors"
        network: Any = model
        try:
            pack_checkpoint(run.saved, path)
            sizes["packed_bytes"] = path.stat().st_size
            sizes |= speed(runtime.load(path, threads=1))
            packed = runtime.load(path, threads=threads)
            network, by = outputs_of(packed), "engine"
        except UserError as error:
            run.missing.append(f"The network was not packed: {error}.")
            by = "pytorch"
        return sizes, answers(network, source, images, by) if source is not None else None


def speed(packed: runtime.Model) -> dict[str, Any]:
    """The median time of one image, or of a text of as many tokens as the network takes, in ms, with quartiles, in about SECONDS."""
    given = made_up(packed.inputs, 1, np.random.default_rng(0))
    q1, median, q3 = statistics.quantiles(times_ms(lambda: packed(*given), SECONDS), n=4)
    return {"ms": median, "ms_q1": q1, "ms_q3": q3, "isa": packed.isa, "processor": processor.name()}


@torch.inference_mode()
def answers(network: Any, source: Source, images: int, by: str) -> Answers | None:
    """What the network says, None where the task is no classification."""
    if source.task.name != "classification":
        return None
    outputs: list[Tensor] = []
    targets: list[Tensor] = []
    for batch in source.test(images):
        inputs = batch.inputs
        if isinstance(network, nn.Module):
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        outputs.append(network(inputs).float())
        targets.append(batch.targets)
    return Answers(torch.cat(outputs).numpy(), torch.cat(targets).numpy(), tuple(source.task.labels), by, source)
