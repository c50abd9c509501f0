"""Figures of what a classifier answers."""

import numpy as np

from onebit.analysis.deployment import Answers
from onebit.analysis.figures.course import line_of
from onebit.analysis.figures.style import WIDTH, Picture, axes, legend
from onebit.analysis.study import Study

NUMBERED = 12  # classes whose counts are written into their cells
NAMED = 30  # classes whose names stand at the axes


def reliability(studies: list[Study]) -> list[Picture]:
    """Confidence against accuracy, of all runs (`onebit.analysis.calibration`)."""
    there = [(place, s, s.answers) for place, s in enumerate(studies) if s.answers is not None]
    if not there:
        return []
    figure, ((axis,),) = axes(1, height=3.4)
    axis.plot([0, 100], [0, 100], "--", color="#777777", lw=1, zorder=0)
    handles = {}
    for place, study, answers in there:
        found = answers.calibration
        points = [(entry["confidence"], entry["accuracy"]) for entry in found["bins"] if entry["examples"]]
        handles[f"{study.run.name}: ECE {found['ece']:.2f} %"] = line_of(axis, points, place)
    axis.set(xlim=(0, 100), ylim=(0, 100), xlabel="confidence, %", ylabel="right answers, %", aspect="equal")
    legend(figure, handles, always=True)
    sentence = (
        "How often answers are right by the probability that the network gives them, in bins of confidence: above the diagonal it "
        "is less sure than it may be, below it is too sure. ECE, the expected calibration error, is the mean distance."
    )
    return [Picture("reliability", "Reliability", sentence, figure)]


def confusion(study: Study, number: int) -> list[Picture]:
    """The confusion matrix of one run, the `number`-th."""
    if study.answers is None:
        return []
    answers: Answers = study.answers
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
