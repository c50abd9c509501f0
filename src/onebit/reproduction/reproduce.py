"""`onebit reproduce`: train what a table lacks, measure it, and write the table anew after each run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from onebit import files
from onebit.errors import Incomplete, UserError
from onebit.machine import processor
from onebit.reproduction import records as record_files
from onebit.reproduction.job import forget, measure
from onebit.reproduction.jobs import Jobs
from onebit.reproduction.measurements import missing
from onebit.reproduction.record import lacks, record_of
from onebit.reproduction.records import Record
from onebit.reproduction.render import comma_separated, markdown, terminal
from onebit.reproduction.runs import (
    Run,
    difference,
    differs,
    epochs_done,
    finished,
    recipe_of,
    settings_of,
    trained,
    wanted,
)
from onebit.reproduction.shown import Shown
from onebit.reproduction.table import ResultTable
from onebit.training.folder_lock import FolderLock
from onebit.training.recipe import Recipe

COPIED = ("last.ckpt", "best.ckpt", "recipe.json", "metrics.csv", "diagnostics.jsonl")  # of a run folder


@dataclass(frozen=True)
class Places:
    """runs: folder of the run folders, out: of the results."""

    runs: Path
    out: Path

    def results(self, table: ResultTable) -> Path:
        return self.out / f"{table.name}.json"


def reproduce(
    table: ResultTable,
    places: Places,
    runs: Sequence[Run],
    *,
    only: Sequence[str] = (),
    jobs: int = 0,
    again: Sequence[str] = (),
    quiet: bool = False,
) -> tuple[dict[str, Any], str]:
    """Train and measure what has no record yet of these runs (see `runs.wanted`); returns ({"table", "records", "files",
    "failed"}, the table as text, of the rows `only` where any are named).

    jobs    runs side by side, with one thread each; 0 as many as processors, and one where there is a GPU
    again   measurements to repeat of what was trained here

    Raises UserError for values that cannot be used, Incomplete where some runs failed, Stopped after SIGTERM or SIGINT, when all
    that runs has saved.
    """
    path = places.results(table)
    repeated = [run for run in runs if again and finished(run)]
    for run in repeated:
        forget(run.folder, again)
    todo = unfinished(runs, path)
    todo += [run for run in repeated if run not in todo]
    for folder in (places.out, places.runs):  # before hours of training
        with files.failures(folder):
            folder.mkdir(parents=True, exist_ok=True)
    gpu = torch.cuda.is_available()
    count = jobs or (1 if gpu else processor.count())
    shown = Shown(quiet)
    with shown, Jobs(count, not gpu, shown.report) as work:
        beside = [run for run in todo if not finished(run) or lacks(run, alone=False)]
        work.work(beside, lambda run: note(run, table, path))
    failures = work.failures
    for run in (run for run in todo if run.name not in failures):
        try:
            if lacks(run, alone=True):
                shown.say(f"{run.name}: timed, alone")
                measure(run.recipe, run.folder, alone=True)
            note(run, table, path)
        except UserError as error:
            failures[run.name] = str(error)
    return answer(table, places, only, failures)


def unfinished(runs: Sequence[Run], path: Path) -> list[Run]:
    """The runs that something is to be done for, and those whose checkpoints they need, in the same order."""
    found = record_files.read(path)
    todo = [run for run in runs if state(run, found) != "done"]
    for run in reversed(runs):
        if run in todo:
            todo += [needed for needed in run.needs if needed not in todo and not finished(needed)]
    return [run for run in runs if run in todo]


def state(run: Run, found: Sequence[Record]) -> str:
    """What is to be done for a run: "done", "to measure", "to go on" or "to run". A run that another machine has done is done."""
    records = record_files.of(found, run.settings)
    if any(not missing(run.recipe, record["measured"]) for record in records):
        return "done"
    if finished(run):
        return "to measure"
    if records:
        return "done"  # here is nothing that it could be measured with
    return "to go on" if trained(run.folder) else "to run"


def note(run: Run, table: ResultTable, path: Path) -> None:
    """Put a finished run's record into the file of results, and write the table anew."""
    record_files.add(path, table.name, record_of(run, run.recipe))
    write(table, path)


def write(table: ResultTable, path: Path) -> list[str]:
    """Markdown and CSV beside the file of results; returns the names of those that there are."""
    found = record_files.read(path)
    texts = {".md": markdown(table, found), ".csv": comma_separated(table, found)}
    path.parent.mkdir(parents=True, exist_ok=True)
    for ending, text in texts.items():
        files.write_text(path.with_suffix(ending), text)
    return [str(path.with_suffix(ending)) for ending in (".json", *texts) if path.with_suffix(ending).exists()]


def answer(
    table: ResultTable, places: Places, only: Sequence[str], failures: dict[str, str] | None = None
) -> tuple[dict[str, Any], str]:
    """Write the table from its records, and say it. Raises Incomplete where there are failures."""
    path = places.results(table)
    written, found = write(table, path), record_files.read(path)
    result = {"table": table.name, "records": found, "files": written, "failed": failures or {}}
    text = f"{terminal(table, found, only)}\n\nresults: {', '.join(written)}; packed files: {places.runs / table.name}/*/model.safetensors"
    if failures:
        lines = "; ".join(f"{name}: {why}" for name, why in failures.items())
        raise Incomplete(f"{len(failures)} runs failed; {lines}", result, text)
    return result, text


def adopt(
    table: ResultTable, places: Places, row: str, seed: int, folder: Path, epochs: int | None, **keys: Any
) -> Run:
    """Copy a finished training by the row's recipe, from wherever `onebit train` left it, to where the row's runs are.

    Raises UserError for one that is not finished, or was trained by another recipe.
    """
    given = f"--adopt {row} {seed} {folder}"
    table.row(row)
    saved = trained(folder)
    if saved is None:
        raise UserError(f"{given}: there is no {folder / 'last.ckpt'}; name the folder of a training")
    recipe = Recipe(**recipe_of(saved))
    (run,) = [run for run in wanted(table, [row], [seed], epochs, places.runs, **keys) if run.row.name == row]
    if changed := difference(run.settings, settings_of(recipe_of(saved))):
        remedy = f"; --epochs {recipe.epochs}" if list(changed) == ["epochs"] else ""
        raise UserError(f"{given}: it was trained with {differs(changed)}{remedy}")
    if (done := epochs_done(folder)) < recipe.epochs:
        raise UserError(
            f"{given}: it has done {done} of {recipe.epochs} epochs; let it end first (onebit train --resume)"
        )
    if run.folder.resolve() == folder.resolve():
        return run
    if (run.folder / "last.ckpt").exists():
        raise UserError(f"{given}: {run.folder} holds a run of this row and seed; move it away first")
    run.folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(run.folder)
    lock.acquire()
    try:
        for name in COPIED[::-1]:  # last.ckpt, by which a run is known, in the end
            if (folder / name).exists():
                copy(folder / name, run.folder / name)
    finally:
        lock.release()
    return run


def copy(source: Path, path: Path) -> None:
    content = source.read_bytes()
    files.write(path, lambda file: file.write(content))
