"""Other batches and sizes than the one that is packed: whether the model makes the same calls there.

Numbers that a model's code takes from shapes are constants in the file: x / len(x), x[:, :, h // 2], a padding to a multiple of 16.
So the model is lowered again for other batches, on which its answers must not depend, and for other sizes of each input; where a
size gives other operations, the file takes the packed size alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from onebit.errors import UserError
from onebit.packing.comparison import probes
from onebit.packing.functions import FUNCTIONS
from onebit.packing.layers import converter, known
from onebit.packing.lowering import BATCH, Lowering, Operation
from onebit.packing.recording import called
from onebit.packing.tracing import Traced, trace
from onebit.runtime.inputs import Image, Input, Tokens


class Recorded(NamedTuple):
    """Operations before anything is merged into others, and the calls that they come from."""

    operations: list[Operation]
    lines: dict[str, str]  # of the model's code, by operation

    @classmethod
    def of(cls, lowering: Lowering, operations: list[Operation]) -> Recorded:
        kept = [
            dataclasses.replace(o, attributes=dict(o.attributes), tensors=dict(o.tensors), inputs=list(o.inputs))
            for o in operations
        ]
        names = {value.name: lowering.call(node) for node, value in lowering.values.items() if hasattr(value, "name")}
        return cls(kept, names)


def lowered(
    model: nn.Module, inputs: Mapping[str, Input], batch: int, check: bool
) -> tuple[Lowering, list[Operation], dict[str, str]]:
    """The model's operations for a batch of inputs. Raises UserError for what cannot be packed."""
    values = {argument: probes(source, batch) for argument, source in inputs.items()}
    lowering = Lowering(trace(model, values, known, check), converter, FUNCTIONS, inputs, batch)
    return lowering, *lowering.run()


def check_batches(model: nn.Module, inputs: Mapping[str, Input], packed: Recorded, traced: Traced) -> None:
    """Raises UserError for a model whose answers for an image depend on how many there are."""
    try:
        others, operations, _ = lowered(model, inputs, BATCH + 1, check=False)
    except UserError as error:
        raise UserError(
            f"the model takes {BATCH} images and not {BATCH + 1}: its forward has the batch's size as a number, as in view(2, -1); use "
            "flatten(1)"
        ) from error
    if (where := difference(packed, Recorded.of(others, operations))) is not None:
        raise _by_batch(where)
    one = trace(model, {argument: probes(source, 1) for argument, source in inputs.items()}, known, False)
    calls = [
        [(node.op, _called(node)) for node in found.graph.nodes if node.op != "get_attr"] for found in (traced, one)
    ]
    if calls[0] != calls[1]:
        place = next((i for i, pair in enumerate(zip(*calls)) if pair[0] != pair[1]), min(map(len, calls)))
        raise _by_batch(str((calls[0] + [("", "the end")] * len(calls[1]))[place][1]))


def _called(node: Any) -> str:
    return called(node.target) if node.op == "call_function" else str(node.target)


def _by_batch(where: str) -> UserError:
    return UserError(
        f"what the model computes of an image depends on how many images there are, first at {where}; a file takes any number: take "
        "len(x) and x.shape[0] out of what is computed"
    )


def fixed_inputs(
    model: nn.Module, inputs: Mapping[str, Input], packed: Recorded, takes: Callable[[dict[str, Any]], bool]
) -> set[str]:
    """The arguments whose inputs have no other size: one of twice or half the size fits the file (takes(sizes by name)), and the
    model makes other calls for it, or none."""
    found: set[str] = set()
    for group in groups(inputs):
        for others in zip(*(resized(inputs[argument]) for argument in group)):
            if not takes({other.name: other.map for other in others}):
                continue
            try:
                changed = {**inputs, **dict(zip(group, others))}
                lowering, operations, _ = lowered(model, changed, BATCH, check=False)
            except UserError:
                found.update(group)
                break
            if difference(packed, Recorded.of(lowering, operations)) is not None:
                found.update(group)
                break
    return found


def groups(inputs: Mapping[str, Input]) -> list[list[str]]:
    """The arguments whose sizes are changed together: each alone, but for those of a text, and all tokens of one length."""
    tokens = {argument: source for argument, source in inputs.items() if isinstance(source, Tokens)}
    lengths = [source.length for source in tokens.values()]
    alike = [
        [argument for argument in tokens if tokens[argument].length == length] for length in dict.fromkeys(lengths)
    ]
    alone = [[argument] for argument in inputs if not (argument in tokens and tokens[argument].holds)]
    return alone + [group for group in alike if len(group) > 1 or tokens[group[0]].holds]


def resized(source: Input) -> list[Input]:
    """The input at twice and at half its size; none of vectors."""
    if isinstance(source, Tokens):
        return [dataclasses.replace(source, length=n) for n in (2 * source.length, source.length // 2) if n]
    if not isinstance(source, Image) and len(source.shape) == 1:
        return []
    channels, height, width = source.shape  # type: ignore[misc]
    sizes = [(2 * height, 2 * width), (height // 2, width // 2)]
    return [dataclasses.replace(source, shape=(channels, *size)) for size in sizes if min(size) > 0]


def difference(one: Recorded, two: Recorded) -> str | None:
    """Where the second differs first, None where it does not. Binary products are their layers', which do not change."""
    for mine, theirs in zip(one.operations, two.operations):
        same = (mine.op, mine.name, mine.inputs, mine.attributes) == (
            theirs.op,
            theirs.name,
            theirs.inputs,
            theirs.attributes,
        )
        same = same and mine.tensors.keys() == theirs.tensors.keys()
        if not (same and all(_equal(mine.tensors[key], theirs.tensors[key]) for key in mine.tensors)):
            return one.lines.get(mine.name, mine.name)
    if len(one.operations) != len(two.operations):
        longer = one if len(one.operations) > len(two.operations) else two
        name = longer.operations[min(len(one.operations), len(two.operations))].name
        return longer.lines.get(name, name)
    return None


def _equal(one: Tensor, two: Tensor) -> bool:
    """NaN, which is refused in the end, with its layer, is itself here."""
    return one.shape == two.shape and bool(((one == two) | (one.isnan() & two.isnan())).all())
