"""Scores of a checkpoint in PyTorch, or of a packed file in the engine, on a data set's test examples."""

import time
from typing import Any

import torch
from torch import Tensor

from onebit.analysis.calibration import Calibration
from onebit.analysis.subject import Subject, opened
from onebit.data.loading.workers import deaths_explained
from onebit.runtime.answers import one
from onebit.tasks.score import score_network


@deaths_explained()
def evaluate(
    path: str,
    name: str,
    root: str,
    *,
    checkpoint: bool,
    download: bool = False,
    batch_size: int = 100,
    threads: int | None = None,
    isa: str | None = None,
    backend: str = "auto",
    limit: int | None = None,
    glue: str | None = None,
) -> dict[str, Any]:
    """Evaluate the file `path` on the data set `name` in `root`, or on `limit` of its test examples, evenly spaced. `glue`: a task
    of the data set glue beside the network's own.

    Returns its scores in percent by name, and {"examples", "of_examples", "runtime", "seconds", "model", "method"}; of a network
    whose answer is one label also "calibration", what `calibration.calibration` returns. Raises UserError for a model that does
    not fit the data.
    """
    subject = opened(
        path, name, root, checkpoint=checkpoint, download=download, threads=threads, isa=isa, backend=backend, glue=glue
    )
    return scored(subject, batch_size, limit)


def scored(subject: Subject, batch_size: int, limit: int | None = None) -> dict[str, Any]:
    """What `evaluate` returns."""
    began, total = time.perf_counter(), len(subject.test)
    subject = subject.limited(limit)
    calibration = Calibration()
    answer = subject.task.answer

    def observe(outputs: Tensor, targets: Tensor) -> None:
        calibration.update(one(outputs.float().numpy()), targets.numpy())

    scores, examples = score_network(
        subject.network,
        subject.batches(batch_size),
        subject.task,
        torch.device("cpu"),
        observe if answer == "one" else None,
    )
    rounded = {key: round(value, 4) for key, value in scores.items()}
    return {
        **rounded,
        "scores": list(rounded),
        **({"calibration": calibration.record()} if answer == "one" else {}),
        "examples": examples,
        "of_examples": total,
        "runtime": subject.runtime,
        "seconds": round(time.perf_counter() - began, 2),
        **subject.described,
    }
