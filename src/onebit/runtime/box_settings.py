"""How a detector's boxes are made from its outputs: the `settings` of a task whose answer is "boxes", checked field by field.

All sizes are pixels of the network's input. The outputs are, in this order, with R rows of K labels and the background before them,

    scores     (R, 1, K + 1)
    offsets    (R, 1, 4), or (R, 1, 4·(K + 1)): a box for each channel of the scores
    proposals  (R, 1, 4): x1 y1 x2 y2; where the settings have no anchors
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onebit.errors import FormatError
from onebit.runtime.fields import MAX_CHANNELS, MAX_SIZE, fields, integer, not_negative, pair, positive, share, show

MAX_GRIDS, MAX_BOXES = 100, 1000  # of the settings, of a grid
OUTPUTS = ("scores", "offsets", "proposals")
WITHOUT_ANCHORS, WITH_ANCHORS = OUTPUTS, OUTPUTS[:2]


@dataclass(frozen=True)
class Grid:
    """Anchors of one map: row by row, column by column, the boxes (width, height) around ((x + ½)·step, (y + ½)·step).

    map    (rows, columns)
    step   (vertical, horizontal)
    """

    map: tuple[int, int]
    step: tuple[float, float]
    boxes: tuple[tuple[float, float], ...]

    def __len__(self) -> int:
        return self.map[0] * self.map[1] * len(self.boxes)


@dataclass(frozen=True)
class BoxSettings:
    """The fields as docs/format.md has them; a missing `candidates` is None, a missing `smallest` 0.

    size   (height, width) of the network's input
    """

    size: tuple[int, int]
    anchors: tuple[Grid, ...] | None
    weights: tuple[float, ...]
    score: float
    overlap: float
    candidates: int | None
    smallest: float
    most: int

    def to_dict(self) -> dict[str, Any]:
        """Inverse of `parse`."""
        grids = self.anchors and [
            {"map": list(grid.map), "step": list(grid.step), "boxes": [list(box) for box in grid.boxes]}
            for grid in self.anchors
        ]
        return {
            "size": list(self.size),
            **({"anchors": grids} if grids else {}),
            "weights": list(self.weights),
            "score": self.score,
            "overlap": self.overlap,
            **({} if self.candidates is None else {"candidates": self.candidates}),
            **({"smallest": self.smallest} if self.smallest else {}),
            "most": self.most,
        }

    def words(self) -> str:
        """For people, in one line."""
        if self.anchors is None:
            start = "boxes from the network's proposals"
        else:
            maps = ", ".join(f"{grid.map[0]} × {grid.map[1]} × {len(grid.boxes)}" for grid in self.anchors)
            start = f"{sum(map(len, self.anchors))} anchors ({maps})"
        parts = [
            f"scores above {self.score:g}",
            "" if self.candidates is None else f"the best {self.candidates} of a label",
            f"no two of a label overlapping by more than {self.overlap:g}",
            f"at least {self.smallest:g} pixels wide and high" if self.smallest else "",
            f"at most {self.most} in all",
        ]
        return f"{start}; {', '.join(filter(None, parts))}"


def parse(source: Any, where: str) -> BoxSettings:
    """Raises FormatError at the first missing, unknown, mistyped or out-of-range field."""
    entry = fields(
        source, where, {"size", "weights", "score", "overlap", "most"}, {"anchors", "candidates", "smallest"}
    )
    anchors, smallest = entry.get("anchors"), 0.0
    if "smallest" in entry:
        smallest = not_negative(entry["smallest"], f"{where}.smallest")
    return BoxSettings(
        size=pair(1, MAX_SIZE)(entry["size"], f"{where}.size"),
        anchors=_list(anchors, f"{where}.anchors", MAX_GRIDS, "grids", _grid) if "anchors" in entry else None,
        weights=_weights(entry["weights"], f"{where}.weights"),
        score=share(entry["score"], f"{where}.score"),
        overlap=share(entry["overlap"], f"{where}.overlap"),
        candidates=integer(1, MAX_CHANNELS)(entry["candidates"], f"{where}.candidates")
        if "candidates" in entry
        else None,
        smallest=smallest,
        most=integer(1, MAX_CHANNELS)(entry["most"], f"{where}.most"),
    )


def check(settings: BoxSettings, image: tuple[int, int, int] | None, outputs: Mapping[str, tuple[int, ...]]) -> None:
    """Raises FormatError unless the input is one image (C, H, W), of the size that the settings are for, and the outputs, (H, W, C)
    or (C,) by name, are those of a detector."""
    names = WITHOUT_ANCHORS if settings.anchors is None else WITH_ANCHORS
    if image is None:
        raise FormatError("graph.task.answer 'boxes' is for networks of one image")
    if image[1:] != settings.size:
        raise FormatError(f"graph.task.settings.size is {settings.size}, the network's input {image[1:]}")
    if tuple(outputs) != names:
        raise FormatError(
            f"the answer 'boxes' is read from the outputs {', '.join(names)}, in this order, got {', '.join(outputs)}"
        )
    scores = outputs["scores"]
    if len(scores) != 3 or scores[1] != 1 or scores[2] < 2:
        raise FormatError(f"the output scores must be (rows, 1, 1 + labels), got {scores}")
    rows, _, channels = scores
    if outputs["offsets"] not in ((rows, 1, 4), (rows, 1, 4 * channels)):
        raise FormatError(
            f"the output offsets must be {(rows, 1, 4)} or {(rows, 1, 4 * channels)}, got {outputs['offsets']}"
        )
    if settings.anchors is None:
        if outputs["proposals"] != (rows, 1, 4):
            raise FormatError(f"the output proposals must be {(rows, 1, 4)}, got {outputs['proposals']}")
    elif sum(map(len, settings.anchors)) != rows:
        raise FormatError(
            f"graph.task.settings.anchors are {sum(map(len, settings.anchors))}, the output scores has {rows} rows"
        )


def _grid(source: Any, where: str) -> Grid:
    entry = fields(source, where, {"map", "step", "boxes"})
    step = _pair(entry["step"], f"{where}.step")
    return Grid(
        pair(1, MAX_SIZE)(entry["map"], f"{where}.map"),
        step,
        _list(entry["boxes"], f"{where}.boxes", MAX_BOXES, "boxes", _pair),
    )


def _list(source: Any, where: str, most: int, what: str, check: Callable[[Any, str], Any]) -> tuple[Any, ...]:
    if not isinstance(source, list | tuple) or not 1 <= len(source) <= most:
        raise FormatError(f"{where} must be a list of 1 to {most} {what}, got {show(source)}")
    return tuple(check(item, f"{where}[{place}]") for place, item in enumerate(source))


def _several(source: Any, count: int, where: str, words: str) -> Sequence[Any]:
    if not isinstance(source, list | tuple) or len(source) != count:
        raise FormatError(f"{where} must be {words}, got {show(source)}")
    return source


def _pair(source: Any, where: str) -> tuple[float, float]:
    first, second = _several(source, 2, where, "a list of two numbers")
    return positive(first, where), positive(second, where)


def _weights(source: Any, where: str) -> tuple[float, ...]:
    return tuple(positive(item, where) for item in _several(source, 4, where, "a list of 4 numbers"))
