"""The folder of a training run: what is in it, and what must agree before a run in it continues."""

import dataclasses
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

import onebit
from onebit import files
from onebit.errors import UserError
from onebit.recipe import Recipe


def run_folder(recipe: Recipe, resume: bool, name: str) -> Path:
    out = Path(recipe.out or f"runs/{name}-{recipe.seed}")
    if (out / "last.ckpt").exists() and not resume:
        raise UserError(f"{out} already holds a run; continue it with --resume, or name another folder with --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out} cannot be created ({error.strerror}); name another folder with --out") from error
    return out


def check_same_recipe(out: Path, recipe: Recipe, saved: dict[str, Any]) -> None:
    """Refuse to resume under another recipe; where files lie and how fast they are read may change."""
    free = {
        "root",
        "out",
        "threads",
        "workers",
        "download",
        "checkpoint_steps",
        "eval_every",
        "accelerator",
        "devices",
        "strategy",
        "compile",
    }
    for key, value in dataclasses.asdict(recipe).items():
        if key not in free and saved.get(key) != value:
            raise UserError(
                f"--resume: {out} was trained with {key} = {saved.get(key)!r}, not {value!r}; use the same recipe"
            )


def write_run_files(out: Path, recipe: Recipe, fabric: Fabric) -> None:
    """recipe.json: all that is needed to repeat the run."""
    if fabric.is_global_zero:
        description = {
            "recipe": dataclasses.asdict(recipe),
            "command": sys.argv,
            "versions": {"onebit": onebit.__version__, "torch": torch.__version__, "python": platform.python_version()},
            "machine": {"device": str(fabric.device), "cpu": platform.processor(), "threads": torch.get_num_threads()},
        }
        files.write_text(out / "recipe.json", json.dumps(description, indent=2) + "\n")
