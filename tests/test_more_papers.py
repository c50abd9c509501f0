"""The methods that the papers compare with: each one's formulas, written again here in plain loops and float64."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from networks import settle
from onebit import methods, models, pack
from onebit.errors import UserError
from onebit.methods.rad import distribution_loss
from onebit.methods.rbonn import BilinearSign
from onebit.nn import layers
from onebit.nn.binarizer import with_term
from test_papers import close, layers_conv, sign_of, through


def weight_of(name: str, shape: tuple[int, ...], **options: object) -> tuple[nn.Module, nn.Parameter]:
    """A weight binarizer in float64 and random weights for it."""
    binarizer = methods.create(name, **options).weight(torch.Size(shape)).double()
    weight = nn.Parameter(0.1 + 0.7 * torch.randn(shape, dtype=torch.float64))
    binarizer.initialize(weight.detach())
    return binarizer, weight


def gradient_of(binarizer: nn.Module, x: Tensor, upstream: Tensor) -> Tensor:
    return torch.autograd.grad(binarizer(x), x, upstream)[0]


# ---- DoReFa


@pytest.mark.parametrize("bits", [1, 2])
def test_dorefa_activations_round_to_levels(bits):
    """round(n clip(x, 0, 1)) / n, slope 1 where 0 <= x <= 1, as n forms."""
    binarizer = methods.create("dorefa", activation_bits=bits).activation(2)
    n = 2**bits - 1
    assert len(binarizer.freeze()) == n
    x = torch.linspace(-0.7, 1.7, 1000, dtype=torch.float64).reshape(1, 2, 500).requires_grad_()
    expected = [math.floor(n * min(max(value, 0.0), 1.0) + 0.5) / n for value in x.flatten().tolist()]
    close(binarizer(x).detach(), torch.tensor(expected, dtype=torch.float64), 1e-12)
    upstream = torch.randn_like(x)
    inside = (x.detach() >= 0) & (x.detach() <= 1)
    close(gradient_of(binarizer, x, upstream), upstream * inside)


def test_dorefa_weights():
    """E sign(w), E the layer's mean magnitude; the gradient as it comes."""
    binarizer, weight = weight_of("dorefa", (3, 4, 2, 2))
    size = sum(abs(w) for w in weight.flatten().tolist()) / weight.numel()
    close(binarizer(weight).detach(), size * sign_of(weight.detach()), 1e-12)
    upstream = torch.randn_like(weight)
    assert torch.equal(gradient_of(binarizer, weight, upstream), upstream)


# ---- LAB


def test_lab_scale_is_the_proximal_newton_step():
    """alpha minimises sum d (w - alpha sign(w))^2 with Adam's second moment in d; the mean magnitude before any step."""
    binarizer, weight = weight_of("lab", (3, 5))
    close(binarizer(weight).detach(), weight.detach().abs().mean() * sign_of(weight.detach()), 1e-10)
    seen = [torch.randn_like(weight) * 10.0**k for k in (-1, 0, -2)]
    adam = torch.optim.Adam([weight], lr=0.0)
    for gradient in seen:
        weight.grad = gradient.clone()
        adam.step()
        binarizer.after_step(weight, gradient)
    close(binarizer.moment, adam.state[weight]["exp_avg_sq"], 1e-7)
    d = binarizer.moment.sqrt() + 1e-8
    w, b = weight.detach(), sign_of(weight.detach())
    (form,) = binarizer.freeze(w)
    assert (form.scale == form.scale[0]).all()

    def objective(alpha: Tensor) -> Tensor:
        return (d * (w - alpha * b) ** 2).sum()

    alpha = form.scale[0]
    assert all(objective(alpha) < objective(alpha * factor) for factor in (0.999, 1.001))
    assert abs(alpha / w.abs().mean() - 1) > 0.01
    upstream = torch.randn_like(weight)
    assert torch.equal(gradient_of(binarizer, weight, upstream), upstream)


# ---- ABC-Net


