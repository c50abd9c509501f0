"""What a run shows and records: a progress bar, metrics.csv, and TensorBoard events."""

import csv
import io
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from onebit import files

INTERVAL = 50  # steps between readings of loss and accuracy from the device
COLUMNS = ("epoch", "train_loss", "train_accuracy", "test_accuracy", "lr", "images_per_s", "seconds")


class Progress:
    """A context manager around a training. Sums stay on the device and are read every INTERVAL steps."""

    def __init__(self, out: Path, epochs: int, steps: int, batch_size: int, shows: bool, records: bool):
        self.out, self.epochs, self.steps, self.batch_size = out, epochs, steps, batch_size
        self.shows, self.records = shows and records, records
        self.console = Console(stderr=True)
        text = "{task.description} loss {task.fields[loss]:.3f}  accuracy {task.fields[accuracy]:.1f} %  "
        self.bar = Bar(
            TextColumn(text + "{task.fields[rate]:.0f} images/s"),
            BarColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.shows or not self.console.is_terminal,
        )
        self.task = self.bar.add_task("", total=epochs * steps, loss=0.0, accuracy=0.0, rate=0.0)

    def __enter__(self) -> "Progress":
        self.writer = SummaryWriter(str(self.out)) if self.records else None
        self.bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()
        if self.writer is not None:
            self.writer.close()

    def start_epoch(self, epoch: int, step: int) -> None:
        self.epoch, self.began, self.first = epoch, time.perf_counter(), step
        self.loss: Tensor | float = 0.0
        self.correct: Tensor | int = 0
        self.done = 0

    def due(self, step: int) -> bool:
        """Whether this step's loss is to be read and checked."""
        return step % INTERVAL == 0 or step + 1 == self.steps

    @torch.no_grad()
    def step(self, step: int, loss: Tensor, logits: Tensor, labels: Tensor, lr: float) -> None:
        self.loss = self.loss + loss
        self.correct = self.correct + (logits.argmax(1) == labels).sum()
        self.done += 1
        self.lr = lr
        self.seen = self.done * len(labels)
        if self.due(step):
            self.rate = self.done * self.batch_size / (time.perf_counter() - self.began)
            self.bar.update(
                self.task,
                completed=self.epoch * self.steps + step + 1,
                description=f"epoch {self.epoch + 1}/{self.epochs}",
                loss=float(self.loss) / self.done,
                accuracy=100 * float(self.correct) / self.seen,
                rate=self.rate,
            )

    def end_epoch(self, epoch: int, test_accuracy: float) -> None:
        """Record an epoch: one line on the console, one in metrics.csv, and the TensorBoard scalars."""
        if not self.records or not self.done:
            return
        row = dict(
            zip(
                COLUMNS,
                (
                    epoch + 1,
                    round(float(self.loss) / self.done, 4),
                    round(100 * float(self.correct) / self.seen, 2),
                    round(test_accuracy, 2),
                    self.lr,
                    round(self.rate),
                    round(time.perf_counter() - self.began, 1),
                ),
                strict=True,
            )
        )
        record(self.out / "metrics.csv", row)
        if self.writer is not None:
            for name in COLUMNS[1:]:
                self.writer.add_scalar(name, row[name], epoch + 1)
        if self.shows:
            self.console.print(
                f"epoch {epoch + 1}/{self.epochs}  loss {row['train_loss']:.3f}  train {row['train_accuracy']:.2f} %  "
                f"test {test_accuracy:.2f} %  {row['images_per_s']} images/s  {row['seconds']} s",
                highlight=False,
            )


def record(path: Path, row: dict[str, Any]) -> None:
    """Write the row of an epoch into a CSV file, in place of rows of that or later epochs (from before a resume)."""
    rows: list[dict[str, Any]] = []
    if path.exists():
        with open(path, newline="") as file:
            rows = [old for old in csv.DictReader(file) if int(old["epoch"]) < row["epoch"]]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows([*rows, row])
    files.write_text(path, text.getvalue())
