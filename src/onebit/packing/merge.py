"""Merging of affine nodes (batch norms) into the linear operators beside them, so that they cost nothing at run time."""

from __future__ import annotations

from collections import Counter

import torch

from onebit.packing.fold import Affine
from onebit.packing.lowering import Operation

LINEAR = ("conv", "linear", "binary_conv", "binary_linear")


def merge_affines(
    operations: list[Operation], outputs: tuple[str, ...], places: dict[str, str | None] | None = None
) -> tuple[list[Operation], tuple[str, ...]]:
    """The same network with fewer affine nodes; returns (operations, names of the nodes that the outputs are).

    places   receives, for each operation, the one that has its value afterwards, None where none has

    linear -> affine    g (W x + b) + h = (g W) x + (g b + h): whenever nothing else reads the linear operator; the same
                        for a layer that was split into a sum, g (sum_k y_k) + h = (g y_0 + h) + sum_k>0 g y_k
    affine -> linear    W (g x + h) + b = (W g) x + (W h + b): for `linear`, which has no padding
    """
    places = {} if places is None else places
    places.update({operation.name: operation.name for operation in operations})
    for operation in list(operations):
        if operation.op != "affine":
            continue
        affine = Affine(*operation.tensors["channels"])
        by_name = {o.name: o for o in operations}
        uses = Counter(name for o in operations for name in o.inputs) + Counter(outputs)
        source = by_name.get(operation.inputs[0])
        readers = [o for o in operations if operation.name in o.inputs]
        terms = [] if source is None else _terms(source, by_name, uses)
        if source is not None and terms:
            _after(terms[0], affine)
            for term in terms[1:]:
                _after(term, Affine(affine.scale, torch.zeros_like(affine.bias)))
            replacement = source.name
            _move(places, source.name, None)
            _move(places, operation.name, source.name)
        elif uses[operation.name] == 1 and readers and readers[0].op == "linear":
            _before(readers[0], affine)
            replacement = operation.inputs[0]
            _move(places, operation.name, None)
        else:
            continue
        operations = [o for o in operations if o is not operation]
        for other in operations:
            other.inputs = [replacement if name == operation.name else name for name in other.inputs]
        outputs = tuple(replacement if output == operation.name else output for output in outputs)
    return operations, outputs


def _move(places: dict[str, str | None], old: str, new: str | None) -> None:
    for name, place in places.items():
        if place == old:
            places[name] = new


def _terms(operation: Operation, by_name: dict[str, Operation], uses: Counter[str]) -> list[Operation]:
    """The linear operators whose sum `operation` is: itself, or those of a split layer; none where their values are read
    elsewhere too."""
    if uses[operation.name] != 1:
        return []
    if operation.op in LINEAR:
        return [operation]
    if not operation.split:
        return []
    terms = [_terms(by_name[name], by_name, uses) for name in operation.inputs]
    return [term for part in terms for term in part] if all(terms) else []


def _after(linear: Operation, affine: Affine) -> None:
    if linear.product is not None:
        linear.product = linear.product.then(affine)
        return
    weight = linear.tensors["weight"]  # (O, ...)
    bias = linear.tensors.get("bias", torch.zeros_like(affine.bias))
    linear.tensors["weight"] = weight * affine.scale.reshape(-1, *[1] * (weight.dim() - 1))
    linear.tensors["bias"] = bias * affine.scale + affine.bias


def _before(linear: Operation, affine: Affine) -> None:
    weight = linear.tensors["weight"]  # (O, I)
    bias = linear.tensors.get("bias", weight.new_zeros(weight.shape[0]))
    linear.tensors["bias"] = bias + weight @ affine.bias
    linear.tensors["weight"] = weight * affine.scale
