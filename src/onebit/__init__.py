"""onebit: neural networks whose weights and activations are one bit.

`import onebit` loads nothing else: `onebit.runtime` and the inputs (`Image`, `Tokens`, `Floats`) need only numpy,
all other names need PyTorch and are imported on first use.
"""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onebit import checkpoints as checkpoints
    from onebit import data as data
    from onebit import methods as methods
    from onebit import models as models
    from onebit import nn as nn
    from onebit import runtime as runtime
    from onebit import tasks as tasks
    from onebit.analysis.evaluation import evaluate as evaluate
    from onebit.models.conversion import binarize as binarize
    from onebit.models.summary import summary as summary
    from onebit.nn.layers import after_step as after_step
    from onebit.nn.layers import before_step as before_step
    from onebit.nn.layers import regularization as regularization
    from onebit.nn.layers import set_progress as set_progress
    from onebit.packing.pack import pack as pack
    from onebit.runtime.inputs import Floats as Floats
    from onebit.runtime.inputs import Image as Image
    from onebit.runtime.inputs import Tokens as Tokens
    from onebit.runtime.model import load as load
    from onebit.training.recipe import Recipe as Recipe
    from onebit.training.train import train as train

    __version__: str

PACKAGES = ("checkpoints", "data", "methods", "models", "nn", "runtime", "tasks")
NAMES = {
    "Floats": "onebit.runtime.inputs",
    "Image": "onebit.runtime.inputs",
    "Recipe": "onebit.training.recipe",
    "Tokens": "onebit.runtime.inputs",
    "after_step": "onebit.nn.layers",
    "before_step": "onebit.nn.layers",
    "binarize": "onebit.models.conversion",
    "evaluate": "onebit.analysis.evaluation",
    "load": "onebit.runtime.model",
    "pack": "onebit.packing.pack",
    "regularization": "onebit.nn.layers",
    "set_progress": "onebit.nn.layers",
    "summary": "onebit.models.summary",
    "train": "onebit.training.train",
}


def __getattr__(name: str) -> Any:
    if name in NAMES:
        return getattr(import_module(NAMES[name]), name)
    if name in PACKAGES:
        return import_module(f"onebit.{name}")
    if name == "__version__":
        return metadata.version("onebit")
    raise AttributeError(f"module 'onebit' has no attribute {name!r}; it has {', '.join((*PACKAGES, *NAMES))}")


def __dir__() -> list[str]:
    return sorted([*PACKAGES, *NAMES, "__version__"])
