"""The reliability diagram: for each bin of confidence, how often the answer was right, and how many examples it has."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onebit import files
from onebit.errors import UserError

KINDS = (".png", ".svg", ".pdf")
DOTS = 150  # an inch


def check_name(path: str, inputs: Sequence[str]) -> None:
    """Refuse, before any work, a name that says no kind of picture, or is that of an input: a UserError."""
    files.check_output(path, inputs, "--reliability")
    if Path(path).suffix.lower() not in KINDS:
        raise UserError(f"--reliability {path}: give a name that ends in {', '.join(KINDS)}")


def draw(record: Mapping[str, Any], path: str, title: str) -> None:
    """Write the diagram of what `calibration.calibration` returns. Raises UserError where it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bins = [entry for entry in record["bins"] if entry["examples"]]
    left = [entry["from"] for entry in bins]
    width = record["bins"][0]["to"]
    total = sum(entry["examples"] for entry in bins)
    figure = Figure(figsize=(4.6, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    above, below = axes
    options: dict[str, Any] = {"width": width, "align": "edge", "edgecolor": "white", "linewidth": 0.8}
    above.bar(left, [entry["accuracy"] for entry in bins], color="#3454d1", label="accuracy", **options)
    # Below its mark a bin is too sure of itself, above it not sure enough.
    above.hlines(
        [entry["confidence"] for entry in bins],
        left,
        [start + width for start in left],
        color="#e0703a",
        linewidth=2.5,
        label="mean confidence",
    )
    above.plot([0, 100], [0, 100], color="#5b6270", linestyle="--", linewidth=1)
    above.set(xlim=(0, 100), ylim=(0, 100), ylabel="right answers, %")
    above.set_title(f"{title}\nexpected calibration error {record['ece']:.2f} %", fontsize="medium")
    figure.legend(*above.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    below.bar(left, [100 * entry["examples"] / total for entry in bins], color="#5b6270", **options)
    below.set(xlabel="confidence, %", ylabel="examples, %")
    content = io.BytesIO()
    figure.savefig(content, format=Path(path).suffix.lower().removeprefix("."), dpi=DOTS)
    files.write(path, lambda file: file.write(content.getvalue()), follow=True)