@pytest.mark.parametrize("bases", [1, 3, 5])
def test_abcnet_weights_are_the_least_squares_over_shifted_signs(bases):
    binarizer, weight = weight_of("abcnet", (4, 3, 3, 3), weight_bases=bases)
    w = weight.detach().numpy().ravel()
    spread = np.linspace(-1, 1, bases) if bases > 1 else np.zeros(1)
    columns = np.stack([np.where(w - w.mean() + u * w.std() >= 0, 1.0, -1.0) for u in spread], axis=1)
    alpha, *_ = np.linalg.lstsq(columns, w, rcond=None)
    close(binarizer(weight).detach(), torch.from_numpy(columns @ alpha).reshape(weight.shape), 1e-10)
    upstream = torch.randn_like(weight)
    close(gradient_of(binarizer, weight, upstream), alpha.sum() * upstream)  # straight through each base
    errors = [(w - columns[:, :m] @ np.linalg.lstsq(columns[:, :m], w, rcond=None)[0]) for m in range(1, bases + 1)]
    assert all((later**2).sum() < (earlier**2).sum() for earlier, later in itertools.pairwise(errors))


def test_abcnet_bases_that_coincide():
    binarizer, weight = weight_of("abcnet", (4, 3), weight_bases=3)
    with torch.no_grad():
        weight.fill_(0.4)
    close(binarizer(weight).detach(), weight.detach(), 1e-10)
    close(sum(form.weight() for form in binarizer.freeze(weight.detach())), weight.detach(), 1e-10)


def test_abcnet_activations():
    """sum |beta_j| H_j; slopes in x, t and beta."""
    binarizer = methods.create("abcnet", activation_bases=2).activation(1).double()
    with torch.no_grad():
        binarizer.threshold.copy_(torch.tensor([-0.4, 0.7]))
        binarizer.beta.copy_(torch.tensor([0.3, -1.2]))
    x = torch.linspace(-2, 2, 801, dtype=torch.float64).reshape(1, 1, -1).requires_grad_()
    upstream = torch.randn_like(x)
    binarizer(x).backward(upstream)
    value, slopes = torch.zeros_like(x), []
    for t, beta in ((-0.4, 0.3), (0.7, -1.2)):
        t, h = float(np.float32(t)), sign_of(x.detach() - float(np.float32(t)))
        value += abs(beta) * h
        slopes.append(abs(beta) * ((x.detach() - t).abs() <= 0.5))
        close(binarizer.beta.grad[len(slopes) - 1], (upstream * h).sum() * math.copysign(1, beta), 1e-6)
        close(binarizer.threshold.grad[len(slopes) - 1], -(upstream * slopes[-1]).sum(), 1e-6)
    close(binarizer(x).detach(), value, 1e-6)
    close(x.grad, upstream * sum(slopes), 1e-6)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("abcnet", {"weight_bases": 0}, "weight_bases = 0 must be a whole number from 1 to 8"),
        ("abcnet", {"activation_bases": 2.0}, "activation_bases = 2.0 must be"),
        ("dorefa", {"activation_bits": 3}, "activation_bits = 3 must be 1 or 2"),
        ("rad", {"strength": 0}, "strength = 0 must be a number above 0"),
        ("bnn_plus", {"strength": "x"}, "strength = 'x' must be a number above 0"),
        ("ovsw", {"delta": -1.0}, "delta = -1.0 must be a number above 0"),
        ("dsq", {"surrogate": "ste"}, "no surrogate gradient trains this operand"),
    ],
)
def test_options_are_checked(name, options, message):
    with pytest.raises(UserError, match=message):
        methods.create(name, **options)


# ---- BNN+, XNOR-Net++


def test_xnor_plus_plus_scale_is_one_of_the_output():
    """conv(sign a, sign w) Gamma, and the gradient of Gamma there."""
    layer = layers_conv("xnor_plus_plus", 3, 4).double()
    gamma = layer.weight_binarizer.scale
    with torch.no_grad():
        gamma.copy_(torch.randn_like(gamma))
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    signs = nn.functional.conv2d(sign_of(x), sign_of(layer.weight.detach()), padding=1)  # (2, 4, 5, 5)
    y = layer(x)
    close(y.detach(), signs * gamma.detach().reshape(1, 4, 1, 1), 1e-12)
    upstream = torch.randn_like(y)
    y.backward(upstream)
    close(gamma.grad, (upstream * signs).sum((0, 2, 3)))


