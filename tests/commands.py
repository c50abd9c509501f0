"""Trainings of two processes, for tests in which one of them meets its fate: called as ranks, or a command of its own."""

import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch

from runs import ENVIRONMENT, arguments


def ranks(function: Callable[..., None], *arguments: Any) -> list[Any]:
    """Two processes that call function as ranks 0 and 1; started here, which is quicker than a command that imports all."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["onebit.training.train"])
    started = [context.Process(target=as_rank, args=(rank, port, function, arguments)) for rank in range(2)]
    for process in started:
        process.start()
    return started


def as_rank(rank: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    function(*arguments)


class Command:
    """`onebit train` of two processes in a session of its own, waited for until it has saved a checkpoint in this start."""

    recipe: ClassVar[dict[str, Any]] = {"method": "xnor", "epochs": 12, "batch_size": 256, "eval_every": 6}

    def __init__(self, out: Path, *more: str):
        began = time.time()
        values = arguments(out, **self.recipe, devices="2", checkpoint_steps=2)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "onebit", "train", *values, "--json", *more],
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        while not ((out / "last.ckpt").exists() and (out / "last.ckpt").stat().st_mtime > began):
            assert self.process.poll() is None and time.time() < began + 200, self.process.communicate()[1]
            time.sleep(0.02)

    def members(self) -> list[int]:
        """The living processes of the session."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(session) == self.process.pid and state != "Z":
                found.append(int(path.parent.name))
        return sorted(found)

    def end(self) -> tuple[int, list[str]]:
        """(exit code, the lines of onebit on standard error) when all processes have ended; fails after 100 s."""
        deadline = time.time() + 100
        try:
            _, errors = self.process.communicate(timeout=100)
            while self.members() and time.time() < deadline:
                time.sleep(0.05)
            assert not self.members(), "a process is left over"
        finally:
            for pid in self.members():
                os.kill(pid, signal.SIGKILL)
            self.process.communicate()
        assert "Traceback" not in errors, errors
        return self.process.returncode, re.findall(r"^onebit: .*$", errors, re.MULTILINE)
