"""Runs side by side, each in a process with one thread: two networks at a time train more images a second on two processors than
one network on both."""

import csv
import dataclasses
import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any

from onebit.errors import Stopped, UserError
from onebit.reproduction.job import main
from onebit.reproduction.runs import Run

INTERVAL = 0.2  # seconds between looks at the processes
PATIENCE = 600.0  # seconds that a step, or the writing of a checkpoint, may take after the signal to stop

Report = Callable[[Run, int, str], None]  # (run, epochs done, what to say)


@dataclasses.dataclass
class Job:
    """A run's process. seen: epochs that were reported."""

    run: Run
    process: BaseProcess
    log: Path
    seen: int = -1


class Jobs:
    """A context manager: all processes have ended when it is left. Each run's output is in its folder's name + ".log".

    failures    {run's name: one line}
    """

    def __init__(self, count: int, one_thread: bool, report: Report):
        self.count, self.one_thread, self.report = count, one_thread, report
        self.running: list[Job] = []
        self.failures: dict[str, str] = {}
        # forked from a process that has imported PyTorch and runs no threads, so that a run starts in no time
        server = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        self.processes: Any = multiprocessing.get_context(server)
        if server == "forkserver":
            self.processes.set_forkserver_preload([main.__module__])

    def __enter__(self) -> "Jobs":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self.running:
            return
        names = [job.run.name for job in self.running]
        number = getattr(error, "code", 128 + signal.SIGINT) - 128 if isinstance(error, KeyboardInterrupt) else 0
        self.stop()
        try:
            self.wait(PATIENCE)
        except KeyboardInterrupt:  # the second signal: what runs loses the work since its last checkpoint
            self.stop()
            self.wait(10)
        finally:
            for job in self.running:
                job.process.kill()
                job.process.join()
        if number:
            words = f"stopped by {signal.Signals(number).name} while {', '.join(names)} trained"
            raise Stopped(f"{words}; the same command goes on from what they saved", number) from None

    def work(self, runs: Sequence[Run], done: Callable[[Run], None]) -> None:
        """Run them all, each after those that it needs; `done` is called for each that has ended well."""
        waiting = list(runs)
        while waiting or self.running:
            for job in [job for job in self.running if job.process.exitcode is not None]:
                self.running.remove(job)
                self.look(job)
                if job.process.exitcode:
                    self.fail(job.run, reason(job))
                    continue
                try:
                    done(job.run)
                except UserError as error:
                    self.fail(job.run, str(error))
            unfinished = {run.name for run in waiting} | {job.run.name for job in self.running}
            for run in list(waiting):
                needed = [other.name for other in run.needs]
                if failed := [name for name in needed if name in self.failures]:
                    waiting.remove(run)
                    self.fail(run, f"it needs {failed[0]}, which failed")
                elif len(self.running) < self.count and unfinished.isdisjoint(needed):
                    waiting.remove(run)
                    self.running.append(self.start(run))
            for job in self.running:
                self.look(job)
            time.sleep(INTERVAL)

    def fail(self, run: Run, why: str) -> None:
        self.failures[run.name] = why
        self.report(run, -1, f"failed: {why}")

    def start(self, run: Run) -> Job:
        run.folder.parent.mkdir(parents=True, exist_ok=True)
        log = run.folder.with_name(f"{run.folder.name}.log")
        log.write_text("")
        recipe = dataclasses.replace(run.recipe, threads=1) if self.one_thread else run.recipe
        process = self.processes.Process(target=main, args=(recipe, run.row.recipe or run.row.name, log), name=run.name)
        process.start()
        return Job(run, process, log)

    def look(self, job: Job) -> None:
        """Report the epochs that a run has done since it was last looked at."""
        epochs, words = progress(job.run.folder)
        if epochs != job.seen:
            job.seen = epochs
            self.report(job.run, epochs, words)

    def stop(self) -> None:
        for job in self.running:
            job.process.terminate()

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for job in list(self.running):
            job.process.join(max(0.0, end - time.monotonic()))
            if job.process.exitcode is not None:
                self.running.remove(job)


def progress(folder: Path) -> tuple[int, str]:
    """(epochs that metrics.csv has, the last one's loss and scores of the test examples)."""
    try:
        with open(folder / "metrics.csv", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError:
        return 0, ""
    if not rows:
        return 0, ""
    last = rows[-1]
    scores = [
        f"{name.removeprefix('test_')} {value} %" for name, value in last.items() if name.startswith("test_") and value
    ]
    return int(last["epoch"]), f"loss {last['train_loss']}  {'  '.join(scores)}"


def reason(job: Job) -> str:
    """Why a process failed: its error, or the last line of what it said."""
    lines = [line for line in job.log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("onebit: error: ")]
    last = lines[-1] if lines else ""
    if errors and errors[-1] == last:
        return last.removeprefix("onebit: error: ")
    code = job.process.exitcode or 0
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"its process {how}: {last} ({job.log})"