def test_bnn_plus_gradients():
    """SwishSign's slope by differences, and the regularization's slopes in w and alpha."""
    strength = 0.3
    binarizer, weight = weight_of("bnn_plus", (3, 7), strength=strength)
    g = torch.randn_like(weight)
    ((binarizer(weight) * g).sum() + binarizer.regularization(weight)).backward()
    w, alpha, b = weight.detach(), binarizer.scale.detach(), sign_of(weight.detach())

    def swish(x: Tensor) -> Tensor:
        s = torch.sigmoid(5 * x)
        return 2 * s * (1 + 5 * x * (1 - s)) - 1

    slope = (swish(w + 1e-6) - swish(w - 1e-6)) / 2e-6
    pull = sign_of(alpha - w.abs())
    close(weight.grad, alpha * g * slope - strength * pull * b, 1e-6)
    close(binarizer.scale.grad, (g * b + strength * pull).sum(1))
    expected = sum(abs(alpha[o, 0] - abs(w[o, i])) for o in range(3) for i in range(7))
    close(binarizer.regularization(weight).detach(), strength * expected)


# ---- RAD


def test_rad_loss_by_channel():
    x = torch.randn(3, 4, 2, 5, dtype=torch.float64) * torch.tensor([0.1, 1.0, 6.0, 0.2]).reshape(1, 4, 1, 1)
    x += torch.tensor([0.0, 0.5, 0.0, 2.5]).reshape(1, 4, 1, 1)
    total, parts = 0.0, np.zeros(3)
    for c in range(4):
        values = x[:, c].numpy().ravel()
        m, s = values.mean(), values.std()
        three = np.array([max(2 - abs(m) - s, 0) ** 2, max(s - 4, 0) ** 2, max(m * m - s * s, 0)])
        parts += three
        total += three.sum() / 4
    assert (parts > 0).all()  # each of the three takes part
    assert distribution_loss(x).item() == pytest.approx(total, rel=1e-6)


def test_rad_gradient_is_that_of_loss_and_term():
    """By hand: what the layer's gradient is without the term, and the term's own, times the strength; not in evaluation."""
    layer, plain = (layers_conv(name, 3, 4).double() for name in ("rad", "bnn"))
    plain.weight.data.copy_(layer.weight.data)
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64).requires_grad_()
    upstream = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    ours = torch.autograd.grad(layer(x), x, upstream)[0]
    (through_signs,) = torch.autograd.grad(plain(x), x, upstream)
    (of_term,) = torch.autograd.grad(distribution_loss(x), x)
    close(ours, through_signs + 0.1 * of_term)
    assert of_term.abs().max() > 0 and torch.equal(layer(x), plain(x))
    close(torch.autograd.grad(layer.eval()(x), x, upstream)[0], through_signs)
    layer.weight_binarizer.after_step(layer.weight, None)
    assert layer.weight.abs().max() == 1


def test_a_term_adds_its_gradient_wherever_it_is_used():
    """Twice in one network, in parts of a batch, and to no loss that does not use it."""
    x, unused = (torch.randn(5, requires_grad=True) for _ in range(2))
    for _ in range(2):  # gradients of two parts add up
        y = with_term(with_term(x, x.square().sum()), 3 * x.sum())
        (7 * y.sum()).backward()
        with_term(unused, unused.sum())
    torch.testing.assert_close(x.grad, 2 * (7 + 2 * x.detach() + 3))
    assert unused.grad is None


# ---- DSQ


