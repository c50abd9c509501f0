"""A process of a training that is frozen ends the run, with one line that says which; one that is slow does not."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from commands import Command, ranks
from onebit.nn import layers
from onebit.training import heartbeat
from onebit.training.heartbeat import Heartbeat, Sign
from runs import arguments, digits, metrics, run

PROCESSES = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")


@PROCESSES
@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_process_ends_the_run(frozen, tmp_path):
    """The line names it and the checkpoint; the run then continues."""
    out = tmp_path / "run"
    command = Command(out, "--timeout=4")
    pids = [command.process.pid, next(pid for pid in command.members() if pid != command.process.pid)]
    time.sleep(1.0)  # a beat of each
    began = time.time()
    os.kill(pids[frozen], signal.SIGSTOP)
    if not frozen:  # the other one ends; this one would wait for ever to be told so
        while pids[1] in command.members():
            assert time.time() < began + 30
            time.sleep(0.05)
        os.kill(pids[0], signal.SIGKILL)
    code, lines = command.end()
    assert time.time() < began + 30
    assert code == (2 if frozen else -signal.SIGKILL) and len(lines) == 1
    assert f"no sign of life of rank {frozen} (" in lines[0] and "for 4 seconds" in lines[0]
    assert f"continue with --resume ({out}/last.ckpt" in lines[0]
    run(digits(out, **Command.recipe), resume=True)
    assert len(metrics(out)) == 12


def slow_rank(out: Path) -> None:
    """A rank of a training with a timeout of 2 seconds, in which rank 0 takes 5 for a step."""
    from onebit.cli import main as cli

    after_step, slept = layers.after_step, [os.environ["LOCAL_RANK"] == "1"]

    def watched(*what: Any) -> None:
        after_step(*what)
        if not slept[0]:
            slept[0] = True
            time.sleep(5)

    layers.after_step = watched
    values = arguments(out, method="xnor", batch_size=256, devices="2", epochs=1, timeout=2)
    os._exit(cli.main(["train", *values, "--json"]))


def test_a_slow_process_does_not(tmp_path):
    for process in ranks(slow_rank, tmp_path / "run"):
        process.join(100)
        assert process.exitcode == 0


def watcher(rank: int, signs: dict[int, Sign], now: float) -> Heartbeat:
    """A heartbeat without network: what it has seen, at a time."""
    beat = Heartbeat.__new__(Heartbeat)
    beat.rank, beat.world, beat.timeout, beat.interval = rank, len(signs), 8.0, 1.0
    beat.signs, beat.looked, beat.machine_first = signs, now, False
    return beat


@pytest.mark.parametrize(
    ("rank", "ages", "says"),
    [
        (0, (0, 1, 2), None),
        (0, (0, 9, 2), "rank 1 (b)"),
        (2, (0, 9, 0), "rank 1 (b)"),
        (0, (0, 9, 9), "ranks 1 (b), 2 (c)"),
        (2, (9, 9, 9), "rank 0 (a)"),  # which keeps the store: nobody's signs come
    ],
)
def test_who_is_missing(rank, ages, says, monkeypatch):
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: 100.0)
    signs = {number: Sign(f"{'abc'[number]} 7", 100.0 - age) for number, age in enumerate(ages)}
    found = watcher(rank, signs, 99.9).missing()
    assert (found is None) if says is None else (found is not None and f"of {says} for 8 seconds" in found)


def test_a_process_that_was_stopped_itself_accuses_nobody(monkeypatch):
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: 100.0)
    signs = {number: Sign("a 7", 50.0) for number in range(2)}
    assert watcher(0, signs, 50.0).missing() is None


def test_a_process_that_has_ended_is_not_missing(monkeypatch):
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: 100.0)
    for ended in range(2):
        signs = {number: Sign(heartbeat.ENDED if number == ended else "a 7", 50.0) for number in range(2)}
        signs[1 - ended].came = 100.0 if ended else 50.0
        assert watcher(1 - ended, signs, 99.9).missing() is None
