"""Figures of what a classifier answers."""

import numpy as np

from onebit.analysis.deployment import Answers
from onebit.analysis.figures.style import WIDTH, Picture, axes
from onebit.analysis.subject import Subject

NUMBERED = 12  # classes whose counts are written into their cells
NAMED = 30  # classes whose names stand at the axes


def confusion(subject: Subject, number: int) -> list[Picture]:
    """The confusion matrix of one run, the `number`-th."""
    if subject.answers is None:
        return []
    answers: Answers = subject.answers
    counts = answers.confusion()
    classes = len(answers.labels)
    figure, ((axis,),) = axes(1, height=min(WIDTH, max(3.4, 0.42 * min(classes, NUMBERED) + 0.8)))
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axis.imshow(100 * share, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.set_xlabel("answer")
    axis.set_ylabel("label")
    ticks = range(classes) if classes <= NAMED else []
    names = [clipped(label) for label in answers.labels] if classes <= NAMED else []
    wide = max(map(len, names), default=0) > 3
    axis.set_xticks(ticks, names, rotation=45 if wide else 0, ha="right" if wide else "center", rotation_mode="anchor")
    axis.set_yticks(ticks, names)
    if classes <= NUMBERED:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if share[row, column] > 0.5 else "#222222"
                axis.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
    sentence = (
        f"How often examples of a row's class got the column's answer, of {len(answers.targets)} test examples; shades are "
        "shares of the row."
    )
    return [Picture(f"confusion-{number}", "Confusion matrix", sentence, figure)]


def clipped(label: str) -> str:
    text = "".join(c if c.isprintable() else "?" for c in label)
    return text if len(text) <= 14 else f"{text[:13]}…"
