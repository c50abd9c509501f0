"""A checkpoint's network as a packed file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onebit.checkpoints.checkpoint import Checkpoint
from onebit.errors import UserError
from onebit.packing.pack import pack
from onebit.tasks import TASKS


def pack_checkpoint(
    checkpoint: Checkpoint, out: str | Path, int8: bool = False, labels: Sequence[str] | None = None
) -> dict[str, Any]:
    """Write the network, with its averaged weights where there are some; returns what `onebit.pack` returns.

    labels   other names than the checkpoint's, in the same order

    Raises UserError where the checkpoint does not say how its inputs are normalised, and as `onebit.pack` does.
    """
    inputs, task = checkpoint.inputs, checkpoint.task
    if inputs is None:
        raise UserError(
            f"{checkpoint.where} does not say how its inputs are normalised; pack the model with onebit.pack(mean=, std=)"
        )
    return pack(
        checkpoint.network(),
        out,
        mean=inputs.normalization.mean,
        std=inputs.normalization.std,
        resize=inputs.resize,
        labels=task["labels"] if labels is None else labels,
        task=task["name"],
        answer=TASKS[task["name"]].answer,
        scores=checkpoint.scores,
        recipe=checkpoint.source,
        int8=int8,
    )