def test_dsq_is_a_step_with_the_gradient_of_the_soft_function():
    """Values and all gradients: x, both bounds, the sharpness."""
    binarizer = methods.create("dsq").activation(2).double()
    with torch.no_grad():
        for parameter, value in ((binarizer.lower, -0.3), (binarizer.upper, 0.9), (binarizer.step.sharpness, 0.4)):
            parameter.fill_(value)
    parameters = [binarizer.lower, binarizer.upper, binarizer.step.sharpness]
    x = torch.linspace(-1, 1.5, 400, dtype=torch.float64).reshape(1, 2, 200).requires_grad_()
    ours, upstream = binarizer(x), torch.randn_like(x)
    low, high, sharpness = (parameter.detach().clone().requires_grad_() for parameter in parameters)
    alpha = torch.sigmoid(sharpness) / 2
    width = high - low
    k, s = torch.log(2 / alpha - 1) / width, 1 / (1 - alpha)  # the paper's
    middle = low + width / 2
    phi = s * torch.tanh(k * (x.clamp(low, high) - middle))
    soft = low + width * (through(sign_of(x.detach() - middle.detach()), phi) + 1) / 2
    close(ours.detach(), torch.where(x < 0.3, -0.3, 0.9).double(), 1e-6)
    expected = torch.autograd.grad(soft, [x, low, high, sharpness], upstream)
    for mine, right in zip(torch.autograd.grad(ours, [x, *parameters], upstream), expected, strict=True):
        close(mine, right, 1e-9)
    assert phi.max().item() == pytest.approx(1) and phi.min().item() == pytest.approx(-1)  # continuous at the bounds


def test_dsq_bounds_of_weights_follow_them():
    binarizer, weight = weight_of("dsq", (4, 6))
    w = weight.detach().numpy()
    with torch.no_grad():
        binarizer.below.fill_(-0.5)
    (form,) = binarizer.freeze(weight.detach())
    low, high = w.mean() - 0.5 * w.std(), w.mean() + 2 * w.std()
    assert form.offset.numpy() == pytest.approx((low + high) / 2) and form.scale.numpy() == pytest.approx(
        (high - low) / 2
    )
    assert np.array_equal(form.weight() > form.offset[0], w >= (low + high) / 2)


# ---- SLB


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_slb_is_a_choice_between_two_states(fraction):
    """The gradient of the softmax over (A_-, A_+) is that of the one latent weight, half and half."""
    binarizer, weight = weight_of("slb", (3, 5))
    binarizer.set_progress(fraction, weight.detach())
    upstream = torch.randn_like(weight)
    states = torch.stack([-weight.detach(), weight.detach()]).requires_grad_()  # (2, 3, 5): A_-, A_+
    soft = (torch.softmax(10**fraction * states, 0) * torch.tensor([-1.0, 1.0]).reshape(2, 1, 1)).sum(0)
    soft.backward(upstream)
    ours = gradient_of(binarizer, weight, upstream)
    close(states.grad[1], ours / 2, 1e-6)
    close(states.grad[0], -ours / 2, 1e-6)
    assert torch.equal(binarizer(weight).detach(), 2.0 * states.argmax(0) - 1)


