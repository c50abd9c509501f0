"""`onebit.binarize`: the convolutions and linear layers of any network become binary ones, in place.

A layer stays the object that it was and changes its class, to BinaryConv2d or BinaryLinear: its name, weight (the latent
one now) and bias, hooks, device, type, mode, and whoever else holds it, in the network or in an optimizer, stay.
"""

import dataclasses
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from onebit import methods
from onebit.errors import UserError
from onebit.methods.method import Method
from onebit.models import selection
from onebit.models.dataflow import WEIGHTED, dataflow
from onebit.models.selection import Choice
from onebit.models.thresholds import batch_for, constant_signs, start_thresholds
from onebit.nn.layers import BinaryConv2d, BinaryLinear


@dataclass(frozen=True)
class Row:
    """A layer: its name, its class before, its weight's shape, whether it is binary now, and why not or what to mind."""

    name: str
    kind: str
    shape: tuple[int, ...]
    converted: bool
    reason: str = ""

    @property
    def weights(self) -> int:
        """Numbers in its weight."""
        return int(torch.Size(self.shape).numel())


@dataclass(frozen=True)
class Conversion:
    """What `binarize` did: a row for each convolution and linear layer. As text, a table with its totals."""

    method: str
    rows: tuple[Row, ...]
    parameters: int = 0  # of the method's own, which an optimizer that was made before does not know

    @property
    def converted(self) -> list[str]:
        """Names of the layers that are binary now."""
        return [row.name for row in self.rows if row.converted]

    @property
    def left(self) -> dict[str, str]:
        """{name of a layer that stayed as it was: why}."""
        return {row.name: row.reason for row in self.rows if not row.converted}

    @property
    def totals(self) -> str:
        """How many layers and weights are binary, as a line."""
        binary = sum(row.weights for row in self.rows if row.converted)
        total = sum(row.weights for row in self.rows) or 1
        counts = f"{len(self.converted)} of {len(self.rows)} layers binary"
        return f"{counts}, {binary:,} of {total:,} weights ({100 * binary / total:.1f} %)"

    def __str__(self) -> str:
        cells = [("layer", "kind", "weights", f"{self.method}", "")]
        cells += [
            (row.name or "(the model)", row.kind, "x".join(map(str, row.shape)), _word(row), row.reason)
            for row in self.rows
        ]
        widths = [max(len(line[i]) for line in cells) for i in range(4)]
        lines = ["  ".join([*(c.ljust(w) for c, w in zip(line, widths)), line[4]]).rstrip() for line in cells]
        lines.append(self.totals)
        if self.parameters:
            lines.append(f"{self.parameters} new parameters to train: make the optimizer after this")
        return "\n".join(lines)


def _word(row: Row) -> str:
    return "binary" if row.converted else "real"


def binarize(
    model: nn.Module,
    method: str = "adabin",
    *,
    skip: Choice | Iterable[Choice] | None = None,
    also: Choice | Iterable[Choice] | None = None,
    options: Mapping[str, object] | None = None,
    operands: str = "both",
    example_input: Any = None,
    calibrate: Any = None,
) -> Conversion:
    """Make the convolutions and linear layers of `model` binary, in place; returns the table of what was done.

    method         a row of the method table, with its options: binarize(model, "rbnn", options={"variant": "paper"})
    skip           layers to leave real besides those that `models.selection` leaves by default: names of modules (with all that
                   is in them), patterns ("*.fc?"), types, a function of name and module, or a list of such
    also           layers that are converted though they are left by default, named likewise; `skip` goes before
    operands       "both", or "activations" alone, the first step of two-step training
    example_input  a tensor, or a tuple or dict of arguments: what a network is run on that torch.fx cannot trace, to find its
                   first and last layer, and inputs that are never negative. Without it, such a network's first convolution and
                   last linear layer are those that it registers first and last
    calibrate      images to run the network on (likewise a tensor, tuple or dict), so that learned thresholds start at the mean
                   of their layer's inputs; methods without any stay as they are

    A UserWarning names layers whose inputs are never negative, as behind ReLU, while their threshold is 0: all signs are
    then +1. Raises UserError for an unknown method, option or layer, for a model that cannot be changed, and where nothing
    would be converted; the model is then as it was.
    """
    if calibrate is not None:
        calibrate = batch_for(model, calibrate)
    table = convert(
        model,
        chosen_method(method, options, operands),
        skip=skip,
        also=also,
        example_input=example_input,
        method=method,
    )
    if calibrate is not None:
        start_thresholds(model, calibrate)
    if warning := one_sided(model, table):
        warnings.warn(warning, stacklevel=2)
    return table


def chosen_method(name: str, options: Mapping[str, object] | None, operands: str) -> Method:
    """The method whose binarizers layers get. Raises UserError."""
    if options is not None and not isinstance(options, Mapping):
        raise UserError(f"options = {options!r} must be a dict of the method's options, such as {{'variant': 'paper'}}")
    chosen = methods.create(name, **(options or {}))
    if operands not in ("both", "activations"):
        raise UserError(f"operands = {operands!r} is unknown; choose both or activations")
    if chosen.activation is None:
        raise UserError(f"method {name!r} has no binary activations, so nothing would be binary; choose another method")
    return dataclasses.replace(chosen, weight=None) if operands == "activations" else chosen


