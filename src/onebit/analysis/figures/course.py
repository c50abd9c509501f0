"""Figures of what happened over the epochs of a training."""

from typing import Any

from onebit.analysis.figures.style import LINES, Picture, axes, colour, legend, marker, whole
from onebit.analysis.runs import Run, over_epochs
from onebit.analysis.study import Study

PANELS = 12  # of learned values at most


def scores(studies: list[Study]) -> list[Picture]:
    """Loss and first score, in training and on the test examples."""
    with_metrics = [(place, s) for place, s in enumerate(studies) if s.run.metrics]
    if not with_metrics:
        return []
    figure, ((top,), (bottom,)) = axes(2, sharex=True)
    handles = {}
    for place, study in with_metrics:
        run, rows = study.run, study.run.metrics
        name = score_name(run)
        for axis, column, line in (
            (top, "train_loss", "-"),
            (bottom, f"train_{name}", "--"),
            (bottom, f"test_{name}", "-"),
        ):
            points = [(row["epoch"], row[column]) for row in rows if row.get(column) is not None]
            handles[run.name] = line_of(axis, points, place, line)
        bottom.set_ylabel(f"{name}, %")
    top.set_ylabel("training loss")
    bottom.set_xlabel("epoch")
    whole(bottom)
    legend(figure, handles)
    sentence = (
        "The loss in training, and the score in training (dashed, with augmentation) and on the test examples (solid); where "
        "the dashed line leaves the solid one behind, the network learns its examples by heart."
    )
    return [Picture("scores", "Course of training", sentence, figure)]


def score_name(run: Run) -> str:
    """The first score that metrics.csv has."""
    columns = [name for row in run.metrics[:1] for name in row]
    return next((c.removeprefix("test_") for c in columns if c.startswith("test_")), "accuracy")


