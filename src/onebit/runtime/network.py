"""What reading and answering need of a loaded network: `onebit.runtime.model.Model` is one."""

from typing import Any, Protocol

import numpy as np

from onebit.runtime.graph import TaskRecord
from onebit.runtime.word_pieces import TextForm


class Network(Protocol):
    """Inputs in, outputs (B, ...) out, and how both are read."""

    @property
    def name(self) -> str: ...

    @property
    def input_kind(self) -> str: ...

    @property
    def input_shape(self) -> tuple[int, int, int]: ...

    @property
    def resize(self) -> int | None: ...

    @property
    def texts(self) -> TextForm: ...

    @property
    def labels(self) -> tuple[str, ...] | None: ...

    @property
    def task(self) -> TaskRecord: ...

    @property
    def outputs(self) -> tuple[str, ...]: ...

    def fits(self, *sizes: tuple[int, ...]) -> bool: ...

    def __call__(self, *values: np.ndarray) -> Any: ...


def first_output(model: Network, *values: np.ndarray) -> np.ndarray:
    """The output that the network's task reads, of several the first."""
    found: np.ndarray | dict[str, np.ndarray] = model(*values)
    return found[model.outputs[0]] if isinstance(found, dict) else found
