"""All that is measured of one run: what figures, report and files are made from."""

import math
from dataclasses import dataclass, field
from typing import Any

from onebit.analysis.activations import activation_measures
from onebit.analysis.deployment import Answers, deploy
from onebit.analysis.examples import Source
from onebit.analysis.runs import Run
from onebit.analysis.sensitivity import sensitivity
from onebit.analysis.surrogates import curves
from onebit.training.diagnostics import describe
from onebit.training.signs import Signs

ACTIVATION_EXAMPLES = 200


@dataclass
class Study:
    """A run and its measures.

    layers        of the network as it is: "layers", "measures", "values", "histograms" as in diagnostics.jsonl
    activations   of each binary layer (`onebit.analysis.activations`), None without data
    curves        of the surrogate gradients
    sizes         bytes, and ms in the engine
    answers       to the test examples, None without data
    sensitivity   of each layer, None without data or where it was not asked for
    """

    run: Run
    layers: dict[str, Any]
    activations: list[dict[str, Any] | None] | None = None
    curves: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, Any] = field(default_factory=dict)
    answers: Answers | None = None
    sensitivity: dict[str, Any] | None = None

    def measure(self, name: str) -> list[float | None]:
        """A measure of each layer's weights, or by "activation.NAME" of its activations; None where there is none."""
        if name.startswith("activation."):
            part = name.removeprefix("activation.")
            values = [None if row is None else row[part] for row in self.activations or []]
        else:
            values = self.layers["measures"].get(name) or [None] * len(self.layers["layers"])
        return [value if value is not None and math.isfinite(value) else None for value in values]


def measured(
    run: Run, source: Source | None, images: int, sensitivity_images: int, threads: int | None = None
) -> Study:
    """Measure the run's network; on data, if there is any, of which `images` test examples are answered."""
    model = run.saved.network()
    study = Study(run, describe(model), curves=curves(model))
    progress = run.saved.progress
    if progress is not None and progress.signs is not None:
        signs = Signs(run.saved.network(averaged=False), 1)
        signs.load(progress.signs, str(run.path))
        flips = signs.end_epoch()
        of_layer = {name: place for place, name in enumerate(signs.layers)}
        for name in ("flips_initial", "flips_latent"):
            study.layers["measures"][name] = [
                flips[name][of_layer[layer]] if layer in of_layer else None for layer in study.layers["layers"]
            ]
    study.sizes, study.answers = deploy(run, source, images, threads)
    if source is not None and study.layers["layers"]:
        (batch,) = source.test(ACTIVATION_EXAMPLES, ACTIVATION_EXAMPLES)
        study.activations = activation_measures(model, batch.inputs)
        if sensitivity_images:
            study.sensitivity = sensitivity(model, source, sensitivity_images)
    return study
