"""Figures over the depth of a network: one point for each binary layer."""

from typing import Any

import matplotlib

from onebit.analysis.figures.course import gaussian, line_of
from onebit.analysis.figures.style import Picture, axes, legend, whole
from onebit.analysis.study import Study

LAYER = "binary layer, from the input"


def by_layer(axis: Any, values: list[float | None], place: int, factor: float = 1.0, line: str = "-") -> Any:
    """Draw one value a layer; returns the handle, None where there is no value."""
    points = [(number, factor * value) for number, value in enumerate(values, 1) if value is not None]
    return line_of(axis, points, place, line) if points else None


def panels(
    studies: list[Study], measures: list[tuple[str, str, str, float]], name: str, title: str, sentence: str
) -> list[Picture]:
    """One panel below the other for measures (name, title, label of the axis, factor) that any study has."""
    there = [row for row in measures if any(v is not None for s in studies for v in s.measure(row[0]))]
    if not there:
        return []
    figure, grid = axes(len(there), 1, 2.0 if len(there) > 1 else 2.8, sharex=True)
    handles = {}
    for axis, (measure, what, label, factor) in zip(grid[:, 0], there):
        for place, study in enumerate(studies):
            if (handle := by_layer(axis, study.measure(measure), place, factor)) is not None:
                handles[study.run.name] = handle
        axis.set_title(what)
        axis.set_ylabel(label)
        if measure.endswith("angle"):
            gaussian(axis)
        elif factor == 100:
            axis.set_ylim(bottom=0)
        elif measure in ("error", "norm") and apart([v for s in studies for v in s.measure(measure)]):
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(lambda value, place: f"{value:g}")
            axis.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    grid[-1, 0].set_xlabel(LAYER)
    whole(grid[-1, 0])
    legend(figure, handles)
    return [Picture(name, title, sentence, figure)]


def apart(values: list[float | None]) -> bool:
    """Whether positive values are too far apart for a linear axis: methods binarize weights in units of their own."""
    positive = [value for value in values if value is not None and value > 0]
    return bool(positive) and max(positive) > 30 * min(positive)


def angles(studies: list[Study]) -> list[Picture]:
    return panels(
        studies,
        [("angle", "weights", "degrees", 1), ("activation.angle", "activations", "degrees", 1)],
        "angle-layers",
        "Angle by layer",
        "The angle between what is binarized and its signs at the end of training; 37.1° (dashed) is that of Gaussian values.",
    )


def errors(studies: list[Study]) -> list[Picture]:
    return panels(
        studies,
        [
            ("error", "least quantization error, norm² × angle part", "", 1),
            ("norm", "its norm part, ‖x‖", "", 1),
            ("angle_part", "its angle part, sin²θ", "", 1),
            ("reconstruction", "‖w − binary w‖² / ‖w‖², with the method's own scales", "", 1),
        ],
        "error-layers",
        "Quantization error by layer",
        "How far weights are from their binary values (RBNN, eq. 1 and 2): the error that is left with the best scale is a norm "
        "times an angle, of which training can lower the angle; the last panel has the scales that the network uses.",
    )


def flips(studies: list[Study]) -> list[Picture]:
    return panels(
        studies,
        [
            ("flips_latent", "against the signs of the weights as drawn", "% of signs", 100),
            ("flips_initial", "against the first binary network", "% of signs", 100),
            ("turned", "against the latent weights' signs of the same moment", "% of signs", 100),
        ],
        "flips-layers",
        "Flips by layer",
        "Signs that differ at the end of training (RBNN, Fig. 7): a rotation turns half of them at once, gradients alone few.",
    )


def information(studies: list[Study]) -> list[Picture]:
    return panels(
        studies,
        [
            ("entropy_filters", "bit entropy of weights, mean over filters", "bits", 1),
            ("activation.entropy_channels", "bit entropy of activations, mean over channels", "bits", 1),
            ("kl", "KL(real ‖ binary) of weights", "bits", 1),
            ("activation.kl", "KL(real ‖ binary) of activations", "bits", 1),
        ],
        "information-layers",
        "Entropy and divergence by layer",
        "How much a bit can say (1 where both signs are equally frequent), and how far the distribution of real values is from "
        "that of the binary ones (AdaBin's criterion; both blurred by a quarter of the distance of the two values).",
    )


def sensitivity(studies: list[Study]) -> list[Picture]:
    there = [(place, s, s.sensitivity) for place, s in enumerate(studies) if s.sensitivity is not None]
    if not there:
        return []
    figure, grid = axes(2, 1, 2.0, sharex=True)
    handles = {}
    for axis, operand in zip(grid[:, 0], ("weights", "activations")):
        axis.axhline(0, color="#777777", lw=1, zorder=0)
        for place, study, gains in there:
            if (handle := by_layer(axis, gains[operand], place)) is not None:
                handles[study.run.name] = handle
        axis.set_title(f"the layer's {operand} left real")
        axis.set_ylabel("gain, points")
    if not handles:
        return []
    grid[-1, 0].set_xlabel(LAYER)
    whole(grid[-1, 0])
    legend(figure, handles)
    images = max(gains["images"] for _, _, gains in there)
    sentence = (
        "What the score gains when one operand of one layer computes with real numbers and all else stays binary, after batch "
        f"norms were estimated anew, on {images} test examples (one of them is {100 / images:.2f} points); layers above 0 lose "
        "by their bits, those below have learned to rely on them."
    )
    return [Picture("sensitivity", "Sensitivity by layer", sentence, figure)]
