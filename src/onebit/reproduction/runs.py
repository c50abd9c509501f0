"""The runs that a table asks for: a row at a seed, its recipe, and the folder that holds its training.

A run's folder is RUNS/TABLE/ROW-SEED. Where that holds a training by another recipe (the row was changed since, or has other epochs),
it stays, and the run goes to ROW-SEED.2, then .3: the first that is free, or that the same recipe was trained in.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from onebit.checkpoints import checkpoint
from onebit.checkpoints.checkpoint import Checkpoint
from onebit.errors import UserError
from onebit.reproduction.table import FROM_ROW, LINKS, ResultTable, Row
from onebit.training.recipe import Recipe
from onebit.training.run_folder import FREE

DEFAULTS = dataclasses.asdict(Recipe())


@dataclass(frozen=True)
class Run:
    """recipe: with the command's own keys. settings: what identifies the training, see `settings_of`.
    needs: the runs whose last.ckpt it takes."""

    row: Row
    recipe: Recipe
    settings: dict[str, Any]
    folder: Path
    needs: tuple["Run", ...]

    @property
    def name(self) -> str:
        return self.folder.name


def settings_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a recipe that make it another training: not those declared free, and not those at their default, but for the
    ones that name what is trained."""
    always = ("data", "model", "method", "epochs", "seed")
    return {k: v for k, v in values.items() if k not in FREE and (k in always or v != DEFAULTS.get(k))}


def difference(settings: Mapping[str, Any], other: Mapping[str, Any], but: Iterable[str] = ()) -> dict[str, list[Any]]:
    """{key: [in settings, in other]} where two trainings differ, keys `but` left out.

    Checkpoints that a training starts or learns from are compared by the names of their files; what a row of the table
    gives is like any checkpoint.
    """
    found = {}
    for key in sorted({*settings, *other} - {*but}):
        one, two = settings.get(key, DEFAULTS.get(key)), other.get(key, DEFAULTS.get(key))
        if key in LINKS and one and two:
            rows = any(str(value).startswith(FROM_ROW) for value in (one, two))
            if rows or Path(one).name == Path(two).name:
                continue
        if one != two:
            found[key] = [one, two]
    return found


def differs(found: Mapping[str, list[Any]]) -> str:
    """A difference, for people."""
    return ", ".join(f"{key} {one!r} instead of {two!r}" for key, (two, one) in found.items())


def wanted(
    table: ResultTable, names: Iterable[str], seeds: Iterable[int], epochs: int | None, folder: Path, **keys: Any
) -> list[Run]:
    """The runs of these rows (all that stand for a training, where none is named), those that others need before them, and
    none twice: rows with one recipe have one run.

    keys: of every recipe, such as root and threads. Raises UserError for rows that are unknown or only cite a number.
    """
    rows = [table.row(name) for name in names] or table.trained()
    for row in rows:
        if row.values is None:
            raise UserError(
                f"row {row.name!r} only cites a number of {row.paper and row.paper.source}; choose another row"
            )
    found: list[Run] = []
    for seed in seeds:
        for row in rows:
            add(found, table, row, seed, epochs, folder, keys, ())
    return found


def add(
    found: list[Run],
    table: ResultTable,
    row: Row,
    seed: int,
    epochs: int | None,
    folder: Path,
    keys: dict[str, Any],
    above: tuple[str, ...],
) -> Run:
    """The row's run, added to those found with all that it needs, unless it is there."""
    if row.name in above:
        raise UserError(f"table {table.name}: row {row.name!r} needs itself, by way of {', '.join(above)}")
    needed = {
        name: add(found, table, table.row(name), seed, epochs, folder, keys, (*above, row.name)) for name in row.needs
    }
    values = {**(row.values or {}), **keys, "seed": seed, **({} if epochs is None else {"epochs": epochs})}
    settings = settings_of(dataclasses.asdict(Recipe(**values)))
    for run in found:
        if run.settings == settings:
            return run
    for key in LINKS:
        if str(value := values.get(key) or "").startswith(FROM_ROW):
            values[key] = str(needed[value.removeprefix(FROM_ROW)].folder / "last.ckpt")
    place = place_of(folder / table.name / f"{row.name}-{seed}", settings)
    run = Run(row, Recipe(**{**values, "out": str(place)}), settings, place, tuple(needed.values()))
    found.append(run)
    return run


def place_of(folder: Path, settings: Mapping[str, Any]) -> Path:
    """The first of FOLDER, FOLDER.2, ... that holds a training of these settings, or none."""
    for number in count(1):
        place = folder if number == 1 else folder.with_name(f"{folder.name}.{number}")
        saved = trained(place)
        if saved is None or not difference(settings, settings_of(recipe_of(saved))):
            return place
    raise AssertionError


def trained(folder: Path) -> Checkpoint | None:
    """What a training has saved in the folder; None where there is nothing. Raises UserError for what is damaged."""
    path = folder / "last.ckpt"
    if not path.exists():
        return None
    saved = checkpoint.load(path)
    if saved.progress is None:
        raise UserError(f"{path} was not written by onebit train; move it away")
    return saved


def recipe_of(saved: Checkpoint) -> dict[str, Any]:
    assert saved.progress is not None
    return DEFAULTS | saved.progress.recipe


def epochs_done(folder: Path) -> int:
    """Whole epochs that the folder's training has done."""
    saved = trained(folder)
    return 0 if saved is None or saved.progress is None else saved.progress.epoch


def finished(run: Run) -> bool:
    return epochs_done(run.folder) >= run.recipe.epochs
