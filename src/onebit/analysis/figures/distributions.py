"""Figures of distributions: weights and activations before they are binarized, and the surrogate gradients."""

from itertools import pairwise
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from onebit.analysis.figures.course import chosen
from onebit.analysis.figures.style import WIDTH, Picture, axes, colour
from onebit.analysis.study import Study

HIGHEST = 4.0  # slope that is drawn: sharper curves would leave all others flat
Counts = tuple[float, float, list[int]]


def weights(studies: list[Study]) -> list[Picture]:
    """RBNN's Fig. 6."""
    there = [(place, s) for place, s in enumerate(studies) if any(s.layers["histograms"])]
    if not there:
        return []

    def draw(axis: Any, place: int, study: Study, layer: int) -> bool:
        counted = study.layers["histograms"][layer]
        if counted is None:
            return False
        if study.run.course and len(study.run.course) > 1:
            first = study.run.course[0]
            if first["layers"] == study.layers["layers"] and first["histograms"][layer] is not None:
                outline(axis, first["histograms"][layer])
        bars(axis, counted, place)
        mean = mean_magnitude(counted)
        modes(axis, -mean, mean)
        return True

    sentence = (
        "What is binarized, at the end of training and (line) after the first epoch; the dashed lines are the two values that "
        "are closest to it, ±mean|x|. Weights near 0 are those whose signs flip most easily; two separate modes are what "
        "RBNN's rotation and ReBNN's loss strive for."
    )
    figure = rows_of(there, draw)
    return [Picture("histogram-weights", "Weights before they are binarized", sentence, figure)]


def activations(studies: list[Study]) -> list[Picture]:
    there = [(place, s) for place, s in enumerate(studies) if any(s.activations or [])]
    if not there:
        return []

    def draw(axis: Any, place: int, study: Study, layer: int) -> bool:
        described = (study.activations or [])[layer]
        if described is None:
            return False
        bars(axis, described["histogram"], place)
        modes(axis, *described["values"])
        return True

    sentence = (
        "Activations less their threshold, on test examples; the dashed lines are the two binary values. A spike at 0 holds "
        "values that a small change turns to the other sign."
    )
    figure = rows_of(there, draw)
    return [Picture("histogram-activations", "Activations before they are binarized", sentence, figure)]


def rows_of(there: list[tuple[int, Study]], draw: Any) -> Figure:
    """A row of three layers for each study."""
    figure = Figure(figsize=(WIDTH, 1.85 * len(there) + 0.2), layout="constrained")
    places = chosen([study for _, study in there])
    for part, (place, study) in zip(figure.subfigures(len(there), 1, squeeze=False)[:, 0], there):
        if len(there) > 1:
            part.suptitle(study.run.name, fontsize=10, x=0.02, ha="left", weight="bold")
        for axis, layer in zip(part.subplots(1, len(places), squeeze=False)[0], places):
            axis.set_title(f"binary layer {layer + 1}")
            axis.set_yticks([])
            axis.grid(False)
            axis.spines["left"].set_visible(False)
            axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(3, symmetric=True))
            if not draw(axis, place, study, layer):
                axis.text(0.5, 0.5, "real", transform=axis.transAxes, ha="center")
    return figure


def edges(counted: Counts) -> list[float]:
    first, last, counts = counted
    return [first + (last - first) * place / len(counts) for place in range(len(counts) + 1)]


def bars(axis: Any, counted: Counts, place: int) -> None:
    axis.stairs([n / max(sum(counted[2]), 1) for n in density(counted)], edges(counted), fill=True, color=colour(place))


def outline(axis: Any, counted: Counts) -> None:
    share = [n / max(sum(counted[2]), 1) for n in density(counted)]
    axis.stairs(share, edges(counted), color="#222222", lw=1, zorder=3)


def density(counted: Counts) -> list[float]:
    """Counts by width of the bins, so that histograms of other bins compare."""
    first, last, counts = counted
    return [n * len(counts) / (last - first) for n in counts]


def modes(axis: Any, low: float, high: float) -> None:
    for value in (low, high):
        axis.axvline(value, color="#222222", lw=1.2, ls="--", zorder=4)


def mean_magnitude(counted: Counts) -> float:
    """mean|x| by the histogram."""
    marks = edges(counted)
    centres = [(a + b) / 2 for a, b in pairwise(marks)]
    return sum(n * abs(x) for n, x in zip(counted[2], centres)) / max(sum(counted[2]), 1)


def surrogates(studies: list[Study]) -> list[Picture]:
    """RBNN's Fig. 5."""
    there = [s for s in studies if "weights" in s.curves or "activations" in s.curves]
    if not there:
        return []
    figure, grid = axes(len(there), 2, 2.1)
    shades = matplotlib.colormaps["viridis"].resampled(256)
    handles = {}
    for row, study in zip(grid, there):
        for axis, operand in zip(row, ("weights", "activations")):
            axis.set_title(operand if len(there) == 1 else f"{short(study.run.name)}: {operand}")
            if operand not in study.curves:
                axis.text(0.5, 0.5, "none", transform=axis.transAxes, ha="center")
                continue
            fractions = study.curves["fractions"]
            for fraction, slope in zip(fractions, study.curves[operand]):
                width = 1.2 + 2.4 * (1 - fraction)  # curves that coincide show all their colours
                (line,) = axis.plot(study.curves["x"], slope, color=shades(0.9 * fraction), lw=width)
                handles[f"{100 * fraction:.0f} %"] = line
            peak = max(max(slope) for slope in study.curves[operand])
            axis.set_ylim(0, min(1.06 * peak, HIGHEST))
            if peak > HIGHEST:
                axis.text(
                    0.98, 0.95, f"up to {peak:.1f} at 0", transform=axis.transAxes, ha="right", va="top", fontsize=8
                )
    for axis in grid[-1]:
        axis.set_xlabel("x")
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=5, title="of the training")
    sentence = (
        "What stands in for the derivative of sign in the backward pass (RBNN, Fig. 5), at five points of the training: wide "
        "curves let many weights learn, sharp ones are close to sign."
    )
    return [Picture("surrogates", "Surrogate gradients", sentence, figure)]


def short(name: str) -> str:
    return name if len(name) <= 20 else f"…{name[-19:]}"
