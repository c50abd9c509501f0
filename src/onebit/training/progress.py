"""What a run shows and records: a progress bar, metrics.csv, and TensorBoard events."""

import csv
import io
import time
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
from onebit.training.tensorboard import Events

INTERVAL = 50  # steps between readings of loss and accuracy from the device
COLUMNS = ("epoch", "train_loss", "train_accuracy", "test_accuracy", "lr", "images_per_s", "seconds")


class Progress:
    """A context manager around a training. Sums stay on the device and are read every INTERVAL steps.

    The bar shows the images of the first rank; the records of an epoch are sums over all ranks, and over the parts of an
    epoch that was interrupted.
    """

    def __init__(self, fabric: Fabric, out: Path, epochs: int, steps: int, batch_size: int, first: int, shows: bool):
        self.fabric, self.out, self.epochs, self.steps, self.batch_size = fabric, out, epochs, steps, batch_size
        self.first, self.records = first, fabric.is_global_zero
        self.shows = shows and self.records
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
        self.events = Events(self.out, self.first + 1) if self.records else None
        self.bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()
        if self.events is not None:
            self.events.close()

    def start_epoch(self, epoch: int, before: dict[str, float] | None) -> None:
        """Begin an epoch, or continue it after the part that `before`, from state(), describes."""
        before = before if before is not None and self.fabric.is_global_zero else {}
        self.epoch, self.began, self.here = epoch, time.perf_counter(), 0
        self.seconds, self.rate = before.get("seconds", 0.0), before.get("rate", 0.0)
        self.loss: Tensor | float = before.get("loss", 0.0)
        self.correct: Tensor | float = before.get("correct", 0.0)
        self.seen = before.get("images", 0.0)

    def state(self) -> dict[str, float]:
        """The epoch so far, over all ranks (a collective operation): sums of loss and correct answers over images."""
        local = torch.tensor([float(self.loss), float(self.correct), self.seen], dtype=torch.float64)
        sums: Any = self.fabric.all_reduce(local.to(self.fabric.device), reduce_op="sum")
        seconds = self.seconds + time.perf_counter() - self.began
        return dict(zip(("loss", "correct", "images"), sums.tolist(), strict=True)) | {
            "seconds": seconds,
            "rate": self.rate,
        }

    def due(self, step: int) -> bool:
        """Whether this step's loss is to be read and checked."""
        return step % INTERVAL == 0 or step + 1 == self.steps

    @torch.no_grad()
    def step(self, step: int, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count an optimizer step. Images with mixed labels (B, classes) count by the larger share."""
        targets = labels if labels.dim() == 1 else labels.argmax(1)
        self.loss = self.loss + loss * len(labels)
        self.correct = self.correct + (logits.argmax(1) == targets).sum()
        self.here += 1
        self.seen += len(labels)
        if self.due(step):
            self.rate = self.here * self.batch_size / (time.perf_counter() - self.began)
            self.bar.update(
                self.task,
                completed=self.epoch * self.steps + step + 1,
                description=f"epoch {self.epoch + 1}/{self.epochs}",
                loss=float(self.loss) / self.seen,
                accuracy=100 * float(self.correct) / self.seen,
                rate=self.rate,
            )

    def end_epoch(self, epoch: int, lr: float, test_accuracy: float | None) -> None:
        """Record an epoch: one line on the console, one in metrics.csv, and the TensorBoard scalars.

        test_accuracy is None, and its column empty, after an epoch without evaluation.
        """
        state = self.state()
        if not self.records:
            return
        row = {
            "epoch": epoch + 1,
            "train_loss": round(state["loss"] / state["images"], 4),
            "train_accuracy": round(100 * state["correct"] / state["images"], 2),
            "test_accuracy": None if test_accuracy is None else round(test_accuracy, 2),
            "lr": lr,
            "images_per_s": round(self.rate),
            "seconds": round(state["seconds"], 1),
        }
        record(self.out / "metrics.csv", row)
        if self.events is not None:
            scalars = {name: value for name, value in row.items() if name != "epoch" and value is not None}
            self.events.scalars(scalars, epoch + 1)
        if self.shows:
            tested = "" if test_accuracy is None else f"test {test_accuracy:.2f} %  "
            self.console.print(
                f"epoch {epoch + 1}/{self.epochs}  loss {row['train_loss']:.3f}  train {row['train_accuracy']:.2f} %  "
                f"{tested}{row['images_per_s']} images/s  {row['seconds']} s",
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
