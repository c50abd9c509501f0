"""Small training runs for the tests: recipes on the digits that come with scikit-learn, and what their folders hold."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import torch

import onebit
from onebit.checkpoints import checkpoint
from onebit.checkpoints.checkpoint import Checkpoint
from onebit.training import train as training
from onebit.training.recipe import Recipe

STEPS = 11  # an epoch of 1437 images in batches of 128
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(onebit.__file__).parents[1]), "OMP_NUM_THREADS": "1"}


def keys(out: Path, **changes: Any) -> dict[str, Any]:
    """A small deterministic run on one CPU thread."""
    return {
        "data": "digits",
        "model": "resnet8",
        "epochs": 2,
        "batch_size": 128,
        "optimizer": "adam",
        "lr": 5e-3,
        "weight_decay": 0.0,
        "compile": "false",
        "accelerator": "cpu",
        "devices": "1",
        "threads": 1,
        "deterministic": True,
        "out": str(out),
        **changes,
    }


def digits(out: Path, **changes: Any) -> Recipe:
    return Recipe(**keys(out, **changes))


def arguments(out: Path, **changes: Any) -> list[str]:
    """The same as arguments of `onebit train`."""
    values = {
        key: str(value).lower() if isinstance(value, bool) else value for key, value in keys(out, **changes).items()
    }
    return [f"--{key}={value}" for key, value in values.items()]


def run(recipe: Recipe, resume: bool = False) -> dict[str, Any]:
    return training.train(recipe, resume=resume, quiet=True)


def last(out: Path) -> Checkpoint:
    return checkpoint.load(out / "last.ckpt")


def saved(model: Any, labels: list[str] | None = None, **fields: Any) -> Checkpoint:
    """A checkpoint of a classifier that no training wrote."""
    return Checkpoint(model.config, model.state_dict(), {"name": "classification", "labels": labels}, **fields)


def metrics(out: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv, without what a clock says."""
    with open(out / "metrics.csv", newline="") as file:
        return [
            {k: v for k, v in row.items() if k not in ("seconds", "examples_per_s")} for row in csv.DictReader(file)
        ]


def diagnostics(out: Path) -> list[dict[str, Any]]:
    """The lines of diagnostics.jsonl."""
    return [json.loads(line) for line in (out / "diagnostics.jsonl").read_text(encoding="utf-8").splitlines()]


def same(one: Any, other: Any, where: str = "") -> None:
    """Equal to the last bit, through dicts and lists."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), f"{where} differs"
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other, strict=True)):
            same(*pair, f"{where}[{index}]")
    else:
        assert one == other, where


def same_end(one: Path, other: Path) -> None:
    """Two run folders end in the same bits, and record the same epochs."""
    ends = [last(folder) for folder in (one, other)]
    for key in ("model", "ema", "scores"):
        same(*(getattr(end, key) for end in ends), key)
    for key in ("optimizer", "average", "epoch", "step", "best", "rng"):
        same(*(getattr(end.progress, key) for end in ends), key)
    assert metrics(one) == metrics(other)
    assert [row["epoch"] for row in metrics(one)] == [str(n + 1) for n in range(len(metrics(one)))]
