"""A checkpoint's network as a packed file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onebit import tasks
from onebit.checkpoints.checkpoint import Checkpoint
from onebit.data import unread
from onebit.data.inputs import Inputs, Words
from onebit.errors import UserError
from onebit.packing.pack import pack
from onebit.runtime.inputs import Tokens

# Keys of a recipe that say where files lie, how fast they are read, on what and in which parts a training computes.
PLACES = (
    *(
        "download",
        "root",
        "workers",
        "max_corrupt",
        "out",
        "vocabulary",
        "teacher_weights",
        "checkpoint_steps",
        "eval_every",
    ),
    *("accumulate", "compile", "cuda_graphs", "threads", "accelerator", "devices", "num_nodes", "strategy", "timeout"),
    "diagnostics",
)
TEACHING = (
    *(
        "distillation",
        "distillation_weight",
        "distillation_last_weight",
        "distillation_hidden",
        "distillation_similarity",
    ),
    "temperature",
)


def pack_checkpoint(
    checkpoint: Checkpoint, out: str | Path, int8: bool = False, labels: Sequence[str] | None = None
) -> dict[str, Any]:
    """Write the network, with its averaged weights where there are some; returns what `onebit.pack` returns.

    labels   other names than the checkpoint's, in the same order

    Raises UserError where the checkpoint does not say how its inputs are normalised, and as `onebit.pack` does.
    """
    task = checkpoint.task
    if checkpoint.inputs is None:
        raise UserError(
            f"{checkpoint.where} does not say how its inputs are normalised; pack the model with onebit.pack(mean=, std=)"
        )
    return pack(
        checkpoint.network(),
        out,
        **sources(checkpoint.inputs),
        labels=task["labels"] if labels is None else labels,
        task=task["name"],
        answer=tasks.create(task["name"], task["labels"] or ()).answer,
        scores=checkpoint.scores,
        settings=task.get("settings"),
        recipe=checkpoint.source,
        training=training_record(checkpoint),
        int8=int8,
    )


def sources(inputs: Inputs) -> dict[str, Any]:
    """What goes into the network, as `onebit.pack` is told it."""
    if isinstance(inputs, Words):
        count, length = len(inputs.vocabulary), inputs.length
        ids = Tokens(length, count, holds="pieces", lowercase=inputs.lowercase, vocabulary=inputs.vocabulary)
        others = {name: Tokens(length, 2, holds=name) for name in ("types", "mask")}
        return {"inputs": {"ids": ids, **others}}
    normalization = inputs.normalization
    return {"mean": normalization.mean, "std": normalization.std, "resize": inputs.resize}


def training_record(checkpoint: Checkpoint) -> dict[str, float | str]:
    """How the weights came to be: the epochs that are done, seconds, the seed, and the recipe's other keys without those of
    PLACES and those that do nothing here. A key that is left out was 0, false or empty. Of paths the name alone stays. Nothing
    where no training wrote the checkpoint."""
    if (progress := checkpoint.progress) is None:
        return {}
    idle = set(PLACES)
    if checkpoint.inputs is not None:
        idle |= {*unread(checkpoint.task["name"], checkpoint.inputs.resize)}
        if checkpoint.inputs.resize is None:
            idle.add("image_size")
    if not progress.recipe.get("teacher"):
        idle |= set(TEACHING)
    record: dict[str, float | str] = {"epochs_done": progress.epoch, "seconds": round(progress.seconds)}
    for key, value in progress.recipe.items():
        if key in idle or not (value or key == "seed"):
            continue
        if isinstance(value, bool | list | dict):
            record[key] = json.dumps(value)
        else:
            record[key] = Path(value).name if isinstance(value, str) else value
    return record
