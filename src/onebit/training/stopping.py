"""SIGTERM and SIGINT end a training after the step in progress, with a checkpoint."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import torch
from lightning_fabric import Fabric

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
