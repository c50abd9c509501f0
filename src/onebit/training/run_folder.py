"""The folder of a training run: what is in it, and what must agree before a run in it continues."""

import dataclasses
import datetime
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from onebit import files
from onebit.errors import UserError
from onebit.machine import provenance
from onebit.training.folder_lock import FolderLock
from onebit.training.recipe import Recipe

FREE = {field.name for field in dataclasses.fields(Recipe) if field.metadata["free"]}
EXTENDED = {field.name for field in dataclasses.fields(Recipe) if field.metadata["extends"]}


@contextmanager
def run_folder(out: str | Path, resume: bool, fabric: Fabric) -> Iterator[Path]:
    """The folder, created where it is not there and locked by the first rank, which with `resume` also removes what a
    killed process left half written. A folder that was created and holds nothing in the end is removed again.

    Raises UserError on all ranks for a folder that holds another run, is in use, or cannot be written.
    """
    out = Path(out)
    if (out / "last.ckpt").exists() and not resume:
        raise UserError(f"{out} already holds a run; continue it with --resume, or name another folder with --out")
    lock, created, problem = FolderLock(out), list[Path](), ""
    if fabric.is_global_zero:
        try:
            created = make(out)
            lock.acquire()
            if resume:
                files.clean(out)
        except UserError as error:
            problem = str(error)
        except OSError as error:
            problem = f"{out} cannot be written ({error.strerror}); name another folder with --out"
    try:
        if problem := fabric.broadcast(problem):
            raise UserError(problem)
        yield out
    finally:
        lock.release()
        with suppress(OSError):  # the first that holds something
            for folder in created:
                folder.rmdir()


def make(folder: Path) -> list[Path]:
    """Create a folder and those above it; returns those that were not there, the deepest first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def check_same_recipe(out: Path, recipe: Recipe, saved: dict[str, Any], extend: bool) -> dict[str, list[Any]]:
    """Refuse to resume under another recipe, but for keys that are declared free, or with `extend` those declared so.

    Returns the latter: {key: [before, now]}.
    """
    before = dataclasses.asdict(Recipe()) | saved  # a key that the earlier version did not have is at its default
    changed = {}
    for key, value in dataclasses.asdict(recipe).items():
        if key in FREE or before[key] == value:
            continue
        if not (extend and key in EXTENDED):
            remedy = "use the same recipe" + (", or --extend to change it" if key in EXTENDED else "")
            raise UserError(f"--resume: {out} was trained with {key} = {before[key]!r}, not {value!r}; {remedy}")
        changed[key] = [before[key], value]
    return changed


def write_run_files(
    out: Path, recipe: Recipe, fabric: Fabric, resume: bool, epoch: int, step: int, changed: dict[str, list[Any]]
) -> None:
    """recipe.json: all that is needed to repeat the run. A resumed run adds to "starts" what it runs with, and from where.

    {"recipe": every key, of the latest start; "seed"; "starts": [{"time" (UTC), "epoch", "step", "command",
    "versions", "source": {"revision", "dirty"} or None, "machine", "device", "devices", "threads",
    "changed": {key: [before, now]} where --extend changed any}]}
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
        **({"changed": changed} if changed else {}),
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
