"""Triad: the adaptive sets' gradients through its own surrogate, and each option against plain loops."""

import pytest
import torch
from torch import nn

import checks
from networks import SHAPES, check, settle
from onebit import methods, models
from onebit.errors import UserError
from test_papers import close, sign_of

OPTIONS = [{"rotation": True}, {"floor": 0.04, "resilience": 1e-3}, {"soft": 0.3}]


def weights(**options):
    binarizer = methods.create("triad", **options).weight(torch.Size((3, 4, 3, 3))).double()
    weight = nn.Parameter(0.1 + 0.7 * torch.randn(3, 4, 3, 3, dtype=torch.float64))
    binarizer.initialize(weight.detach())
    return binarizer, weight


def test_activations_learn_through_a_wide_slope():
    """y = alpha (s + beta): dy/dx = g, dy/dalpha = s + beta - v g, dy/dbeta = alpha - g, g = 1 where |v| <= 1.5."""
    binarizer = methods.create("triad").activation(2).double()
    with torch.no_grad():
        binarizer.alpha.fill_(0.6)
        binarizer.beta.fill_(-0.2)
    x = torch.linspace(-3, 3, 202, dtype=torch.float64).reshape(1, 2, 101).requires_grad_()
    upstream = torch.randn_like(x)
    binarizer(x).backward(upstream)
    v = (x.detach() + 0.2) / 0.6
    s, g = torch.where(v >= 0, 1.0, -1.0).double(), (v.abs() <= 1.5).double()
    close(x.grad, upstream * g)
    close(binarizer.alpha.grad, (upstream * (s - 0.2 - v * g)).sum())
    close(binarizer.beta.grad, (upstream * (0.6 - g)).sum())


def test_a_soft_start_goes_from_clamp_to_sign():
    binarizer = methods.create("triad", soft=0.4).activation(1).double()
    x = torch.linspace(-2, 2, 41, dtype=torch.float64).reshape(1, 1, 41)
    sign, clamp = torch.where(x >= 0, 1.0, -1.0), x.clamp(-1, 1)
    for progress, hard in ((0.0, 0.0), (0.1, 0.25), (0.4, 1.0), (0.9, 1.0)):
        binarizer.set_progress(progress)
        close(binarizer.train()(x).detach(), hard * sign + (1 - hard) * clamp, 1e-6)  # hardness is a float32
        assert torch.equal(binarizer.eval()(x).detach(), sign.double())


def test_resilience_pulls_equalised_weights_to_their_signs_at_the_end():
    binarizer, weight = weights(resilience=0.01)
    binarizer.set_progress(0.79, weight.detach())
    assert binarizer.regularization(weight).item() == 0
    binarizer.set_progress(0.8, weight.detach())
    expected = 0.0
    for filter in weight.detach().flatten(1):
        mean = sum(filter.tolist()) / 36
        deviation = (sum((w - mean) ** 2 for w in filter.tolist()) / 36) ** 0.5
        expected += 0.005 * sum((abs((w - mean) / deviation) - 1) ** 2 for w in filter.tolist())
    assert binarizer.regularization(weight).item() == pytest.approx(expected, rel=1e-6)
    assert weights()[0].regularization(weight) is None


def test_the_floor_lengthens_short_gradients():
    binarizer, weight = weights(floor=0.05)
    gradient = torch.randn_like(weight)
    gradient[0] *= 1e-4
    before = gradient.clone()
    binarizer.before_step(weight.detach(), gradient)
    for filter, old, new in zip(weight.detach(), before, gradient, strict=True):
        close(new, old * max(1.0, 0.05 * filter.norm().item() / old.norm().item()))
    assert not torch.equal(gradient[0], before[0])
    assert torch.equal(gradient[1:], before[1:])
    plain, _ = weights()
    plain.before_step(weight.detach(), before.copy_(gradient))
    assert torch.equal(before, gradient)


def test_a_rotation_turns_standardised_filters_and_keeps_their_mean():
    binarizer, weight = weights(rotation=True)
    flat = weight.detach().flatten(1)
    u = (flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True)
    turned = binarizer.rotate(u.reshape(weight.shape)).flatten(1)
    blended = u + binarizer.theta.detach().flatten(1).sin().abs() * (turned - u)
    expected = binarizer.scale.detach().flatten(1) * sign_of(blended) + flat.mean(1, keepdim=True)
    close(binarizer(weight).detach(), expected.reshape(weight.shape))


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options))
def test_every_option_packs(options, tmp_path):
    method = methods.create("triad", **options)
    checks.check_state(method)
    network = settle(models.create("resnet8", "triad", options=options), SHAPES["resnet8"])
    check(network, tmp_path / "net.safetensors", SHAPES["resnet8"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation": 1}, "triad: rotation = 1 must be true or false"),
        ({"floor": -0.1}, r"triad: floor = -0.1 must be a number in \[0, 1\)"),
        ({"soft": "yes"}, r"triad: soft = 'yes' must be a number in \[0, 1\)"),
        ({"rotation": True, "floor": 0.1}, "neither floor nor resilience"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        methods.create("triad", **options)
