"""A table as a figure: accuracy against bytes and against milliseconds, from its records alone."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from onebit import files
from onebit.analysis.figures.style import SETTINGS, Picture, axes, colour, marker
from onebit.errors import UserError
from onebit.reproduction.lines import Line, lines_of
from onebit.reproduction.records import Record
from onebit.reproduction.table import ResultTable

NAMED = 8  # points of one bit that have room for their names, the best first
ENGINES = {"onnxruntime": "ONNX Runtime, int8", "openvino": "OpenVINO, int8"}


@dataclass(frozen=True)
class Point:
    """label, and its place: accuracy in percent (mean over seeds; reach: their standard deviation), bytes, ms.

    kind   0 full precision in PyTorch, 1 int8 engines, 2 one bit in the engine
    """

    label: str
    accuracy: float
    reach: float
    bytes: float
    ms: float
    kind: int


KINDS = ("full precision, PyTorch", "full precision's int8 form", "one bit, onebit's engine")


def points_of(lines: Sequence[Line]) -> list[Point]:
    """Of each row that was run, the number of epochs that it was run longest for; the full-precision row gives its int8
    forms too."""
    found = []
    for line in {line.row.name: line for line in lines if line.records and not line.earlier}.values():
        accuracy = line.measured("engine", "accuracy")
        if not accuracy or not line.measured("speed", "ms"):
            continue
        mean = sum(accuracy) / len(accuracy)
        reach = statistics.stdev(accuracy) if len(accuracy) > 1 else 0.0
        if line.setting("method") != "float":
            size, ms = line.measured("packed", "bytes")[0], line.measured("speed", "ms")
            found.append(Point(line.row.label, mean, reach, size, min(ms), 2))
            continue
        size, ms = line.measured("packed", "float32_bytes")[0], line.measured("speed", "ms_pytorch")
        found.append(Point(line.row.label, mean, reach, size, min(ms), 0))
        for engine, label in ENGINES.items():
            if values := line.measured("int8", f"{engine}_accuracy"):
                size, ms = line.measured("int8", f"{engine}_bytes")[0], line.measured("int8", f"{engine}_ms")
                found.append(Point(label, sum(values) / len(values), 0.0, size, min(ms), 1))
    return found


def picture(table: ResultTable, records: Sequence[Record]) -> Picture:
    """Two panels that share the accuracy. Raises UserError for a table without a finished row."""
    points = points_of(lines_of(table, records))
    if not points:
        raise UserError(
            f"table {table.name} has no row that was run and timed; run it first: onebit reproduce {table.name}"
        )
    figure, ((left, right),) = axes(1, 2, height=3.4, sharey=True)
    figure.set_size_inches(9.0, 4.2)
    for axis, name, title in ((left, "bytes", "bytes of the file"), (right, "ms", "ms for one image, one thread")):
        for kind, words in enumerate(KINDS):
            if not (own := [point for point in points if point.kind == kind]):
                continue
            xs, ys = [getattr(point, name) for point in own], [point.accuracy for point in own]
            reach = [point.reach for point in own]
            axis.errorbar(xs, ys, reach, fmt=marker(kind), color=colour(kind), label=words, capsize=2, lw=1)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.xaxis.set_major_formatter(EngFormatter(sep="") if name == "bytes" else "{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel(title)
        others = sorted((p for p in points if p.kind == 2), key=lambda p: -p.accuracy)[NAMED:]
        labelled(axis, [point for point in points if point not in others], name, points)
    several = any(point.reach for point in points)
    left.set_ylabel("accuracy, %" + (" (± standard deviation over seeds)" if several else ""))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(KINDS))
    sentence = "Accuracy on the test images against the size of the file and the time of one image; up and to the left is better."
    if sum(point.kind == 2 for point in points) > NAMED:
        sentence += f" Of the networks of one bit the {NAMED} best are named."
    return Picture(table.name, table.title, sentence, figure)


def labelled(axis: Any, points: Sequence[Point], name: str, drawn: Sequence[Point]) -> None:
    """Names beside points, some of those drawn; those of points that lie close together stand one below the other."""
    low, high = min(p.accuracy for p in drawn), max(p.accuracy for p in drawn)
    step = max(high - low, 1.0) / 22  # of accuracy: a line of text
    placed: list[tuple[float, float]] = []  # (x, y) of texts
    for point in sorted(points, key=lambda p: -p.accuracy):
        x, y = getattr(point, name), point.accuracy
        near = [there for at, there in placed if 0.25 < at / x < 4]
        if near:
            y = min(y, min(near) - step)
        placed.append((x, y))
        axis.annotate(
            point.label,
            (x, point.accuracy),
            (1.25 * x, y),
            va="center",
            fontsize=7.5,
            arrowprops={"arrowstyle": "-", "color": "#999999", "lw": 0.5, "shrinkA": 0, "shrinkB": 2},
        )
    axis.set_xlim(right=axis.get_xlim()[1] * 3)


def write(path: Path, table: ResultTable, records: Sequence[Record]) -> str:
    """Draw the table into `path`, .svg or .png. Raises UserError for another ending, and where it cannot be written."""
    kinds = {".svg": "svg", ".png": "png"}
    if path.suffix not in kinds:
        raise UserError(f"--figure {path}: name a file that ends in .svg or .png")
    with matplotlib.rc_context(SETTINGS):
        content: bytes = getattr(picture(table, records), kinds[path.suffix])
    files.write(path, lambda file: file.write(content))
    return str(path)
