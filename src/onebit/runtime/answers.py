"""From a network's outputs to what a person reads: [{"label", "score"}, ...], the best first, for each input; boxes have "box", too.

A task names the row of ANSWERS that its packed files carry. Only numpy is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from onebit.errors import FormatError, UserError
from onebit.runtime import box_settings, boxes

Answer = list[dict[str, Any]]
Settings = Mapping[str, Any]  # of a task record, checked; empty where there are none
Shape = tuple[int, int, int]
THRESHOLD = 0.5  # of boxes, for people
Frame = tuple[float, float, float, float]  # what the network saw of a picture: x1 y1 x2 y2 in the picture's pixels


class Asked(NamedTuple):
    """What a person wants to read.

    top         so many of an answer, the best ones; None: one label, or all boxes
    threshold   of boxes: those whose score is at least so much; None: THRESHOLD
    """

    top: int | None = None
    threshold: float | None = None


USUAL = Asked()


class Kind(Protocol):
    """How outputs are read: a row of ANSWERS.

    placed       whether the parts of an answer are boxes in the picture
    background   channels of the first output that stand for no label, before those that do
    """

    placed: ClassVar[bool]
    background: ClassVar[int]

    def settings(self, entry: Mapping[str, Any], where: str) -> Settings:
        """Those of a task record, every field checked. Raises FormatError."""

    def check(self, settings: Settings, image: Shape | None, outputs: Mapping[str, tuple[int, ...]]) -> None:
        """Raises FormatError where a network of these outputs, (H, W, C) or (C,) by name, has no such answer. `image`: (C, H, W)
        of the input, where it is one image."""

    def answers(
        self,
        outputs: Sequence[np.ndarray],
        settings: Settings,
        labels: Sequence[str] | None,
        frames: Sequence[Frame],
        asked: Asked,
    ) -> list[Answer]:
        """Of the outputs of a batch, in the file's order; without names, labels are numbers. Raises UserError.

        frames   of each input: the part of its picture that it shows
        """

    def text(self, answer: Answer) -> str:
        """On one line."""

    def header(self, labels: Sequence[str] | None, asked: Asked) -> list[str]:
        """Names of the columns of `rows`."""

    def rows(self, answer: Answer) -> list[list[Any]]:
        """For a table: one row, or one for each box."""


@dataclass(frozen=True)
class Labels:
    """A score for each label, of the first output (B, labels). `percent`: whether scores are probabilities."""

    scores: Callable[[np.ndarray], np.ndarray]
    percent: bool = True
    placed: ClassVar[bool] = False
    background: ClassVar[int] = 0

    def settings(self, entry: Mapping[str, Any], where: str) -> Settings:
        if "settings" in entry:
            raise FormatError(f"{where}.settings are for the answer 'boxes' alone; leave them out")
        return {}

    def check(self, settings: Settings, image: Shape | None, outputs: Mapping[str, tuple[int, ...]]) -> None:
        """Maps are allowed, which have no answer."""

    def answers(
        self,
        outputs: Sequence[np.ndarray],
        settings: Settings,
        labels: Sequence[str] | None,
        frames: Sequence[Frame],
        asked: Asked,
    ) -> list[Answer]:
        first = outputs[0]
        if first.ndim != 2:
            raise UserError(
                f"the network gives maps {first.shape[1:]}, not one number for each label: it has no answer"
            )
        scores = self.scores(first)
        names = labels or tuple(str(i) for i in range(scores.shape[1]))
        rows = []
        for row in scores:
            best = np.argsort(-row, kind="stable")[: asked.top or 1]
            rows.append([{"label": names[i], "score": round(float(row[i]), 6)} for i in best])
        return rows

    def text(self, answer: Answer) -> str:
        """Labels with their scores, in percent where they are probabilities."""
        return "  ".join(
            f"{p['label']} {100 * p['score']:.1f} %" if self.percent else f"{p['label']} {p['score']:g}" for p in answer
        )

    def header(self, labels: Sequence[str] | None, asked: Asked) -> list[str]:
        top = asked.top or 1
        count = min(top, len(labels)) if labels else top
        return [f"{what}_{place}" for place in range(1, count + 1) for what in ("label", "score")]

    def rows(self, answer: Answer) -> list[list[Any]]:
        return [[p[key] for p in answer for key in ("label", "score")]]


@dataclass(frozen=True)
class Boxes:
    """Boxes with a label and a score each, as `onebit.runtime.boxes` finds them; places are of the picture as it was given."""

    placed: ClassVar[bool] = True
    background: ClassVar[int] = 1

    def settings(self, entry: Mapping[str, Any], where: str) -> Settings:
        if "settings" not in entry:
            raise FormatError(f"{where} lacks settings, which the answer 'boxes' needs")
        return box_settings.parse(entry["settings"], f"{where}.settings").to_dict()

    def check(self, settings: Settings, image: Shape | None, outputs: Mapping[str, tuple[int, ...]]) -> None:
        box_settings.check(box_settings.parse(settings, "settings"), image, outputs)

    def answers(
        self,
        outputs: Sequence[np.ndarray],
        settings: Settings,
        labels: Sequence[str] | None,
        frames: Sequence[Frame],
        asked: Asked,
    ) -> list[Answer]:
        record = box_settings.parse(settings, "settings")
        least = THRESHOLD if asked.threshold is None else asked.threshold
        rows = []
        for found, (left, top, right, bottom) in zip(boxes.detections(outputs, record), frames, strict=True):
            scale = np.array([(right - left) / record.size[1], (bottom - top) / record.size[0]] * 2)
            places = found.boxes * scale + np.array([left, top] * 2)  # (N, 4)
            rows.append(
                [
                    {
                        "label": labels[label] if labels else str(label),
                        "score": round(float(score), 6),
                        "box": [round(float(at), 2) for at in place],
                    }
                    for place, score, label in zip(places, found.scores, found.labels)
                    if score >= least
                ][: asked.top]
            )
        return rows

    def text(self, answer: Answer) -> str:
        parts = (f"{p['label']} {100 * p['score']:.1f} % ({', '.join(f'{at:.0f}' for at in p['box'])})" for p in answer)
        return "  ".join(parts) or "no boxes"

    def header(self, labels: Sequence[str] | None, asked: Asked) -> list[str]:
        return ["label", "score", "x1", "y1", "x2", "y2"]

    def rows(self, answer: Answer) -> list[list[Any]]:
        """A picture without boxes has one row, which is empty."""
        return [[p["label"], p["score"], *p["box"]] for p in answer] or [[""] * 6]


def one(outputs: np.ndarray) -> np.ndarray:
    """One label of all: softmax of logits (B, labels); the scores of an input sum to 1."""
    logits = outputs.astype(np.float64)  # whose rounding is the same in C
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)


def several(outputs: np.ndarray) -> np.ndarray:
    """Any number of labels: the logistic function of logits (B, labels), each by itself."""
    return np.exp(-np.logaddexp(0, -outputs.astype(np.float64))).astype(np.float32)


def values(outputs: np.ndarray) -> np.ndarray:
    """Quantities that are their own score: outputs (B, labels) as they are."""
    return outputs


LABELS = {"one": Labels(one), "several": Labels(several), "values": Labels(values, percent=False)}
ANSWERS: dict[str, Kind] = {**LABELS, "boxes": Boxes()}
