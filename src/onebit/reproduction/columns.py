"""The columns of a printed table and of its CSV file: each is a line here, a function of `Line`. A column that is empty on every
line is left out."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from onebit.data.glue import LAYOUTS
from onebit.models import MODELS
from onebit.reproduction.lines import Line
from onebit.reproduction.table import Paper

Value = str | int | float | None
FIRST = {"detection": "map_50"}  # by task, where it is not the accuracy
OF_TEXTS = {  # score: its title
    "f1": "F1",
    "matthews": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
}


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean ± standard deviation over seeds; of one seed its value."""
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return (
        f"{mean} ± {statistics.stdev(values):.{digits}f} (n = {len(values)})" if len(values) > 1 else f"{mean} (n = 1)"
    )


def mean(values: Sequence[float], digits: int = 0) -> str:
    return f"{statistics.fmean(values):,.{digits}f}" if values else ""


def percent(value: float) -> str:
    """With one digit behind the point, or as many as were published."""
    return max(f"{value:.1f}", f"{value:g}", key=len)


def counted(epochs: int) -> str:
    return "1 epoch" if epochs == 1 else f"{epochs} epochs"


def papers(paper: Paper | None, score: str) -> str:
    """A paper's number, which never stands without the epochs that it took."""
    if paper is None or score not in paper.scores:
        return ""
    after = "(epochs not stated)" if paper.epochs is None else f"after {counted(paper.epochs)}"
    return f"{percent(paper.scores[score])} {after}"


def ours(line: Line, score: str) -> str:
    """Our score, with the epochs that it took; or that there is none."""
    values = line.score(score)
    if not line.records and score != first_score(line):
        return ""
    if line.row.values is None and not line.records:
        return "cited only"
    if not line.records:
        return "not run"
    return f"{spread(values)} after {counted(line.epochs or 0)}" if values else ""


def first_score(line: Line) -> str:
    """The score that the line's networks are compared by: that of the paper, or of the network's task."""
    if line.row.paper is not None:
        return next(iter(line.row.paper.scores))
    if not line.setting("model"):
        return "accuracy"
    task = MODELS[line.setting("model")].task
    return LAYOUTS[line.setting("glue")].scores[0] if task == "text" else FIRST.get(task, "accuracy")


def link(line: Line, name: str) -> str:
    """Of the structure, what a training starts or learns from; empty for none."""
    value = line.structure.get(name, "")
    return "" if value == "-" else value


def epochs(line: Line) -> str:
    paper = None if line.row.paper is None else line.row.paper.epochs
    own = "-" if line.epochs is None else line.epochs
    return f"{own} / {'-' if line.row.paper is None else '?' if paper is None else paper}"


def duration(values: Sequence[float]) -> str:
    if not values:
        return ""
    seconds = statistics.fmean(values)
    return (
        f"{seconds:.0f} s"
        if seconds < 600
        else f"{seconds / 60:.0f} min"
        if seconds < 36000
        else f"{seconds / 3600:.1f} h"
    )


def milliseconds(line: Line, name: str) -> str:
    values = line.measured("speed", name)
    return f"{statistics.median(values):.3f}{'*' if line.disturbed else ''}" if values else ""


@dataclass(frozen=True)
class Column:
    """cell: the text of a line. short: whether the terminal shows it too."""

    title: str
    cell: Callable[[Line], str]
    short: bool = False


def of_texts(score: str, title: str) -> tuple[Column, Column]:
    return (
        Column(f"our {title}, %", lambda line: ours(line, score), short=True),
        Column(f"{title} in the engine, %", lambda line: spread(line.measured("engine", score))),
    )


