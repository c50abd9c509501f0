"""What a checkpoint holds, for `onebit info`."""

from pathlib import Path
from typing import Any

from onebit.checkpoints import checkpoint
from onebit.errors import UserError
from onebit.models.summary import summary
from onebit.nn.layers import float32_bytes
from onebit.runtime.layers import Summary


def describe(path: str | Path) -> dict[str, Any]:
    """Architecture, progress, numbers of parameters and sizes in bytes. Raises UserError for what is no checkpoint."""
    saved = checkpoint.load(path)
    model = saved.network()
    # rows of words count, too, which are no product
    binary: list[Any] = [layer for layer in model.modules() if getattr(layer, "weight_binarizer", None) is not None]
    return {
        "file": str(path),
        "kind": "checkpoint",
        "task": saved.task["name"],
        **{key: saved.config.get(key) for key in ("name", "method", "options", "structure", "classes")},
        "binarize": saved.config.get("binarize", "both"),
        "epoch": None if saved.progress is None else saved.progress.epoch,
        **(saved.scores or {}),
        "parameters": sum(p.numel() for p in model.parameters()),
        "binary_weights": sum(layer.weight.numel() for layer in binary),
        "bytes": Path(path).stat().st_size,
        "float32_bytes": float32_bytes(model),
    }


def layers(path: str | Path) -> Summary:
    """The table of the checkpoint's layers (`onebit.summary`), for inputs as it was trained on. UserError where nobody knows
    those."""
    saved = checkpoint.load(path)
    model = saved.network()
    if saved.inputs is None and "image_size" not in saved.config:
        raise UserError(f"{path}: nobody knows what goes into the network; leave --layers out")
    return summary(model, example_input=None if saved.inputs is None else saved.inputs.blank(1))
