"""Signs of life of the processes of a training, so that a frozen one, or a cut link to one, is noticed.

A collective operation waits for a rank that is stopped, or out of reach, for half an hour or for ever. So every rank counts,
in a thread, in a store that the first rank keeps; a rank whose count stands still for `timeout` seconds is missing. A rank
that computes, compiles or writes for long counts on. What it does not see: a training whose threads live and whose work
does not go on.
"""

import contextlib
import datetime
import os
import socket
import threading
import time
from dataclasses import dataclass

from lightning_fabric import Fabric
from torch.distributed import TCPStore

ENDED = "ended"


@dataclass
class Sign:
    """The last sign of life of a rank, and when it came, by this process's clock."""

    value: str
    came: float


class Heartbeat:
    """Counts for this rank and watches the others; created on all ranks at once (a collective operation).

    timeout: seconds; a rank is reported when it has been silent for so long, but for an interval
    """

    def __init__(self, fabric: Fabric, timeout: float):
        self.rank, self.world = fabric.global_rank, fabric.world_size
        self.timeout, self.interval = timeout, min(timeout / 8, 5.0)
        self.machine_first = not fabric.local_rank
        self.closed, self.ended = threading.Event(), False
        self.signs: dict[int, Sign] = {}
        self.looked = time.monotonic()
        host, port = os.environ.get("MASTER_ADDR", "127.0.0.1"), 0
        self.store = None
        if not self.rank:
            with contextlib.suppress(RuntimeError):
                self.store = self.connect(host, 0)
                port = self.store.port
                for rank in range(self.world):
                    self.store.set(str(rank), "")
        port = fabric.broadcast(port)
        if self.rank and port:
            with contextlib.suppress(RuntimeError):  # a network that lets no other port through: nobody is watched here
                self.store = self.connect(host, port)
        self.thread = threading.Thread(target=self.count, name="heartbeat", daemon=True)
        self.thread.start()

    def connect(self, host: str, port: int) -> TCPStore:
        timeout = datetime.timedelta(seconds=max(self.interval, 1.0))
        return TCPStore(host, port, is_master=not self.rank, timeout=timeout, wait_for_workers=False)

    def count(self) -> None:
        """What the thread does. It may wait for ever in the store, of a first rank that is frozen."""
        store, host = self.store, socket.gethostname()
        number = 0
        while store is not None and not self.closed.wait(self.interval if number else 0):
            number += 1
            with contextlib.suppress(RuntimeError):
                store.set(str(self.rank), f"{host} {number}")
                values = [value.decode() for value in store.multi_get([str(rank) for rank in range(self.world)])]
                now = time.monotonic()
                for rank, value in enumerate(values):
                    if value and (rank not in self.signs or self.signs[rank].value != value):
                        self.signs[rank] = Sign(value, now)
        if store is not None and self.ended:
            with contextlib.suppress(RuntimeError):
                store.set(str(self.rank), ENDED)

    def close(self, ended: bool) -> None:
        """This rank counts no more; if it has ended as it should, it says so."""
        self.ended = ended
        self.closed.set()
        self.thread.join(1.0)

    def missing(self) -> str | None:
        """Which ranks have been silent for too long; None if none has. To be called often: a pause is this process's own."""
        now = time.monotonic()
        pause, self.looked = now - self.looked, now
        signs = dict(self.signs)
        if 0 in signs and signs[0].value == ENDED:  # the store with it
            return None
        if pause > max(self.interval, 1.0):  # it was itself stopped: the others may live
            for sign in signs.values():
                sign.came = now
        silent = [
            rank
            for rank, sign in sorted(signs.items())
            if sign.value != ENDED and now - sign.came > self.timeout - self.interval
        ]
        if not silent:
            return None
        if self.rank in silent:  # the store does not answer: nobody's signs come
            silent = [0]
        names = [f"{rank} ({signs[rank].value.partition(' ')[0]})" for rank in silent]
        what = "rank" if len(names) == 1 else "ranks"
        return f"no sign of life of {what} {', '.join(names)} for {self.timeout:g} seconds"

    def speaks(self) -> bool:
        """Whether it is for this rank to say so: the first that lives; where none is seen, the first beside the store's, and
        of each machine."""
        now = time.monotonic()
        alive = [rank for rank, sign in self.signs.items() if now - sign.came <= self.timeout - self.interval]
        return self.rank == min(alive) if alive else self.rank == 1 or self.machine_first
