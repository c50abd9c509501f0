"""What a run shows and records: a progress bar, metrics.csv, and TensorBoard events."""

import csv
import io
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch import Tensor

from onebit import files
from onebit.data.dataset import Batch
from onebit.tasks.score import Score
from onebit.tasks.task import Task
from onebit.training.tensorboard import Events

INTERVAL = 50  # steps between readings of loss and score from the device


class Progress:
    """A context manager around a training. Sums stay on the device and are read every INTERVAL steps.

    The bar shows the examples of the first rank; the records of an epoch are sums over all ranks, and over the parts of an
    epoch that was interrupted.

    Args:
        fabric: of the training
        task: whose scores are shown
        out: run folder
        epochs, steps: of the training, of an epoch
        batch_size: over all devices
        first: epoch that this process starts with
        shows: whether anything is printed
    """

    def __init__(
        self, fabric: Fabric, task: Task, out: Path, epochs: int, steps: int, batch_size: int, first: int, shows: bool
    ):
        self.fabric, self.task, self.out = fabric, task, out
        self.epochs, self.steps, self.batch_size = epochs, steps, batch_size
        self.first, self.records = first, fabric.is_global_zero
        self.shows = shows and self.records
        self.console = Console(stderr=True)
        text = "{task.description} loss {task.fields[loss]:.3f}  {task.fields[score]}  "
        self.bar = Bar(
            TextColumn(text + "{task.fields[rate]:.0f} examples/s"),
            BarColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.shows or not self.console.is_terminal,
        )
        self.row = self.bar.add_task("", total=epochs * steps, loss=0.0, score="", rate=0.0)

    def __enter__(self) -> "Progress":
        self.events = Events(self.out, self.first + 1) if self.records else None
        self.bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()
        if self.events is not None:
            self.events.close()

    def start_epoch(self, epoch: int, before: dict[str, Any] | None) -> None:
        """Begin an epoch, or continue it after the part that `before`, from state(), describes."""
        before = before if before is not None and self.fabric.is_global_zero else {}
        self.epoch, self.began, self.here = epoch, time.perf_counter(), 0
        self.seconds, self.rate = before.get("seconds", 0.0), before.get("rate", 0.0)
        self.loss: Tensor | float = before.get("loss", 0.0)
        self.seen = before.get("examples", 0.0)
        self.score = Score(self.task, self.fabric.device)
        self.score.load(before.get("score", {}))

    def state(self) -> dict[str, Any]:
        """The epoch so far, over all ranks (a collective operation): the sum of the losses, examples, states of metrics."""
        local = torch.tensor([float(self.loss), self.seen], dtype=torch.float64)
        sums: Any = self.fabric.all_reduce(local.to(self.fabric.device), reduce_op="sum")
        loss, examples = sums.tolist()
        score = self.score.gather()
        self.score.release()
        seconds = self.seconds + time.perf_counter() - self.began
        return {"loss": loss, "examples": examples, "score": score, "seconds": seconds, "rate": self.rate}

    def due(self, step: int) -> bool:
        """Whether this step's loss is to be read and checked."""
        return step % INTERVAL == 0 or step == self.steps - 1

    @torch.no_grad()
    def step(self, step: int, loss: Tensor, outputs: Any, batch: Batch) -> None:
        """Count an optimizer step."""
        self.loss = self.loss + loss * len(batch)
        if self.task.running:
            self.score.update(outputs, batch.targets)
        self.here += 1
        self.seen += len(batch)
        if self.due(step):
            self.rate = self.here * self.batch_size / (time.perf_counter() - self.began)
            self.bar.update(
                self.row,
                completed=self.epoch * self.steps + step + 1,
                description=f"epoch {self.epoch + 1}/{self.epochs}",
                loss=float(self.loss) / self.seen,
                score="  ".join(f"{name} {value:.1f} %" for name, value in self.trained().items()),
                rate=self.rate,
            )

    def trained(self) -> dict[str, float]:
        """Scores of the epoch's steps so far, none of a task that scores no steps."""
        return self.score.compute() if self.task.running else {}

    def end_epoch(self, epoch: int, lr: float, tested: Mapping[str, float] | None) -> None:
        """Record an epoch: one line on the console, one in metrics.csv, and the TensorBoard scalars.

        tested: scores of the test examples; None, and their columns empty, after an epoch without evaluation.
        """
        sums = self.state()
        self.score.gather()
        trained = self.trained()
        if not self.records:
            return
        row: dict[str, Any] = {"epoch": epoch + 1, "train_loss": round(sums["loss"] / sums["examples"], 4)}
        names = list(dict.fromkeys([*trained, *(self.task.scores() if tested is None else tested)]))
        for name in names:
            row |= {f"train_{name}": round(trained[name], 2)} if name in trained else {}
            row[f"test_{name}"] = None if tested is None else round(tested[name], 2)
        row |= {"lr": lr, "examples_per_s": round(self.rate), "seconds": round(sums["seconds"], 1)}
        record(self.out / "metrics.csv", row)
        if self.events is not None:
            scalars = {name: value for name, value in row.items() if name != "epoch" and value is not None}
            self.events.scalars(scalars, epoch + 1)
        if self.shows:
            kinds = {"train": trained, "test": tested or {}}
            scores = [
                f"{name} " + ", ".join(f"{kind} {of[name]:.2f} %" for kind, of in kinds.items() if name in of)
                for name in names
                if any(name in of for of in kinds.values())
            ]
            self.console.print(
                f"epoch {epoch + 1}/{self.epochs}  loss {row['train_loss']:.3f}  {'  '.join(scores)}  "
                f"{row['examples_per_s']} examples/s  {row['seconds']} s",
                highlight=False,
            )


def record(path: Path, row: dict[str, Any]) -> None:
    """Write the row of an epoch into a CSV file, in place of rows of that or later epochs (from before a resume)."""
    rows: list[dict[str, Any]] = []
    if path.exists():
        with open(path, newline="") as file:
            rows = [old for old in csv.DictReader(file) if int(old["epoch"]) < row["epoch"]]
    columns = list(dict.fromkeys(name for one in (*rows, row) for name in one))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows([*rows, row])
    files.write_text(path, text.getvalue())
