"""The folder of a training run: what is in it, and what must agree before a run in it continues."""

import dataclasses
import datetime
import json
import sys
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from onebit import files
from onebit.errors import UserError
from onebit.machine import provenance
from onebit.training.recipe import Recipe

FREE = {field.name for field in dataclasses.fields(Recipe) if field.metadata["free"]}


def run_folder(out: str | Path, resume: bool, is_first: bool) -> Path:
    """The folder, created where it is not there. With `resume`, the first rank removes what a killed process left half
    written. Raises UserError for a folder that holds another run, or that cannot be used."""
    out = Path(out)
    if (out / "last.ckpt").exists() and not resume:
        raise UserError(f"{out} already holds a run; continue it with --resume, or name another folder with --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        if resume and is_first:
            files.clean(out)
    except OSError as error:
        raise UserError(f"{out} cannot be created ({error.strerror}); name another folder with --out") from error
    return out


def check_same_recipe(out: Path, recipe: Recipe, saved: dict[str, Any]) -> None:
    """Refuse to resume under another recipe, but for the keys in FREE."""
    before = dataclasses.asdict(Recipe()) | saved  # a key that the earlier version did not have is at its default
    for key, value in dataclasses.asdict(recipe).items():
        if key not in FREE and before[key] != value:
            raise UserError(
                f"--resume: {out} was trained with {key} = {before[key]!r}, not {value!r}; use the same recipe"
            )


def write_run_files(out: Path, recipe: Recipe, fabric: Fabric, resume: bool, epoch: int, step: int) -> None:
    """recipe.json: all that is needed to repeat the run. A resumed run adds to "starts" what it runs with, and from where.

    {"recipe": every key, of the latest start; "seed"; "starts": [{"time" (UTC), "epoch", "step", "command",
    "versions", "source": {"revision", "dirty"} or None, "machine", "device", "devices", "threads"}]}
    """
    if not fabric.is_global_zero:
        return
    start = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "epoch": epoch,
        "step": step,
        "command": sys.argv,
        "versions": provenance.versions(),
        "source": provenance.source(),
        "machine": provenance.machine(),
        "device": str(fabric.device),
        "devices": fabric.world_size,
        "threads": torch.get_num_threads(),
    }
    description = {
        "recipe": dataclasses.asdict(recipe),
        "seed": recipe.seed,
        "starts": [*(earlier_starts(out / "recipe.json") if resume else []), start],
    }
    files.write_text(out / "recipe.json", json.dumps(description, indent=2) + "\n")


def earlier_starts(path: Path) -> list[Any]:
    """The starts that recipe.json records; none where it is missing or not one of these files."""
    try:
        starts = json.loads(path.read_text(encoding="utf-8"))["starts"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return starts if isinstance(starts, list) else []
