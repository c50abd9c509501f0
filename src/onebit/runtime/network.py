"""What reading and answering need of a loaded network: `onebit.runtime.model.Model` is one."""

from typing import Protocol

import numpy as np

from onebit.runtime.graph import TaskRecord


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
    def labels(self) -> tuple[str, ...] | None: ...

    @property
    def task(self) -> TaskRecord: ...

    def __call__(self, images: np.ndarray) -> np.ndarray: ...
