"""Folding of binary products and merging of batch norms, in float64: the function stays the same."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.nn.binarizer import ActivationForm, WeightForm
from onebit.packing.fold import BinaryProduct, batch_norm, binary_product
from onebit.packing.lowering import Operation
from onebit.packing.merge import merge_affines


def random_product(outputs: int, inputs: int, offset: bool = True) -> BinaryProduct:
    signs = torch.where(torch.randn(outputs, inputs, 3, 2) < 0, -1.0, 1.0)
    scale, bias, shifted = torch.randn(3, outputs, dtype=torch.float64)
    return BinaryProduct(signs, scale, bias, shifted if offset else torch.zeros_like(scale), 0.37)


def evaluate(product: BinaryProduct, a: Tensor, **geometry: int) -> Tensor:
    """Step 3 of the derivation: the sums run over the taps inside the image."""
    signs = product.signs.double()
    ones = torch.ones_like(a[:1])

    def sums(x: Tensor, b: Tensor) -> Tensor:
        return F.conv2d(x, b, None, **geometry)

    columns = [v.reshape(-1, 1, 1) for v in (product.scale, product.offset, product.bias)]
    u = sums(a, signs) + product.shift * sums(ones, signs)
    every = torch.ones_like(signs[:1])
    v = sums(a, every) + product.shift * sums(ones, every)
    return columns[0] * u + columns[1] * v + columns[2]


@pytest.mark.parametrize(("stride", "padding", "dilation"), list(product((1, 2), (0, 1, 2), (1, 2))))
def test_fold_is_the_convolution_with_zero_padding(stride, padding, dilation):
    """Steps 1 to 5 against F.conv2d of the real-valued weights and activations, batch norm included."""
    x = torch.randn(2, 5, 9, 8, dtype=torch.float64)
    weights = WeightForm(
        torch.where(torch.randn(6, 5, 3, 2) < 0, -1.0, 1.0).double(),
        torch.randn(6, dtype=torch.float64),  # of both signs
        torch.randn(6, dtype=torch.float64),
    )
    activations = ActivationForm(torch.randn(5, dtype=torch.float64), 0.7, -0.45)
    bias = torch.randn(6, dtype=torch.float64)
    norm = nn.BatchNorm2d(6).double().eval()
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean):
        tensor.normal_()
    norm.running_var.uniform_(0.5, 2)
    geometry = {"stride": stride, "padding": padding, "dilation": dilation}
    expected = F.conv2d(activations.activation(x), weights.weight(), bias, **geometry)
    a = ActivationForm(activations.threshold).activation(x)
    folded = binary_product(weights, activations, bias, "conv")
    torch.testing.assert_close(evaluate(folded, a, **geometry), expected, rtol=1e-12, atol=1e-12)
    affine = batch_norm(norm)
    expected = norm(expected)
    torch.testing.assert_close(evaluate(folded.then(affine), a, **geometry), expected, rtol=1e-12, atol=1e-12)
    canonical = folded.then(affine).canonical()
    assert (canonical.scale >= 0).all() and (folded.then(affine).scale < 0).any()
    torch.testing.assert_close(evaluate(canonical, a, **geometry), expected, rtol=1e-12, atol=1e-12)


def test_batch_norm_is_an_affine_map():
    for affine in (True, False):
        norm = nn.BatchNorm1d(7, eps=1e-3, affine=affine).double().eval()
        norm.running_mean.normal_()
        norm.running_var.uniform_(1e-6, 3)
        if affine:
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
        x = torch.randn(5, 7, dtype=torch.float64)
        folded = batch_norm(norm)
        torch.testing.assert_close(folded.scale * x + folded.bias, norm(x).detach(), rtol=1e-12, atol=1e-12)


def run(operations: list[Operation], output: str, x: Tensor) -> Tensor:
    """A small interpreter of linear, conv, binary_conv, affine, relu and add, in float64."""
    values = {"input": x}
    for o in operations:
        first = values[o.inputs[0]]
        bias = o.tensors.get("bias")
        match o.op:
            case "conv":
                y = F.conv2d(first, o.tensors["weight"], bias, padding=1)
            case "linear":
                y = F.linear(first, o.tensors["weight"], bias)
            case "binary_conv":
                y = evaluate(o.product, torch.where(first >= 0, 1.0, -1.0).double(), padding=1)
            case "affine":
                scale, shift = (v.reshape(-1, *[1] * (first.dim() - 2)) for v in o.tensors["channels"])
                y = scale * first + shift
            case "relu":
                y = first.clamp(min=0)
            case "add":
                y = first + values[o.inputs[1]]
        values[o.name] = y
    return values[output]


def wide(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def layer_of(op: str, name: str, source: str, bias: bool) -> Operation:
    """A layer of 4 inputs and 4 outputs."""
    if op == "binary_conv":
        return Operation(op, name, [source], product=random_product(4, 4))
    if op == "affine":
        return Operation(op, name, [source], tensors={"channels": wide(2, 4)})
    weight = wide(4, 4, 3, 3) if op == "conv" else wide(4, 4)
    return Operation(op, name, [source], tensors={"weight": weight} | ({"bias": wide(4)} if bias else {}))


MERGES = {
    # operations as (op, name, sources), output, operators left
    "after a convolution": ([("conv", "a", "input"), ("affine", "b", "a"), ("relu", "c", "b")], "c", "conv relu"),
    "at the end": ([("conv", "a", "input"), ("affine", "b", "a")], "b", "conv"),
    "after a binary convolution": ([("binary_conv", "a", "input"), ("affine", "b", "a")], "b", "binary_conv"),
    "two in a row": ([("conv", "a", "input"), ("affine", "b", "a"), ("affine", "c", "b")], "c", "conv"),
    "before linear": ([("relu", "a", "input"), ("affine", "b", "a"), ("linear", "c", "b")], "c", "relu linear"),
    "both sides": ([("linear", "a", "input"), ("affine", "b", "a"), ("linear", "c", "b")], "c", "linear linear"),
    "first of all": ([("affine", "a", "input"), ("linear", "b", "a")], "b", "linear"),
    # left alone, because another operator or the user sees the value between
    "not before a convolution": ([("affine", "a", "input"), ("conv", "b", "a")], "b", "affine conv"),
    "the source is read twice": (
        [("conv", "a", "input"), ("affine", "b", "a"), ("add", "c", "a b")],
        "c",
        "conv affine add",
    ),
    "the source is the output": ([("conv", "a", "input"), ("affine", "b", "a")], "a", "conv affine"),
    "read by linear and another": (
        [("affine", "a", "input"), ("linear", "b", "a"), ("add", "c", "a b")],
        "c",
        "affine linear add",
    ),
    "read twice by one": ([("affine", "a", "input"), ("add", "b", "a a")], "b", "affine add"),
    "after a layer's sum": (
        [
            ("binary_conv", "a", "input"),
            ("binary_conv", "b", "input"),
            ("sum", "c", "a b"),
            ("binary_conv", "d", "input"),
            ("sum", "e", "c d"),
            ("affine", "f", "e"),
        ],
        "f",
        "binary_conv binary_conv add binary_conv add",
    ),
    "a layer's sum is read twice": (
        [
            ("binary_conv", "a", "input"),
            ("binary_conv", "b", "input"),
            ("sum", "c", "a b"),
            ("affine", "d", "c"),
            ("add", "e", "c d"),
        ],
        "e",
        "binary_conv binary_conv add affine add",
    ),
    "after an addition": (
        [("conv", "a", "input"), ("add", "b", "a input"), ("affine", "c", "b")],
        "c",
        "conv add affine",
    ),
}


@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("what", MERGES)
def test_merging_leaves_the_function(what, bias):
    nodes, output, left = MERGES[what]
    operations = []
    for op, name, sources in nodes:
        first, *rest = sources.split()
        if op == "sum":
            operation = Operation("add", name, [first], split=True)
        else:
            operation = Operation(op, name, [first]) if op in ("relu", "add") else layer_of(op, name, first, bias)
        operation.inputs += rest
        operations.append(operation)
    vectors = any(o.op == "linear" for o in operations)
    x = wide(3, 4) if vectors else wide(3, 4, 5, 5)
    expected = run(operations, output, x)
    merged, (name,) = merge_affines(operations, (output,))
    assert " ".join(o.op for o in merged) == left
    torch.testing.assert_close(run(merged, name, x), expected, rtol=1e-12, atol=1e-12)
