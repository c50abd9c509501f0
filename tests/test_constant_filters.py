"""Filters whose weights are all equal, pruned to 0 or of one weight: no NaN, in training, frozen or packed."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import onebit
from checks import Case, case_id, cases, conv, linear
from onebit import methods, models, runtime
from onebit.checkpoints import checkpoint
from onebit.methods.adabin import EqualizedSign
from onebit.nn import layers
from onebit.nn.binarizer import standardized
from runs import digits, last, run, saved

STANDARDIZING = ("irnet", "rbnn-released", "rbnn-combined", "adabin-paper", "adabin-released", "siman", "ovsw")
CONSTANT = {"zeros": 0.0, "equal": 0.1, "negative": -3.7}


def network(case: Case, binary: nn.Module) -> nn.Sequential:
    tail = (nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), binary, *tail)


def loss_of(net: nn.Module) -> Tensor:
    return F.cross_entropy(net(torch.randn(16, 3, 10, 10)), torch.randint(0, 8, (16,)))


@pytest.mark.parametrize("case", cases(), ids=case_id)
@pytest.mark.parametrize("value", CONSTANT.values(), ids=CONSTANT)
def test_the_other_filters_train(case, value):
    """And of methods that standardise weights, the gradient of the constant filter is 0."""
    torch.manual_seed(0)
    method = methods.create(case[0], **case[1])
    layer = conv(method, 8, 8, (3, 3))
    with torch.no_grad():
        layer.weight[3] = value
    net = network(case, layer)
    layers.set_progress(net, 0.5)
    loss = loss_of(net)
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)
    gradients = layer.weight.grad.flatten(1).abs().amax(1)
    if case_id(case) in STANDARDIZING:
        assert gradients[3] == 0
    if case_id(case) != "rbnn-released":  # whose weights learn when theta has fallen
        assert gradients[[0, 1, 2, 4, 5, 6, 7]].all()
    for form in layer.weight_binarizer.freeze(layer.weight.detach()):
        assert form.weight().isfinite().all()


@pytest.mark.parametrize("case", cases(), ids=case_id)
@pytest.mark.parametrize("shape", ["depthwise 1x1", "one input", "one pixel"])
def test_filters_and_samples_of_one_number(case, shape):
    torch.manual_seed(0)
    method = methods.create(case[0], **case[1])
    if shape == "depthwise 1x1":
        net: nn.Module = network(case, conv(method, 8, 8, (1, 1), groups=8))
    else:
        binary = linear(method, 1, 8) if shape == "one input" else conv(method, 1, 8, (1, 1))
        head = (nn.Conv2d(3, 1, 3), nn.AdaptiveAvgPool2d(1))
        net = nn.Sequential(*head, *((nn.Flatten(), binary) if shape == "one input" else (binary, nn.Flatten())))
    layers.set_progress(net, 0.5)
    loss = loss_of(net)
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)
    with torch.no_grad():
        assert net.eval()(torch.randn(2, 3, 10, 10)).isfinite().all()


@pytest.mark.parametrize("count", [1, 2, 3, 9, 72, 576, 4608])
def test_rounding_is_no_deviation(count):
    """Of filters whose weights are all equal, of any size, the mean may be rounded."""
    values = torch.cat([torch.randn(200) * torch.logspace(-20, 10, 200), torch.zeros(1)])
    weight = values[:, None].expand(-1, count).clone().requires_grad_()
    standard = standardized(weight)
    standard.sum().backward()
    assert not standard.any() and not weight.grad.any()
    alpha, beta = EqualizedSign.set_of(weight)
    assert not alpha.any()
    torch.testing.assert_close(beta[:, 0], values)


def test_a_small_deviation_is_one():
    """And NaN stays NaN."""
    weight = 1 + 1e-5 * torch.randn(4, 100)
    assert standardized(weight).std(1).sub(1).abs().max() < 1e-3
    weight[0, 0] = torch.nan
    assert standardized(weight)[0].isnan().all() and EqualizedSign.set_of(weight)[0][0].isnan()


@pytest.mark.parametrize("case", cases(), ids=case_id)
def test_the_packed_network_has_them(case, tmp_path):
    torch.manual_seed(0)
    net = models.create("resnet8", case[0], options=case[1], in_channels=1, image_size=8).eval()
    with torch.no_grad():
        net.stages[0][0].conv1.weight[3] = 0
        net.stages[1][0].conv2.weight[5] = 0.25
    onebit.pack(net, tmp_path / "net.onebit", mean=[0.5], std=[0.25])
    x = torch.randn(4, 1, 8, 8)
    for backend in ("reference", "engine"):
        with torch.no_grad():
            right = net(x).numpy()
        np.testing.assert_allclose(runtime.load(tmp_path / "net.onebit", backend=backend)(x.numpy()), right, 1e-3, 1e-4)


@pytest.mark.parametrize("method", ["irnet", "adabin", "rbnn"])
def test_a_pruned_network_is_tuned(method, tmp_path):
    net = models.create("resnet8", method, in_channels=1, image_size=8)
    with torch.no_grad():
        net.stages[0][0].conv1.weight[3] = 0
    checkpoint.save(tmp_path / "pruned.ckpt", saved(net))
    run(digits(tmp_path / "run", method=method, epochs=1, initial=str(tmp_path / "pruned.ckpt")))
    assert all(value.isfinite().all() for value in last(tmp_path / "run").model.values())
    assert not last(tmp_path / "run").model["stages.0.0.conv1.weight"][3].any(), "the filter stays pruned"
