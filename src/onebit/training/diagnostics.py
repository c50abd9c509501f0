"""What an epoch did to the binary layers, whatever the method: a line of diagnostics.jsonl, and the same for TensorBoard.

Each line is one epoch:

    epoch          from 1
    observed       steps whose signs were compared, see `onebit.training.signs`
    layers         names of the binary layers, in order
    measures       {name: a number for each layer, null where there is none}: those of `onebit.nn.measures` of the weights,
                   those of `onebit.training.signs`, and `turned`, the share of signs that are not the latent weight's
    values         {name: [mean, least, largest] for each layer}: the binary form's numbers (weight.form.scale, ...) and
                   what the method learns or schedules, one number or one per channel (activation.shift, weight.gamma, ...)
    histograms     [first edge, last edge, counts] of what is binarized, for each layer

Written by the first rank; `onebit analyze` reads it.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onebit import files
from onebit.nn.latent import binarized
from onebit.nn.layers import BinaryConv2d, BinaryLinear, binary_layers
from onebit.nn.measures import histogram, weight_measures
from onebit.nn.sign import sign
from onebit.training.signs import Signs
from onebit.training.tensorboard import Events

NAME = "diagnostics.jsonl"
Layer = BinaryConv2d | BinaryLinear


def record_epoch(out: Path, epoch: int, signs: Signs, model: nn.Module, events: Events | None) -> None:
    """Append the epoch (from 1) to the file in `out`, in place of lines of that or later epochs; and to the events."""
    if not signs.layers:
        return
    observed = signs.pairs + 1 if signs.pairs else 0
    flips, rows = signs.end_epoch(), describe(model)
    of_signs = [
        {name: values[place] for name, values in flips.items()} if layer in signs.layers else {}
        for layer, place in places(rows["layers"], signs.layers)
    ]
    for name in flips:
        rows["measures"][name] = [measures.get(name) for measures in of_signs]
    row = {"epoch": epoch, "observed": observed, **rows}
    path = out / NAME
    before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [line for line in before if 0 < epoch_of(line) < epoch]
    text = json.dumps(rounded(row), allow_nan=False, separators=(",", ":"))
    files.write_text(path, "".join(f"{line}\n" for line in [*kept, text]))
    if events is not None:
        write_events(events, row)


def places(names: list[str], watched: dict[str, Any]) -> list[tuple[str, int]]:
    """(name, its place among the watched layers) of all layers; -1 for those that are not watched."""
    order = {name: place for place, name in enumerate(watched)}
    return [(name, order.get(name, -1)) for name in names]


def epoch_of(line: str) -> int:
    """The epoch that a line says it is of, 0 of a line that is none of ours."""
    head = line.removeprefix('{"epoch":').partition(",")[0]
    return int(head) if head.isdigit() else 0


@torch.no_grad()
def describe(model: nn.Module) -> dict[str, Any]:
    """{"layers", "measures", "values", "histograms"} of a model's binary layers as they are."""
    layers = binary_layers(model)
    each = [(layer_measures(layer), layer_values(layer)) for _, layer in layers]
    return {
        "layers": [name for name, _ in layers],
        "measures": by_name([measures for (measures, _), _ in each]),
        "values": by_name([values for _, values in each]),
        "histograms": [histogram for (_, histogram), _ in each],
    }


def by_name(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """{name: the value of each row, None where it has none}."""
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}


def layer_measures(layer: Layer) -> tuple[dict[str, float], tuple[float, float, list[int]] | None]:
    """(measures by name, histogram of what is binarized) of a layer's weights."""
    binarizer, weight = layer.weight_binarizer, layer.weight.detach()
    if binarizer is None:
        return {}, None
    forms = binarizer.freeze(weight)
    xs = binarized(binarizer, weight, forms)
    turned = torch.stack([(form.signs != sign(weight)).float().mean() for form in forms]).mean().item()
    return {**weight_measures(weight, forms, xs), "turned": turned}, histogram(torch.stack(xs)) if xs else None


def layer_values(layer: Layer) -> dict[str, list[float]]:
    """[mean, least, largest] by name of what the layer's binarizers learn, schedule and freeze to."""
    found: dict[str, Tensor] = {}
    for operand, binarizer in (("weight", layer.weight_binarizer), ("activation", layer.activation_binarizer)):
        if binarizer is None:
            continue
        forms: tuple[Any, ...] = (
            binarizer.freeze(layer.weight) if operand == "weight" else binarizer.freeze()  # type: ignore[call-arg]
        )
        for number, form in enumerate(forms):
            for part in ("scale", "offset", "threshold"):
                value = getattr(form, part, None)
                if value is not None and not isinstance(value, str):
                    key = f"{operand}.form{number or ''}.{part}"
                    found[key] = torch.as_tensor(value, dtype=torch.float32)
        for name, tensor in [*binarizer.named_parameters(), *binarizer.named_buffers()]:
            # Rotations, and weights of the step before, are neither one number nor one a channel.
            if sum(size > 1 for size in tensor.shape) <= 1 and not name.startswith("last_"):
                found[f"{operand}.{name}"] = tensor.detach().float()
    return {
        name: [value.mean().item(), value.min().item(), value.max().item()]
        for name, value in found.items()
        if value.numel()
    }


def write_events(events: Events, row: dict[str, Any]) -> None:
    """The row as scalars `measure/layer`, `value/layer`, and histograms `binarized/layer`."""
    scalars: dict[str, float] = {}
    for name, values in row["measures"].items():
        scalars |= {f"{name}/{layer}": value for layer, value in zip(row["layers"], values) if value is not None}
    for name, values in row["values"].items():
        scalars |= {f"{name}/{layer}": value[0] for layer, value in zip(row["layers"], values) if value is not None}
    histograms = {
        f"binarized/{layer}": counted for layer, counted in zip(row["layers"], row["histograms"]) if counted is not None
    }
    events.together(scalars, histograms, row["epoch"])


def rounded(value: Any) -> Any:
    """Numbers to 6 digits, those that are not finite as None, through lists and dicts."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
