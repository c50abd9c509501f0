"""onebit: neural networks whose weights and activations are one bit.

`import onebit` loads nothing else: `onebit.runtime` needs only numpy and safetensors, all other names need PyTorch
and are imported on first use.
"""

from importlib import import_module
from typing import Any

__all__ = ["methods", "models", "pack", "runtime"]
__version__ = "0.1.0"

_SUBMODULES = ("methods", "models", "runtime")


def __getattr__(name: str) -> Any:
    if name == "pack":
        return import_module("onebit.packing.pack").pack
    if name in _SUBMODULES:
        return import_module(f"onebit.{name}")
    raise AttributeError(f"module 'onebit' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
