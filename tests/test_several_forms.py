"""Layers of several binary forms: a method made up here, with two for the weights and two for the activations."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import checks
from networks import SHAPES, check, settle
from onebit import methods, models, pack
from onebit.methods.method import Method
from onebit.nn.binarizer import ActivationBinarizer, ActivationForm, WeightBinarizer, WeightForm, filter_mean
from onebit.nn.sign import sign, surrogate_sign
from onebit.nn.structure import Structure
from onebit.nn.surrogates import approx_sign, identity
from onebit.runtime import format, load


class ResidualWeight(WeightBinarizer):
    """w ~ mean + s_1 B_1 + s_2 B_2: the signs and the mean magnitude of the centred weights, and of what those leave."""

    def parts(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        centred = weight - filter_mean(weight)
        rest = centred - filter_mean(centred, magnitude=True) * sign(centred)
        return filter_mean(weight), centred, rest

    def forward(self, weight: Tensor) -> Tensor:
        mean, centred, rest = self.parts(weight)
        first = filter_mean(centred, magnitude=True) * surrogate_sign(centred, identity)
        return first + mean + filter_mean(rest, magnitude=True) * surrogate_sign(rest, identity)

    def freeze(self, weight: Tensor) -> tuple[WeightForm, ...]:
        mean, centred, rest = self.parts(weight)
        scales = [filter_mean(part, magnitude=True).flatten() for part in (centred, rest)]
        return WeightForm(sign(centred), scales[0], mean.flatten()), WeightForm(sign(rest), scales[1])


class TwoThresholds(ActivationBinarizer):
    """a = sign(x - t_c) + 0.5 sign(x - t) + 0.25, a threshold learned per channel and one for all channels."""

    def __init__(self, channels: int):
        super().__init__(channels)
        self.each = nn.Parameter(torch.full((channels,), -0.5))
        self.all = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        each = self.each.reshape(1, -1, *[1] * (x.dim() - 2)).to(x.dtype)  # (1, C, ...)
        first, second = (surrogate_sign(x - t, approx_sign) for t in (each, self.all.to(x.dtype)))
        return first + 0.5 * second + 0.25

    def freeze(self) -> tuple[ActivationForm, ...]:
        return ActivationForm(self.each.detach()), ActivationForm(self.all.item(), 0.5, 0.25)


def two_by_two() -> Method:
    return Method("two_by_two", ResidualWeight, TwoThresholds, Structure(nonlinearity="prelu"))


def two_weights() -> Method:
    return Method("two_weights", ResidualWeight, methods.create("reactnet").activation)


@pytest.fixture(autouse=True)
def added(monkeypatch):
    for row in (two_by_two, two_weights):
        monkeypatch.setitem(methods.METHODS, row.__name__, row)


@pytest.mark.parametrize("row", [two_by_two, two_weights])
def test_it_passes_the_common_checks(row):
    checks.check_all(row())


@pytest.mark.parametrize("method", ["two_by_two", "two_weights"])
@pytest.mark.parametrize("model", ["resnet8", "vgg_small"])
def test_networks_pack(model, method, tmp_path):
    shape = SHAPES[model]
    network = settle(models.create(model, method, classes=7, image_size=shape[1]), shape)
    check(network, tmp_path / "net.onebit", shape)


class Layers(nn.Module):
    """A convolution with groups and a bias that is read twice and called twice, and a linear layer of a map."""

    def __init__(self, method: Method):
        super().__init__()
        self.conv = checks.conv(method, 6, 6, (3, 3), padding=1, groups=2, bias=True)
        self.hidden = checks.linear(method, 6 * 5 * 4, 9, bias=True)
        self.norm = nn.BatchNorm1d(9)
        self.linear = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)  # (B, 6, 5, 4)
        y = self.conv(y + x) + y
        return self.linear(torch.relu(self.norm(self.hidden(y.flatten(1)))))


def test_layers_pack(tmp_path):
    model = settle(Layers(two_by_two()), (6, 5, 4))
    pack(model, tmp_path / "net", input_shape=(6, 5, 4))
    x = torch.randn(5, 6, 5, 4)
    with torch.inference_mode():
        expected = model(x).numpy()
    for backend in ("engine", "reference"):
        np.testing.assert_allclose(load(tmp_path / "net", backend=backend)(x.numpy()), expected, rtol=0, atol=1e-4)


def test_products_sums_and_norms_in_the_file(tmp_path):
    """A layer is four products and the sums that end in its own name; its bias and its batch norm cost no node."""
    model = nn.Sequential(checks.conv(two_by_two(), 6, 8, (3, 3), bias=True), nn.BatchNorm2d(8), nn.ReLU())
    summary = pack(settle(model, (6, 5, 4)), tmp_path / "net", input_shape=(6, 5, 4))
    graph, tensors = format.read(tmp_path / "net")
    assert [(node.name, node.op, list(node.inputs)) for node in graph.nodes] == [
        ("0.a0w0", "binary_conv", ["input"]),
        ("0.a0w1", "binary_conv", ["input"]),
        ("0.a0w1.sum", "add", ["0.a0w0", "0.a0w1"]),
        ("0.a1w0", "binary_conv", ["input"]),
        ("0.a1w0.sum", "add", ["0.a0w1.sum", "0.a1w0"]),
        ("0.a1w1", "binary_conv", ["input"]),
        ("0", "add", ["0.a1w0.sum", "0.a1w1"]),
        ("2", "relu", ["0"]),
    ]
    biases = [tensors[f"0.a{j}w{i}.channels"][1] for j in range(2) for i in range(2)]
    assert np.abs(biases[0]).min() > 0 and not np.any(biases[1:])
    assert summary["binary_weights"] == 4 * model[0].weight.numel()


def test_a_method_without_a_form_is_named():
    class Nothing(WeightBinarizer):
        def freeze(self, weight: Tensor) -> tuple[WeightForm, ...]:
            return ()

    layer = checks.conv(Method("nothing", Nothing, TwoThresholds), 3, 3, (1, 1)).eval()
    with torch.no_grad(), pytest.raises(ValueError, match="no form"):
        layer(torch.randn(1, 3, 4, 4))