def line_of(axis: Any, points: list[tuple[Any, Any]], place: int, line: str = "-") -> Any:
    """Draw (x, y) pairs in the colour of a run; returns the handle. Few points get markers."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    (handle,) = axis.plot(xs, ys, line, color=colour(place), marker=marker(place) if len(points) <= 30 else None)
    return handle


def chosen(studies: list[Study]) -> list[int]:
    """Places of three layers that all runs have: the 1st, 8th and 16th (as ReBNN shows), or the first, middle and last."""
    count = min((len(s.layers["layers"]) for s in studies), default=0)
    if not count:
        return []
    return [0, 7, 15] if count >= 16 else sorted({0, (count - 1) // 2, count - 1})


def recorded(studies: list[Study]) -> list[tuple[int, Study]]:
    """(place, study) of runs with diagnostics."""
    return [(place, s) for place, s in enumerate(studies) if s.run.course]


def angles(studies: list[Study]) -> list[Picture]:
    found = recorded(studies)
    if not found:
        return []
    figure, ((axis,),) = axes(1, height=2.8)
    handles = {}
    for place, study in found:
        count = len(study.run.course[-1]["layers"])
        lines = [dict(zip(*over_epochs(study.run, "angle", layer))) for layer in range(count)]
        epochs = sorted({epoch for line in lines for epoch in line})
        at = [[line[epoch] for line in lines if epoch in line] for epoch in epochs]
        if not epochs:
            continue
        axis.fill_between(epochs, [min(v) for v in at], [max(v) for v in at], color=colour(place), alpha=0.15, lw=0)
        points = [(epoch, sum(v) / len(v)) for epoch, v in zip(epochs, at)]
        handles[study.run.name] = line_of(axis, points, place)
    if not handles:
        return []
    gaussian(axis)
    axis.set_ylabel("angle, degrees")
    axis.set_xlabel("epoch")
    whole(axis)
    legend(figure, handles)
    sentence = (
        "The angle between what is binarized and its signs, the mean over layers (line) and their range (band); 37.1° (dashed) "
        "is that of Gaussian weights, smaller angles lose less."
    )
    return [Picture("angle-epochs", "Angle over epochs", sentence, figure)]


def gaussian(axis: Any) -> None:
    """The angle of Gaussian weights: cos = sqrt(2 / pi)."""
    axis.axhline(37.07, color="#777777", lw=1, ls="--", zorder=0)


def flips(studies: list[Study]) -> list[Picture]:
    """Flips per step and oscillation of three layers, and flips per epoch."""
    found = recorded(studies)
    if not found:
        return []
    places = chosen([s for _, s in found])
    figure, grid = axes(len(places), 2, 1.9, sharex=True)
    handles: dict[str, Any] = {}
    for row, layer in enumerate(places):
        for axis, name, title in zip(grid[row], ("flips_step", "oscillation"), ("flips per step", "oscillation")):
            handles |= shares(axis, found, name, f"{title}, binary layer {layer + 1}", layer)
            whole(axis)
    for axis in grid[-1]:
        axis.set_xlabel("epoch")
    legend(figure, handles)
    observed = max(row["observed"] for _, s in found for row in s.run.course)
    sentence = (
        "Signs of weights that flip from one step to the next (left), and those that flip and flip back at once (right: "
        f"sequential oscillation, as in ReBNN), means over the last steps of each epoch (up to {observed})."
    )
    pictures = [Picture("oscillation", "Flips from step to step, and oscillation", sentence, figure)]
    figure, grid = axes(3, 1, 1.9, sharex=True)
    handles = {}
    for axis, name, title in zip(
        grid[:, 0],
        ("flips_epoch", "flips_hook", "flips_initial"),
        (
            "since the end of the epoch before",
            "of these, by the hook of the epoch's start",
            "against the first network",
        ),
    ):
        handles |= shares(axis, found, name, title)
    grid[-1, 0].set_xlabel("epoch")
    whole(grid[-1, 0])
    legend(figure, handles)
    sentence = (
        "Signs that differ at the end of each epoch, means over layers; those that the start of an epoch flips are no step's "
        "doing but the method's (RBNN's rotations)."
    )
    return [*pictures, Picture("flips-epochs", "Flips over epochs", sentence, figure)]


def shares(
    axis: Any, found: list[tuple[int, Study]], name: str, title: str, layer: int | None = None
) -> dict[str, Any]:
    """A panel of a share of signs over epochs, of a layer or the mean over layers; returns {name of a run: its handle}."""
    handles: dict[str, Any] = {}
    for place, study in found:
        epochs, values = over_epochs(study.run, name, layer)
        points = [(epoch, 100 * value) for epoch, value in zip(epochs, values)]
        handles[study.run.name] = line_of(axis, points, place)
    axis.set_title(title)
    axis.set_ylabel("% of signs")
    axis.set_ylim(bottom=0)
    return handles


def learned(studies: list[Study]) -> list[Picture]:
    """What the binarizers learn, schedule and freeze to."""
    found = recorded(studies)
    names = sorted({name for _, s in found for name in moving(s.run)}, key=lambda name: (".form" not in name, name))
    names = names[:PANELS]
    if not names:
        return []
    rows = -(-len(names) // 2)
    figure, grid = axes(rows, 2, 1.75)
    handles = {}
    for axis, name in zip(grid.flat, names):
        for place, study in found:
            if name not in moving(study.run):
                continue
            at = [
                (row["epoch"], [value[0] for value in row["values"].get(name) or [] if value is not None])
                for row in study.run.course
            ]
            at = [(epoch, values) for epoch, values in at if values]
            epochs = [epoch for epoch, _ in at]
            low, high = [min(values) for _, values in at], [max(values) for _, values in at]
            axis.fill_between(epochs, low, high, color=colour(place), alpha=0.15, lw=0)
            points = [(epoch, sum(values) / len(values)) for epoch, values in at]
            handles[study.run.name] = line_of(axis, points, place, LINES[0])
        axis.set_title(name)
        axis.ticklabel_format(axis="y", scilimits=(-3, 4))
        whole(axis)
    for axis in grid.flat[len(names) :]:
        axis.set_visible(False)
    for axis in grid.flat[max(0, len(names) - 2) : len(names)]:
        axis.set_xlabel("epoch")
    legend(figure, handles)
    sentence = (
        "What the methods learn or schedule, by its name in the network (form: the binary values that the engine sees): the "
        "mean over layers and the range of the layers' means."
    )
    return [Picture("learned-values", "Learned values over epochs", sentence, figure)]


def moving(run: Run) -> list[str]:
    """Names of values that are not the same number everywhere and always, without those that repeat another."""
    seen: list[Any] = []
    names = []
    order = sorted({name for row in run.course for name in row["values"]}, key=lambda name: (".form" not in name, name))
    for name in order:
        values = [row["values"].get(name) for row in run.course]
        flat = {part[0] for row in values for part in row or [] if part is not None}
        if len(flat) > 1 and values not in seen:
            names.append(name)
            seen.append(values)
    return names