COLUMNS = (
    Column("row", lambda line: line.row.label),
    Column("the paper's accuracy, %", lambda line: papers(line.row.paper, "accuracy"), short=True),
    Column("ours, %", lambda line: ours(line, "accuracy"), short=True),
    Column("in the engine, %", lambda line: spread(line.measured("engine", "accuracy")), short=True),
    Column("the paper's AP50, %", lambda line: papers(line.row.paper, "map_50"), short=True),
    Column("our AP50, %", lambda line: ours(line, "map_50"), short=True),
    Column("AP50 in the engine, %", lambda line: spread(line.measured("engine", "map_50")), short=True),
    Column("our AP, %", lambda line: spread(line.score("map"))),
    Column("the paper's VOC 2007 AP50, %", lambda line: papers(line.row.paper, "voc07_map_50")),
    Column("our VOC 2007 AP50, %", lambda line: ours(line, "voc07_map_50")),
    *(column for score, title in OF_TEXTS.items() for column in of_texts(score, title)),
    Column("the paper's top-5, %", lambda line: papers(line.row.paper, "accuracy_top5")),
    Column("our top-5, %", lambda line: ours(line, "accuracy_top5") if line.score("accuracy_top5") else ""),
    Column("calibration error, %", lambda line: spread(line.measured("engine", "ece"))),
    Column("corrupted, %", lambda line: spread(line.measured("corrupted", "mean"))),
    Column("epochs, ours / the paper's", epochs),
    Column("network", lambda line: line.setting("model") or ""),
    Column("block", lambda line: line.structure.get("block", "")),
    Column("1×1 shortcuts", lambda line: line.structure.get("shortcut", "")),
    Column("nonlinearity", lambda line: line.structure.get("nonlinearity", "")),
    Column("starts from", lambda line: link(line, "pretraining")),
    Column("distillation", lambda line: link(line, "distillation")),
    Column("batch", lambda line: str(line.setting("batch_size") or "")),
    Column("training", lambda line: duration(line.seconds())),
    Column("bytes in float32", lambda line: mean(line.measured("packed", "float32_bytes")), short=True),
    Column("packed bytes", lambda line: mean(line.measured("packed", "bytes")), short=True),
    Column("ms in PyTorch", lambda line: milliseconds(line, "ms_pytorch"), short=True),
    Column("ms in the engine", lambda line: milliseconds(line, "ms"), short=True),
)


def filled(columns: Sequence[Column], lines: Sequence[Line]) -> list[Column]:
    """The columns that any of the lines has something in."""
    return [column for column in columns if any(column.cell(line) for line in lines)]


def first(values: Sequence[float], of: Callable[[Sequence[float]], float], least: int = 1) -> float | None:
    return round(of(values), 4) if len(values) >= least else None


def mean_of(score: str, line: Line, engine: bool = False) -> float | None:
    return first(line.measured("engine", score) if engine else line.score(score), statistics.fmean)


NUMBERS: dict[str, Callable[[Line], Value]] = {  # of the CSV file: one value a column, empty where there is none
    "row": lambda line: line.row.name,
    "group": lambda line: line.row.group,
    "settings": lambda line: "earlier" if line.earlier else "",
    "paper_accuracy": lambda line: None if line.row.paper is None else line.row.paper.scores.get("accuracy"),
    "paper_accuracy_top5": lambda line: None if line.row.paper is None else line.row.paper.scores.get("accuracy_top5"),
    "paper_epochs": lambda line: None if line.row.paper is None else line.row.paper.epochs,
    "paper_source": lambda line: None if line.row.paper is None else line.row.paper.source,
    "epochs": lambda line: line.epochs,
    "seeds": lambda line: " ".join(str(seed) for seed in sorted({record["seed"] for record in line.records})),
    "accuracy_mean": lambda line: first(line.score("accuracy"), statistics.fmean),
    "accuracy_std": lambda line: first(line.score("accuracy"), statistics.stdev, 2),
    "accuracy_top5_mean": lambda line: first(line.score("accuracy_top5"), statistics.fmean),
    "engine_accuracy_mean": lambda line: first(line.measured("engine", "accuracy"), statistics.fmean),
    "engine_ece_mean": lambda line: first(line.measured("engine", "ece"), statistics.fmean),
    "corrupted_mean": lambda line: first(line.measured("corrupted", "mean"), statistics.fmean),
    "map_50_mean": lambda line: first(line.score("map_50"), statistics.fmean),
    "map_50_std": lambda line: first(line.score("map_50"), statistics.stdev, 2),
    "map_mean": lambda line: first(line.score("map"), statistics.fmean),
    "engine_map_50_mean": lambda line: first(line.measured("engine", "map_50"), statistics.fmean),
    **{f"{score}_mean": partial(mean_of, score) for score in OF_TEXTS},
    **{f"engine_{score}_mean": partial(mean_of, score, engine=True) for score in OF_TEXTS},
    "block": lambda line: line.structure.get("block"),
    "shortcut": lambda line: line.structure.get("shortcut"),
    "nonlinearity": lambda line: line.structure.get("nonlinearity"),
    "pretraining": lambda line: line.structure.get("pretraining"),
    "distillation": lambda line: line.structure.get("distillation"),
    "model": lambda line: line.setting("model"),
    "method": lambda line: line.setting("method"),
    "batch_size": lambda line: line.setting("batch_size"),
    "train_seconds": lambda line: first(line.seconds(), statistics.fmean),
    "float32_bytes": lambda line: first(line.measured("packed", "float32_bytes"), statistics.fmean),
    "packed_bytes": lambda line: first(line.measured("packed", "bytes"), statistics.fmean),
    "ms_pytorch": lambda line: first(line.measured("speed", "ms_pytorch"), statistics.median),
    "ms_engine": lambda line: first(line.measured("speed", "ms"), statistics.median),
    "disturbed": lambda line: int(line.disturbed) if line.measured("speed", "ms") else None,
}
