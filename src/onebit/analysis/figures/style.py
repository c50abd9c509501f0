"""How figures look, and how they become files: dark on white, colours that people who see colours differently tell apart."""

import io
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib
from matplotlib.figure import Figure

# Okabe and Ito's colours, in an order in which neighbours differ in lightness too; runs also differ in their markers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", ":", "-.")
WIDTH = 6.0  # inches: of a column of text
SETTINGS: Any = {
    "font.family": "DejaVu Sans",  # which comes with matplotlib
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.parse_math": False,  # names of runs and labels are what they are
    "svg.hashsalt": "onebit",
    "svg.fonttype": "path",
    "figure.facecolor": "white",
}


@dataclass
class Picture:
    """A figure of the report.

    name       of its files
    title      of its section
    sentence   what it shows and how it is read
    """

    name: str
    title: str
    sentence: str
    figure: Figure

    @cached_property
    def png(self) -> bytes:
        return self.drawn("png", dpi=160, metadata={"Software": None})

    @cached_property
    def svg(self) -> bytes:
        return self.drawn("svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))

    def drawn(self, kind: str, **options: Any) -> bytes:
        """The figure as a file. Characters that the font lacks are drawn as boxes."""
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            self.figure.savefig(buffer, format=kind, **options)
        self.figure.set_layout_engine("none")  # places are found, which takes most of the time
        return buffer.getvalue()


def axes(rows: int = 1, columns: int = 1, height: float = 2.6, **options: Any) -> tuple[Figure, Any]:
    """(figure, array of axes (rows, columns)) of WIDTH, each row `height` inches."""
    figure = Figure(figsize=(WIDTH, rows * height + 0.4), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def marker(place: int) -> str:
    return MARKERS[place % len(MARKERS)]


def legend(figure: Figure, handles: dict[str, Any], columns: int = 3, always: bool = False) -> None:
    """A legend of runs below the figure: {name: line}, in the runs' order. Nothing where there is one or none, but
    `always`."""
    handles = dict(sorted(handles.items(), key=lambda item: COLOURS.index(item[1].get_color())))
    if len(handles) > 1 or always:
        widest = max(map(len, handles))
        columns = max(1, min(columns, len(handles), 72 // (widest + 6)))
        texts = [f" {text}" if text.startswith("_") else text for text in handles]  # else it would be left out
        figure.legend(list(handles.values()), texts, loc="outside lower center", ncols=columns)


def whole(axis: Any) -> None:
    """Ticks at whole numbers: epochs, layers."""
    axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True, min_n_ticks=1))
