"""SIGTERM and SIGINT end a training after the step, or the batch of an evaluation, in progress, with a checkpoint."""

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any

import torch
from lightning_fabric import Fabric

from onebit.data.dataset import Batch
from onebit.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """A context manager: inside, the first signal is remembered, a second one raises Stopped where it arrives.

    Only the main thread of a process can receive signals; elsewhere the context manager does nothing.
    """

    def __enter__(self) -> "Stop":
        self.signal = 0
        self.process = os.getpid()
        main = threading.current_thread() is threading.main_thread()
        self.before: dict[signal.Signals, Any] = {s: signal.signal(s, self.receive) for s in SIGNALS} if main else {}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # a forked process that decodes images, before it has handlers of its own
            return
        if self.signal:
            raise Stopped("stopped at once; the last checkpoint is kept, continue with --resume", number)
        self.signal = number

    def agreed(self, fabric: Fabric, synchronizes: bool) -> int:
        """The signal that any rank has received, 0 if none; every rank gives the same answer.

        With several ranks it is exchanged only where the caller waits for the device anyway (`synchronizes`).
        """
        if fabric.world_size == 1:
            return self.signal
        if not synchronizes:
            return 0
        highest = fabric.all_reduce(torch.tensor(self.signal, device=fabric.device), reduce_op="max")
        return int(highest)  # type: ignore[arg-type]

    def between(self, batches: Iterable[Batch], fabric: Fabric) -> Iterator[Batch]:
        """The batches of this rank, of which the ranks may have different numbers (a collective operation).

        Raises Interrupted on all ranks, before the next batch, where any of them has received a signal.
        """
        iterator, more = iter(batches), True
        while more:
            batch = next(iterator, None)
            number, more = self.signal, batch is not None
            if fabric.world_size > 1:
                state = torch.tensor([number, more], device=fabric.device)
                highest: Any = fabric.all_reduce(state, reduce_op="max")
                number, more = highest.tolist()
            if number:
                raise Interrupted(number)
            if batch is not None:
                yield batch


class Interrupted(Exception):
    """A signal has come in the middle of an evaluation."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number
