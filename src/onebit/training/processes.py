"""The processes of a training end together: where one dies, the others stop, with one line that says which."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

import torch
from lightning_fabric import Fabric

from onebit.errors import Stopped, UserError
from onebit.training.heartbeat import Heartbeat

INTERVAL = 0.2  # seconds between looks at the other processes
GRACE = 3.0  # seconds that the main thread has to notice by itself that a process died
MARK = "ONEBIT_LAUNCHER"  # environment variable: the process that started this one as a further rank
CHILDREN: list[subprocess.Popen[bytes]] = []  # ranks 1, 2, ... of this machine, started by this process


def launch(fabric: Fabric, timeout: float) -> "Processes":
    """Start the ranks of this machine, unless torchrun or SLURM has, and connect all; watch them.

    timeout: seconds without a sign of life of another rank after which the run ends

    Raises UserError for settings that the launcher contradicts.
    """
    started_by = os.environ.get(MARK)
    os.environ[MARK] = str(os.getpid())
    try:
        fabric.launch()
    except ValueError as error:
        raise UserError(f"the processes cannot be started: {' '.join(str(error).split())}") from error
    parent = os.getppid() if fabric.local_rank > 0 and started_by == str(os.getppid()) else None
    started: list[subprocess.Popen[bytes]] = getattr(getattr(fabric.strategy, "launcher", None), "procs", [])
    CHILDREN.extend(started)
    started.clear()  # ends Fabric's own observer, which kills this process without a word when a child dies
    return Processes(fabric, CHILDREN if fabric.world_size > 1 else [], parent, timeout)


class Processes:
    """A context manager around a training.

    A rank that waits for a dead one in a collective operation learns of it at once with gloo and not at all with NCCL. So a
    thread looks after the processes: the launching one after its children, they after it. The main thread has GRACE seconds
    to fail by itself, with its clean-up; then the thread ends the process. A rank that is frozen, or out of reach, on this
    machine or another, is noticed by its heartbeat.

    out: the run folder, for messages, once it is known
    """

    def __init__(self, fabric: Fabric, children: list[subprocess.Popen[bytes]], parent: int | None, timeout: float):
        self.fabric, self.children, self.parent, self.timeout = fabric, children, parent, timeout
        self.closed = threading.Event()
        self.out: Path | None = None
        self.heartbeat: Heartbeat | None = None

    def __enter__(self) -> "Processes":
        if self.fabric.world_size > 1:
            self.heartbeat = Heartbeat(self.fabric, self.timeout)
            threading.Thread(target=self.watch, name="processes", daemon=True).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.closed.set()
        lost = self.fabric.world_size > 1 and isinstance(error, RuntimeError) and lost_contact(error)
        cause = self.cause(GRACE) if lost else None
        if self.heartbeat is not None:
            self.heartbeat.close(ended=error is None)
        if (
            isinstance(error, UserError) and self.fabric.global_rank
        ):  # which the first rank most likely has too, and says
            time.sleep(GRACE)
        if isinstance(error, Stopped):  # they stop too
            self.wait(GRACE)
        if error is not None:
            self.kill()
        if lost:
            cause = cause or "another process of this run ended, or its connection was lost"
            raise UserError(f"{cause}; {self.remedy()}") from error

    def remedy(self) -> str:
        """What to do. It looks at no file: the drive may be what is out of reach."""
        where = f" ({self.out / 'last.ckpt'}, where one was saved)" if self.out is not None else ""
        return f"checkpoints are kept, continue with --resume{where}"

    def cause(self, seconds: float = 0.0) -> str | None:
        """Which process died; None if none does within `seconds`."""
        end = time.monotonic() + seconds
        while True:
            for rank, child in enumerate(self.children, 1):
                if code := child.poll():
                    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
                    return f"the process of local rank {rank} {how}"
            if self.parent is not None and os.getppid() != self.parent:
                return "the process of local rank 0 ended"
            if self.heartbeat is not None and (silent := self.heartbeat.missing()):
                return silent
            if time.monotonic() >= end:
                return None
            time.sleep(INTERVAL)

    def watch(self) -> None:
        while not self.closed.wait(INTERVAL):
            if not (cause := self.cause()):
                continue
            speaks = self.heartbeat is None or "no sign of life" not in cause or self.heartbeat.speaks()
            if not self.closed.wait(GRACE if speaks else 3 * GRACE):  # by then the one that speaks has ended this one
                if speaks:
                    print(f"onebit: error: {cause}; {self.remedy()}", file=sys.stderr, flush=True)
                self.kill()
                os._exit(2)

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and any(child.poll() is None for child in self.children):
            time.sleep(INTERVAL / 10)

    def kill(self) -> None:
        """End what was started here; a rank that waits in a collective operation heeds no other signal."""
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()


def lost_contact(error: RuntimeError) -> bool:
    """Whether a collective operation failed because of another rank."""
    words = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe")
    return isinstance(error, torch.distributed.DistError) or any(word in str(error) for word in words)