# ---- SiMaN


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (5, 8), (2, 1)])
def test_siman_encodes_the_larger_half(shape):
    binarizer, weight = weight_of("siman", shape)
    (form,) = binarizer.freeze(weight.detach())
    n = math.prod(shape[1:])
    for w, b, scale in zip(weight.detach().flatten(1).numpy(), form.signs.flatten(1).numpy(), form.scale, strict=True):
        order = np.argsort(-np.abs(w - w.mean()))
        expected = -np.ones(n)
        expected[order[: max(n // 2, 1)]] = 1
        assert np.array_equal(b, expected)
        assert scale.item() == pytest.approx(np.abs(w).mean(), rel=1e-6)


def test_siman_gradient_goes_through_magnitude_and_standardisation():
    binarizer, weight = weight_of("siman", (3, 9))
    upstream = torch.randn_like(weight)
    standard = (weight - weight.mean(1, keepdim=True)) / weight.std(1, keepdim=True)
    expected = torch.autograd.grad(binarizer.scale.detach() * standard.abs(), weight, upstream)[0]
    close(gradient_of(binarizer, weight, upstream), expected, 1e-9)


# ---- RBONN


def test_rbonn_steps_as_a_plain_loop():
    """eq. 3.131-3.136 over several steps, filter by filter."""
    filters, tau = 10, 0.6
    weight = nn.Parameter(torch.randn(filters, 6, dtype=torch.float64))
    binarizer: BilinearSign = methods.create("rbonn").weight(weight.shape).double()
    binarizer.initialize(weight.detach())
    with torch.no_grad():
        binarizer.scale.mul_(torch.rand_like(binarizer.scale) * 3)
    scale = binarizer.scale.detach().numpy().ravel()
    u, added = np.full(filters, 0.2), np.zeros((filters, 6))
    moved, start = 0, weight.detach().numpy().copy()
    for _ in range(4):
        before, gradient = weight.detach().numpy().copy(), torch.randn_like(weight)
        with torch.no_grad():
            weight -= 0.1 * gradient
        expected = weight.detach().numpy().copy()
        binarizer.after_step(weight, gradient)

        def dense(values: np.ndarray, o: int) -> bool:
            return 1 + sum(other < values[o] for other in values) > int(filters * tau)

        sizes = np.abs(before).sum(1)
        last, added = added, np.zeros_like(added)
        for o in range(filters):
            if dense(np.abs(scale), o) and not dense(sizes, o):
                added[o] = before[o]
                moved += 1
            expected[o] += u[o] * added[o]
            u[o] = abs(u[o] - 1e-4 * (gradient[o].numpy() * last[o]).sum())
        np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-6)
        np.testing.assert_allclose(binarizer.recurrent.numpy().ravel(), u, rtol=1e-6)
    assert 0 < moved < 4 * filters and np.abs(u - 0.2).max() > 0 and not np.array_equal(start, weight.detach().numpy())


def test_rbonn_couples_weights_and_scales():
    binarizer, weight = weight_of("rbonn", (4, 5))
    g = torch.randn_like(weight)
    ((binarizer(weight) * g).sum() + 1e4 * binarizer.regularization(weight)).backward()
    w, alpha, b = weight.detach(), binarizer.scale.detach(), sign_of(weight.detach())
    close(weight.grad, alpha * g * (w.abs() <= 1) + (w - alpha * b))
    close(binarizer.scale.grad, (g * b - (w - alpha * b) * b).sum(1))


# ---- ReSTE


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_reste_gradient_flows_through_the_mean_and_the_power(fraction):
    binarizer, weight = weight_of("reste", (3, 8))
    binarizer.set_progress(fraction, weight.detach())
    o = 1 + 2 * (1 - math.cos(fraction * math.pi * 0.5))
    upstream = torch.randn_like(weight)
    w, b = weight.detach(), sign_of(weight.detach())
    expected = torch.zeros_like(w)
    for index in itertools.product(range(3), range(8)):
        size = abs(w[index].item())
        slope = 0.0 if size > 1.5 else 0.1 ** (1 / o) / 0.1 if size < 0.1 else size ** ((1 - o) / o) / o
        expected[index] = w.abs().mean() * slope * upstream[index]
    expected += b * (upstream * b).mean()
    close(gradient_of(binarizer, weight, upstream), expected, 1e-6)
    close(binarizer(weight).detach(), w.abs().mean() * b)


# ---- OvSW


def test_ovsw_floor_and_decay_as_plain_loops():
    """Per filter the floor of ||g|| / ||w||, then the decay of the weights that have not flipped lately."""
    binarizer, weight = weight_of("ovsw", (4, 5), delta=0.5, decay=0.01)
    flips, last = np.zeros((4, 5)), np.where(weight.detach().numpy() >= 0, 1, -1)
    binarizer.set_progress(0.0, weight.detach())
    raised = 0
    for step in range(3):
        gradient = torch.randn_like(weight) * torch.tensor([1e-3, 0.1, 1.0, 10.0]).reshape(4, 1)
        if step == 2:
            gradient[0] = 0  # nothing to scale: stays 0, then decays
        w, expected = weight.detach().numpy().copy(), gradient.numpy().copy()
        binarizer.before_step(weight, gradient)
        now = np.where(w >= 0, 1, -1)  # as the step before left them
        flips = 0.999 * flips + 0.001 * (now != last)
        last = now
        for o in range(4):
            ratio = max(np.linalg.norm(expected[o]), 1e-6) / max(np.linalg.norm(w[o]), 1e-3)
            if ratio < 0.5:
                expected[o] *= 0.5 / ratio
                raised += 1
            for i in range(5):
                expected[o, i] += 0.01 * w[o, i] * (flips[o, i] < 1e-4)
        np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-6)
        with torch.no_grad():
            weight.sub_(0.2 * torch.randn_like(weight))
        binarizer.after_step(weight, gradient)
    assert 0 < raised < 12 and 0 < (flips > 0).sum() < 20


def test_ovsw_changes_the_step_of_the_optimizer():
    """Through the loop's hook: what SGD subtracts has at least delta times the norm of the weights."""
    layer = layers_conv("ovsw", 4, 6, delta=0.2, decay=1e-9)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    (1e-6 * layer(torch.randn(2, 4, 6, 6)).square().sum()).backward()
    before = layer.weight.detach().clone()
    layers.before_step(layer)
    optimizer.step()
    moved = (layer.weight.detach() - before).flatten(1).norm(dim=1)
    torch.testing.assert_close(moved, 0.2 * before.flatten(1).norm(dim=1), rtol=1e-4, atol=0)


def test_ovsw_scale_is_constant_and_activations_are_divided():
    binarizer, weight = weight_of("ovsw", (3, 8))
    w = weight.detach()
    scale = ((w - w.mean(1, keepdim=True)) / w.std(1, keepdim=True)).abs().mean(1, keepdim=True)
    upstream = torch.randn_like(w)
    close(gradient_of(binarizer, weight, upstream), scale * upstream)
    close(binarizer(weight).detach(), scale * sign_of(w))
    x = (3 * torch.randn(2, 4, 3, 3, dtype=torch.float64)).requires_grad_()
    deviation = torch.sqrt(x.detach().var((1, 2, 3), keepdim=True) + 1e-5)
    g = torch.randn_like(x)
    expected = g * (2 - 2 * (x.detach() / deviation).abs()).clamp(min=0) / deviation
    close(gradient_of(methods.create("ovsw").activation(4), x, g), expected)


# ---- blended STE


def test_blended_gradient():
    binarizer, weight = weight_of("ab_ste", (3, 8))
    binarizer.set_progress(0.5, weight.detach())
    upstream, t, s = torch.randn_like(weight), 10**0.5, 0.45
    blend = (1 - s) * weight + s * torch.tanh(t * weight)
    close(gradient_of(binarizer, weight, upstream), torch.autograd.grad(blend, weight, upstream)[0], 1e-6)
    close(binarizer(weight).detach(), weight.detach().abs().mean(1, keepdim=True) * sign_of(weight.detach()))


# ---- state


@pytest.mark.parametrize(
    ("name", "suffixes"),
    [
        ("ovsw", ("flips", "last_sign")),
        ("rbonn", ("recurrent", "last_weight", "backtracked")),
        ("slb", ("surrogate.t",)),
        ("ab_ste", ("surrogate.t", "surrogate.s")),
    ],
)
def test_what_only_training_needs_is_saved_and_not_packed(name, suffixes, tmp_path):
    model = settle(models.create("resnet8", name, image_size=8), (3, 8, 8))
    assert {key.rpartition("weight_binarizer.")[2] for key in model.state_dict() if "weight_binarizer." in key} >= set(
        suffixes
    )
    pack(model, tmp_path / "one")
    with torch.no_grad():
        for key, buffer in model.named_buffers():
            if key.endswith(suffixes):
                buffer.add_(torch.rand_like(buffer))
    pack(model, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