def convert(
    model: nn.Module,
    chosen: Method,
    *,
    skip: Choice | Iterable[Choice] | None = None,
    also: Choice | Iterable[Choice] | None = None,
    example_input: Any = None,
    method: str = "",
) -> Conversion:
    """`binarize` without calibration and without the warning."""
    check_changeable(model)
    facts = dataflow(model, example_input)
    reasons = decide(model, skip, also, example_input, facts)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, WEIGHTED)}
    positive = {} if facts is None else facts.never_negative
    rows, made = [], {}
    for name, layer in layers.items():
        why = reasons[name]
        if not why:
            made[name] = binarizers(layer, chosen)
            why = f"inputs never negative ({positive[name]})" if name in positive else ""
        shape = tuple(layer.weight.shape) if isinstance(layer.weight, torch.Tensor) else ()
        rows.append(Row(name, type(layer).__name__, shape, not reasons[name], why))
    if not made:
        raise UserError(nothing(model, rows))
    for name, (weights, activations) in made.items():
        become_binary(layers[name], weights, activations)
    for module in model.modules():
        if isinstance(
            module, nn.TransformerEncoderLayer
        ):  # else PyTorch's fast path would read the linear layers' weights
            module.activation_relu_or_gelu = 0
    new = sum(len(list(part.parameters())) for parts in made.values() for part in parts if part is not None)
    return Conversion(method or chosen.name, tuple(rows), new)


def decide(model: nn.Module, skip: Any, also: Any, example_input: Any, facts: Any) -> dict[str, str]:
    """{name of a layer: why it stays as it is, "" if it becomes binary}."""
    skipped, wanted = selection.chosen(model, skip, "skip"), selection.chosen(model, also, "also")
    first, last = selection.ends(model, facts)
    elsewhere, owners = selection.read_elsewhere(model), dict[int, str]()
    reasons = {}
    for name, layer in model.named_modules():
        if not isinstance(layer, WEIGHTED):
            continue
        why = elsewhere.get(name, "") or selection.impossible(name, layer, facts, owners) or skipped.get(name, "")
        if why and name not in skipped and wanted.get(name) == f"also: {name!r}":
            raise UserError(f"binarize: also names {name}, which cannot become binary: {why}")
        if not why and name not in wanted:
            why = selection.by_default(name, layer, first, last)
        reasons[name] = why
    return reasons


def check_changeable(model: nn.Module) -> None:
    """Refuse what is no module, and wrappers that have looked at its parameters already."""
    if not isinstance(model, nn.Module):
        raise UserError(f"binarize takes an nn.Module, got {type(model).__name__}")
    for module in model.modules():
        kind = type(module).__name__
        if isinstance(module, torch.jit.ScriptModule):
            raise UserError("binarize: a TorchScript module cannot be changed; give the nn.Module it was made of")
        if kind == "OptimizedModule":
            raise UserError("binarize: the model is compiled already; binarize it first, then torch.compile it")
        if kind in ("DistributedDataParallel", "FullyShardedDataParallel"):
            raise UserError(f"binarize: the model is wrapped in {kind} already; binarize it first, then wrap it")
        weight = getattr(module, "weight", None) if isinstance(module, WEIGHTED) else None
        if isinstance(weight, nn.parameter.UninitializedParameter):
            raise UserError(f"binarize: a {kind} has no weights yet; run the model on an input once, then binarize it")


def nothing(model: nn.Module, rows: list[Row]) -> str:
    """Why nothing of a model becomes binary, as a message."""
    if not rows:
        return f"binarize: {type(model).__name__} holds no Conv2d and no Linear, which are what can become binary"
    (reason, _), *_ = Counter(row.reason for row in rows).most_common(1)
    row = next(row for row in rows if row.reason == reason)
    return (
        f"binarize: none of the {len(rows)} layers of {type(model).__name__} would become binary, such as "
        f"{row.name or 'itself'}: {reason}; name layers that are left by default with also="
    )


def binarizers(layer: nn.Module, chosen: Method) -> tuple[Any, Any]:
    """The method's binarizers for a layer, of its weight's device and type; trained where its weight is."""
    weight: Any = layer.weight
    channels: Any = layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features
    made = (chosen.weight(weight.shape) if chosen.weight else None, chosen.activation(channels))  # type: ignore[misc]
    for part in filter(None, made):
        part.to(weight.device, weight.dtype).train(layer.training)
        if not weight.requires_grad:
            part.requires_grad_(False)
    return made


def become_binary(layer: Any, weights: Any, activations: Any) -> None:
    """Change the class of a Conv2d or Linear."""
    layer.__class__ = BinaryConv2d if isinstance(layer, nn.Conv2d) else BinaryLinear
    if isinstance(layer, BinaryConv2d) and layer.padding == "same":  # the same in numbers, which packed files hold
        layer.padding = tuple(d * (k - 1) // 2 for d, k in zip(layer.dilation, layer.kernel_size))
    elif isinstance(layer, BinaryConv2d) and layer.padding == "valid":
        layer.padding = (0, 0)
    layer.take(weights, activations)


def one_sided(model: nn.Module, table: Conversion) -> str:
    """The warning about converted layers whose inputs are never negative and whose signs are therefore constant; "" if none.

    The layers behind them then give the same for every image.
    """
    named = dict(model.named_modules())
    found = [row.name for row in table.rows if row.converted and row.reason and constant_signs(named[row.name])]
    if not found:
        return ""
    layer: Any = named[found[0]]
    learned = any(True for _ in layer.activation_binarizer.parameters())
    remedy = (
        "start its thresholds at the inputs' mean with calibrate=images"
        if learned
        else "choose a method with a learned threshold (adabin, triad, reactnet; with calibrate=images), or the mean as "
        "threshold (rbnn), or the set {0, b} (dorefa)"
    )
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    why = next(row.reason for row in table.rows if row.name == found[0])
    return (
        f"binarize: layer {found[0]}{more}: {why} and the threshold is 0, so all signs are +1 whatever the image; "
        f"{remedy}, or move the nonlinearity behind the binary layer"
    )
