"""`onebit analyze`: what training, and one bit, did to the networks of runs: measures, figures, and one report."""

import csv
import io
import json
from functools import partial
from pathlib import Path
from typing import IO, Any

import matplotlib

from onebit import files
from onebit.analysis import examples, report, runs
from onebit.analysis.figures import course, distributions, layers, results
from onebit.analysis.figures.style import COLOURS, SETTINGS, Picture
from onebit.analysis.runs import Run
from onebit.analysis.study import Study, measured
from onebit.data.loading.workers import deaths_explained
from onebit.errors import UserError
from onebit.training.diagnostics import rounded

GROUPS = (  # of the report: title, and the figures that compare all runs
    ("Training", (course.scores,)),
    (
        "Weights",
        (
            layers.angles,
            course.angles,
            layers.errors,
            distributions.weights,
            layers.flips,
            course.flips,
            course.learned,
        ),
    ),
    ("Activations and bits", (distributions.activations, layers.information, distributions.surrogates)),
    ("Sensitivity", (layers.sensitivity,)),
    ("Confidence", (results.reliability,)),
)
OF_A_RUN = (results.confusion,)  # figures of each run alone, of the study and its number from 1


@deaths_explained()
def analyze(
    paths: list[str],
    out: str | Path | None = None,
    *,
    data: str | None = None,
    root: str | None = None,
    images: int = 10000,
    sensitivity: int = 500,
    threads: int | None = None,
) -> dict[str, Any]:
    """Analyze the runs in these folders, together.

    The folder `out` (default: `analysis` in the folder of a single run) receives report.html, measures.json, layers.csv, and
    each figure as PNG and SVG in figures/. `data` and `root` name the data set where it is not the recipe's, or elsewhere;
    `images` bounds the test examples that are answered, `sensitivity` those for each variant of a network (0: none is made).

    Returns {"out", "report", "figures", "runs": [{"name", "path", "method", "scores", "sizes", "layers", "activations",
    "surrogates", "sensitivity", "accuracy", "missing"}]}. Raises UserError for what is no run and for data that were named
    and cannot be used; data that nobody named and that are not there are missing in the report, which says so.
    """
    if len(paths) > len(COLOURS):
        raise UserError(f"{len(paths)} runs are more than figures can tell apart; give at most {len(COLOURS)}")
    there = runs.read(paths)
    folder = folder_of(out, there)
    studies = [measured(run, source_of(run, data, root), images, sensitivity, threads) for run in there]
    with matplotlib.rc_context(SETTINGS):
        groups = [(title, [p for draw in drawers for p in draw(studies)]) for title, drawers in GROUPS]
        of_runs = [[p for draw in OF_A_RUN for p in draw(s, number)] for number, s in enumerate(studies, 1)]
        written = write_figures(folder, [p for pictures in [*(two for _, two in groups), *of_runs] for p in pictures])
        files.write_text(folder / "report.html", report.page(studies, groups, of_runs))
    result = rounded([record(study) for study in studies])
    files.write_text(folder / "measures.json", json.dumps({"runs": result}, indent=1) + "\n")
    files.write_text(folder / "layers.csv", layer_rows(studies))
    return {"out": str(folder), "report": str(folder / "report.html"), "figures": written, "runs": result}


def folder_of(out: str | Path | None, there: list[Run]) -> Path:
    """The folder for what is written, made where it is not there. Raises UserError."""
    if out is None:
        if len(there) > 1:
            raise UserError("several runs have no folder of their own; name one for their report with --out")
        if not there[0].path.is_dir():
            raise UserError(f"{there[0].path} is no folder; name one for the report with --out")
    elif str(out) == "":
        raise UserError("--out '' names no folder; give one, or leave it out")
    folder = there[0].path / "analysis" if out is None else Path(out)
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error.strerror}; name another folder with --out") from error
    return folder


def source_of(run: Run, data: str | None, root: str | None) -> examples.Source | None:
    """The run's data set; None where it is not to be had and nobody asked for it, which run.missing then says."""
    name = data or run.recipe.get("data")
    if name is None:
        run.missing.append(
            "No data set is known: nothing that needs examples is shown; name one with --data and --root."
        )
        return None
    try:
        return examples.load(run, str(name), root or str(run.recipe.get("root") or "data"))
    except UserError as error:
        if data is not None or root is not None:
            raise
        run.missing.append(f"Nothing that needs examples is shown: {error}.")
        return None


def write_figures(folder: Path, pictures: list[Picture]) -> list[str]:
    """Write them as PNG and SVG, and remove those of an earlier analysis; returns the names."""
    names = [f"{picture.name}.{kind}" for picture in pictures for kind in ("png", "svg")]
    for old in (folder / "figures").glob("*.*"):
        if old.suffix in (".png", ".svg") and old.name not in names:
            old.unlink()
    for picture in pictures:
        for kind, data in (("png", picture.png), ("svg", picture.svg)):
            files.write(folder / "figures" / f"{picture.name}.{kind}", partial(fill, data=data))
    return names


def fill(file: IO[bytes], data: bytes) -> None:
    file.write(data)


def record(study: Study) -> dict[str, Any]:
    """What was measured, as plain values."""
    run, answers = study.run, study.answers
    return {
        "name": run.name,
        "path": str(run.path),
        "method": run.method,
        "scores": run.saved.scores,
        "accuracy": None
        if answers is None
        else {"percent": answers.accuracy, "examples": len(answers.targets), "by": answers.by},
        "sizes": study.sizes,
        "layers": study.layers,
        "activations": study.activations,
        "surrogates": study.curves,
        "sensitivity": study.sensitivity,
        "calibration": None if answers is None else answers.calibration,
        "confusion": None if answers is None else answers.confusion().tolist(),
        "missing": run.missing,
    }


def layer_rows(studies: list[Study]) -> str:
    """The measures as CSV: one row for each run and layer."""
    names = list(dict.fromkeys(name for s in studies for name in s.layers["measures"]))
    names += [f"activation.{name}" for name in ("angle", "entropy", "entropy_channels", "kl", "share")]
    rows = [["run", "layer", *names, "gain_weights", "gain_activations"]]
    for study in studies:
        columns = [study.measure(name) for name in names]
        columns += [(study.sensitivity or {}).get(operand) or [] for operand in ("weights", "activations")]
        for place, layer in enumerate(study.layers["layers"]):
            cells = [rounded(column[place]) if place < len(column) else None for column in columns]
            rows.append([study.run.name, layer, *cells])
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()
