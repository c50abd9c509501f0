"""What a run left behind, read for analysis: its checkpoint, its recipe, and the course of its training."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onebit.checkpoints import checkpoint
from onebit.checkpoints.checkpoint import Checkpoint
from onebit.errors import UserError
from onebit.training import diagnostics

LONGEST = 40  # characters of a run's name in figures


@dataclass
class Run:
    """A run that is analyzed.

    name        of the folder, for figures: printable, and another for each run
    path        the folder, or the checkpoint where that is all there is
    saved       last.ckpt
    recipe      every key, {} where nobody knows
    starts      of recipe.json
    metrics     rows of metrics.csv: {column: number, or None where the cell is empty}
    course      lines of diagnostics.jsonl, by epoch
    missing     what the report lacks, and why: a sentence each
    """

    name: str
    path: Path
    saved: Checkpoint
    recipe: dict[str, Any]
    starts: list[dict[str, Any]] = field(default_factory=list)
    metrics: list[dict[str, float | None]] = field(default_factory=list)
    course: list[dict[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def method(self) -> str:
        return str(self.saved.config.get("method", "float"))


def read(paths: list[str]) -> list[Run]:
    """The runs of these folders (or checkpoints). Raises UserError for what is none, and for files that are damaged."""
    runs: list[Run] = []
    for path, name in zip(paths, names([Path(path) for path in paths])):
        runs.append(read_one(Path(path), name))
    return runs


def read_one(path: Path, name: str) -> Run:
    if path.is_dir():
        if not (path / "last.ckpt").is_file():
            raise UserError(f"{path} holds no last.ckpt: it is no run folder; name one that `onebit train` made")
        saved = checkpoint.load(path / "last.ckpt")
    elif path.exists():
        saved = checkpoint.load(path)
    else:
        raise UserError(f"{path} does not exist; name a run folder, such as runs/digits")
    folder = path if path.is_dir() else None
    described = json_file(folder / "recipe.json") if folder else {}
    recipe = described.get("recipe") or (saved.progress.recipe if saved.progress else {})
    run = Run(name, path, saved, recipe, described.get("starts") or [])
    if folder is None:
        run.missing.append(f"{path.name} is a checkpoint alone: there is no course of a training.")
        return run
    run.metrics = metrics(folder / "metrics.csv")
    run.course = course(folder / diagnostics.NAME)
    if not run.metrics:
        run.missing.append("metrics.csv is missing: there is no course of loss and scores.")
    if not run.course and run.method != "float":
        run.missing.append(
            f"{diagnostics.NAME} is missing (the run was trained with diagnostics = false, or by an earlier onebit): there are "
            "no flips, no oscillation, and nothing over epochs but the scores."
        )
    return run


def names(paths: list[Path]) -> list[str]:
    """A name for each path, with as many of its folders as it takes to tell them apart, and a number after that."""
    found: list[str] = []
    for path in paths:
        parts = path.resolve().parts[1:] or ("run",)
        name = next((n for n in ("/".join(parts[-count:]) for count in (1, 2, 3)) if n not in found), parts[-1])
        text = "".join(c if c.isprintable() else "?" for c in name)
        text = text if len(text) <= LONGEST else f"…{text[-LONGEST + 1 :]}"
        found.append(text if text not in found else f"{text} ({len(found) + 1})")
    return found


def json_file(path: Path) -> dict[str, Any]:
    """The object in a file, {} where there is none. Raises UserError for anything else."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}; restore it, or remove it") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not what `onebit train` wrote; restore it, or remove it")
    return content


def metrics(path: Path) -> list[dict[str, float | None]]:
    """The rows of metrics.csv. Raises UserError for cells that are no numbers."""
    if not path.is_file():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [
                {str(key): float(cell) if cell else None for key, cell in row.items()} for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}; restore it, or remove it") from error


def course(path: Path) -> list[dict[str, Any]]:
    """The lines of diagnostics.jsonl. Raises UserError, with its number, for a line that is none."""
    if not path.is_file():
        return []
    rows = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            rows.append(checked(json.loads(line), f"{path}, line {number}"))
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}; restore it, or remove it") from error
    return rows


def checked(row: Any, where: str) -> dict[str, Any]:
    """The row, if each of its measures has a number, or nothing, for every layer. Raises UserError."""
    try:
        count = len(row["layers"])
        lists = [*row["measures"].values(), *row["values"].values(), row["histograms"]]
        numbers = [value for values in row["measures"].values() for value in values if value is not None]
        good = all(len(values) == count for values in lists) and all(isinstance(v, int | float) for v in numbers)
        good = good and type(row["epoch"]) is int
    except (KeyError, TypeError, AttributeError):
        good = False
    if not good:
        raise UserError(f"{where}: it is not a line that `onebit train` wrote; restore the file, or remove it")
    return dict(row)


def over_epochs(run: Run, measure: str, layer: int | None = None) -> tuple[list[int], list[float]]:
    """(epochs, values) of a measure of the layer at this place, or of the mean over layers; epochs without it are left out."""
    epochs, found = [], []
    for row in run.course:
        values = row["measures"].get(measure) or []
        known = [value for value in values if value is not None]
        value = (sum(known) / len(known) if known else None) if layer is None else values[layer]
        if value is not None:
            epochs.append(row["epoch"])
            found.append(value)
    return epochs, found
