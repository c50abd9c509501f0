"""Measures of binarization against closed forms and plain loops, and what is binarized by every method."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from onebit import methods, models
from onebit.analysis.activations import described
from onebit.analysis.figures.distributions import mean_magnitude
from onebit.nn import measures
from onebit.nn.binarizer import ActivationForm, WeightForm
from onebit.nn.latent import binarized
from onebit.nn.layers import binary_layers
from onebit.nn.sign import sign

BINARY = [name for name in methods.METHODS if name != "float"]


def layers_of(method, steps=0):
    """Binary layers of a small network whose weights are no longer as they were drawn."""
    model = models.create("resnet8", method, in_channels=1, image_size=8)
    for _, layer in binary_layers(model):
        layer.weight.data.add_(0.02 * torch.randn_like(layer.weight)).mul_(1.3)
        layer.weight_binarizer.set_progress(0.4, layer.weight.detach())
    return binary_layers(model)


@pytest.mark.parametrize("method", BINARY)
def test_what_is_binarized_has_the_signs_that_the_engine_gets(method):
    for name, layer in layers_of(method):
        forms = layer.weight_binarizer.freeze(layer.weight)
        before = {key: value.clone() for key, value in layer.state_dict().items()}
        xs = binarized(layer.weight_binarizer, layer.weight, forms)
        assert len(xs) == len(forms), name
        for x, form in zip(xs, forms, strict=True):
            assert torch.equal(sign(x), form.signs) and x.shape == layer.weight.shape
        for key, value in layer.state_dict().items():
            assert torch.equal(value, before[key]), f"{key} has changed"
        assert not layer.weight_binarizer._forward_pre_hooks


def test_rbnn_binarizes_the_rotated_weights():
    for _, layer in layers_of("rbnn"):
        binarizer = layer.weight_binarizer
        (x,) = binarized(binarizer, layer.weight, binarizer.freeze(layer.weight))
        torch.testing.assert_close(x, binarizer.rotated(layer.weight).detach())
        turned = (sign(x) != sign(layer.weight)).float().mean()
        assert 0.3 < turned < 0.7


def test_the_least_error_is_norm_times_sine():
    """RBNN, eq. 1 and 2: min over scales of ||l b - x||^2, found by looking for it, is ||x||^2 sin^2 theta."""
    x = torch.randn(4, 3, 3, 3).double()
    square, sine = measures.filter_errors(x, sign(x))
    for o in range(4):
        w = x[o].flatten().numpy()
        b = np.where(w >= 0, 1.0, -1.0)
        scales = np.linspace(0, 3, 30001)
        least = min(((scale * b - w) ** 2).sum() for scale in scales)
        assert least == pytest.approx(float(square[o] * sine[o]), rel=1e-6)
        theta = math.acos((w @ b) / np.linalg.norm(w) / np.linalg.norm(b))
        assert float(sine[o]) == pytest.approx(math.sin(theta) ** 2)
        assert float(square[o]) == pytest.approx(np.linalg.norm(w) ** 2)
    zero, nothing = measures.filter_errors(torch.zeros(1, 5), torch.ones(1, 5))
    assert zero.item() == nothing.item() == 0


def test_weight_measures_by_plain_loops():
    weight = torch.randn(6, 4, 3, 3)
    scale = weight.abs().mean((1, 2, 3))
    form = WeightForm(sign(weight), scale, 0.1 * torch.ones(6))
    found = measures.weight_measures(weight, (form,), [weight])
    w, b = weight.double().numpy(), form.signs.double().numpy()
    cos = (w * b).sum() / np.linalg.norm(w) / np.linalg.norm(b)
    assert found["cosine"] == pytest.approx(cos, rel=1e-5)
    assert found["angle"] == pytest.approx(math.degrees(math.acos(cos)), rel=1e-5)
    assert found["norm"] == pytest.approx(np.linalg.norm(w), rel=1e-5)
    best = np.abs(w).mean((1, 2, 3), keepdims=True)
    assert found["error"] == pytest.approx(((w - best * b) ** 2).sum(), rel=1e-4)
    assert found["angle_part"] == pytest.approx(found["error"] / found["norm"] ** 2, rel=1e-5)
    binary = scale.double().numpy()[:, None, None, None] * b + 0.1
    assert found["reconstruction"] == pytest.approx(((w - binary) ** 2).sum() / (w**2).sum(), rel=1e-4)
    shares = [(b[o] > 0).mean() for o in range(6)]
    bits = [-sum(p * math.log2(p) for p in (share, 1 - share) if p) for share in shares]
    assert found["entropy_filters"] == pytest.approx(np.mean(bits), rel=1e-5)


def test_several_forms_count_as_their_sum_and_their_mean():
    weight = torch.randn(3, 8)
    one = WeightForm(sign(weight), torch.full((3,), 0.5))
    rest = weight - one.weight()
    two = WeightForm(sign(rest), torch.full((3,), 0.25))
    found = measures.weight_measures(weight, (one, two), [weight, rest])
    both = [measures.weight_measures(weight, (f,), [x]) for f, x in ((one, weight), (two, rest))]
    assert found["angle"] == pytest.approx((both[0]["angle"] + both[1]["angle"]) / 2)
    expected = ((rest - two.weight()) ** 2).sum() / (weight**2).sum()
    assert found["reconstruction"] == pytest.approx(expected.item(), rel=1e-5)


def test_entropy():
    found = measures.entropy(torch.tensor([0.0, 0.5, 1.0, 0.25]))
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 0.0, 0.811278124]))


def blurred_divergence(values, low, high, share, bins=160, reach=10.0):
    """The definition by plain loops: masses at centres of bins, each spread by a Gaussian, and sum p log2 p / q."""
    half, middle = (high - low) / 2, (high + low) / 2
    edges = np.linspace(-reach, reach, bins + 1)
    centres = (edges[1:] + edges[:-1]) / 2

    def spread(mass):
        total = np.zeros(bins)
        for place, m in enumerate(mass):
            if m:
                z = (edges - centres[place]) / 0.5 / 2**0.5
                part = [0.5 * abs(math.erfc(abs(a)) - math.erfc(abs(b))) for a, b in pairwise(z)]
                middle_bin = int(np.flatnonzero((z[:-1] < 0) & (z[1:] > 0))[0])
                part[middle_bin] = math.erf(z[middle_bin + 1])
                total += m * np.array(part) / sum(part)
        return total

    def masses(points, weights):
        mass = np.zeros(bins)
        for point, weight in zip(points, weights, strict=True):
            place = int((np.clip((point - middle) / half, -8, 8) + reach) / (2 * reach) * bins)
            mass[place] += weight
        return mass

    p = spread(masses(values, [1 / len(values)] * len(values)))
    q = spread(masses([low, high], [1 - share, share]))
    return sum(a * math.log2(a / b) for a, b in zip(p, q, strict=True) if a > 1e-12)


def test_divergence():
    values = torch.randn(200) * 0.7 + 0.2
    ours = measures.divergence(values, -0.6, 0.8, 0.4)
    assert ours == pytest.approx(blurred_divergence(values.tolist(), -0.6, 0.8, 0.4), rel=1e-3)
    assert measures.divergence(10 * values, -6.0, 8.0, 0.4) == pytest.approx(ours, rel=1e-4)  # in whatever unit
    two = torch.tensor([-0.6] * 3 + [0.8] * 2)
    assert measures.divergence(two, -0.6, 0.8, 0.4) == pytest.approx(0, abs=1e-6)
    assert ours > 0.05 and measures.divergence(two, -0.6, 0.8, 0.5) > 0.01
    assert math.isnan(measures.divergence(values, 1.0, 1.0, 0.5))
    assert math.isnan(measures.divergence(torch.tensor([math.inf]), -1.0, 1.0, 0.5))


def test_histogram_counts_what_lies_inside():
    x = torch.cat([torch.linspace(-1, 1, 1000), torch.tensor([100.0])])
    first, last, counts = measures.histogram(x, 10)
    inside = [v for v in x.tolist() if abs(v) <= last]
    assert first == -last == -4 * float(x.square().mean().sqrt()) and sum(counts) == len(inside) == 1000
    expected, _ = np.histogram(inside, 10, (first, last))
    assert counts == expected.tolist()
    assert mean_magnitude(measures.histogram(torch.randn(100000))) == pytest.approx(math.sqrt(2 / math.pi), rel=0.01)


def test_activations_of_every_kind_of_threshold():
    x = torch.randn(5, 3, 4, 4) + 0.3
    for form, u in (
        (ActivationForm(0.2, 0.5, 0.1), x - 0.2),
        (ActivationForm(torch.tensor([0.1, -0.2, 0.4])), x - torch.tensor([0.1, -0.2, 0.4]).reshape(1, 3, 1, 1)),
        (ActivationForm("sample_mean"), x - x.mean((1, 2, 3), keepdim=True)),
    ):
        found = described(x, form)
        signs = np.where(u.numpy() >= 0, 1.0, -1.0)
        assert found["share"] == pytest.approx((signs > 0).mean())
        cos = (u.numpy() * signs).sum() / np.linalg.norm(u.numpy()) / np.linalg.norm(signs)
        assert found["angle"] == pytest.approx(math.degrees(math.acos(cos)), rel=1e-4)
        shares = [(signs[:, c] > 0).mean() for c in range(3)]
        bits = np.mean([-p * math.log2(p) - (1 - p) * math.log2(1 - p) for p in shares])
        assert found["entropy_channels"] == pytest.approx(bits, rel=1e-5)
        low, high = found["values"]
        assert found["kl"] == pytest.approx(measures.divergence(u, low, high, found["share"]))
        assert high - low == pytest.approx(2 * form.scale)
