"""The record of a finished run, read from its folder: it says the same of a run trained here and of one that was copied."""

import json
from pathlib import Path
from typing import Any

from onebit import methods
from onebit.errors import UserError
from onebit.machine import processor
from onebit.models import MODELS
from onebit.reproduction.measurements import MEASUREMENTS, missing
from onebit.reproduction.records import Record
from onebit.reproduction.runs import Run, trained
from onebit.reproduction.table import Row
from onebit.training.environment import precision
from onebit.training.recipe import Recipe
from onebit.training.run_folder import earlier_starts

MEASURED = "measured.json"


def record_of(run: Run, recipe: Recipe) -> Record:
    """recipe: what the run's folder was trained by. Raises UserError for a folder without recipe.json."""
    saved = trained(run.folder)
    starts = earlier_starts(run.folder / "recipe.json")
    if saved is None or saved.progress is None or not saved.scores or not starts:
        raise UserError(f"{run.folder} lacks last.ckpt with scores, or recipe.json; train it again in another folder")
    last = starts[-1]
    machine, versions = last.get("machine") or {}, last.get("versions") or {}
    return {
        "row": run.row.name,
        "seed": recipe.seed,
        "epochs": recipe.epochs,
        "settings": run.settings,
        "trained": {
            "scores": {name: round(value, 4) for name, value in saved.scores.items()},
            "best": None if saved.progress.best is None else round(saved.progress.best, 4),
            "seconds": round(saved.progress.seconds, 1),
            "date": str(last.get("time", ""))[:10],
            "threads": last.get("threads"),
            "device": last.get("device"),
            "precision": precision_of(recipe, machine.get("cpu")),
            "starts": len(starts),
        },
        "machine": {key: machine.get(key) for key in ("cpu", "cores", "gpus")},
        "versions": {key: versions.get(key) for key in ("onebit", "torch", "python")},
        "source": last.get("source"),
        "structure": structure_of(run.row, recipe),
        "measured": measured(run.folder),
    }


def precision_of(recipe: Recipe, cpu: str | None) -> str | None:
    """The precision that was trained in; None where the recipe left it to another machine than this."""
    return precision(recipe) if recipe.precision != "auto" or cpu == processor.name() else None


def structure_of(row: Row, recipe: Recipe) -> dict[str, str]:
    """What the papers' tables leave out, of the network that a recipe trains.

    block            bireal or plain, shortcut: precision of the 1x1 convolutions beside blocks; "-" in a network without blocks
    nonlinearity     after each block
    pretraining      what its weights start from, distillation: what it learns from; "-" for none
    """
    network = MODELS[recipe.model]
    family = network.family
    method = methods.create(recipe.method, **recipe.options)
    structure = method.structure_of(family, network.structure, **recipe.structure)
    residual = family.startswith("residual")
    shortcut = "option A" if family == "residual_cifar" else structure.shortcut
    links = {key: str((row.values or {}).get(key) or "-") for key in ("initial", "teacher")}
    named = {key: value if value.startswith("row:") else Path(value).name for key, value in links.items()}
    teacher = named["teacher"].removeprefix("row:")
    return {
        "block": structure.block if residual else "-",
        "shortcut": shortcut if residual else "-",
        "nonlinearity": structure.nonlinearity,
        "pretraining": named["initial"].removeprefix("row:"),
        "distillation": teacher if teacher == "-" else f"{recipe.distillation} from {teacher}",
    }


def measured(folder: Path) -> dict[str, Any]:
    """What was measured of the run in this folder since it was trained."""
    try:
        found = json.loads((folder / MEASURED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: found[name] for name in MEASUREMENTS if isinstance(found, dict) and isinstance(found.get(name), dict)}


def lacks(run: Run, alone: bool) -> list[str]:
    """Measurements that the run's folder has no values of, of one kind."""
    return [name for name in missing(run.recipe, measured(run.folder)) if MEASUREMENTS[name].alone == alone]
