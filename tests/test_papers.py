"""The papers' own forms, against derivations written again here in float64.

The forms the authors released are checked against their code's tensors in test_golden.py.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from onebit import methods
from onebit.errors import UserError
from onebit.methods.rbnn import RotatedSign, align, factors, rbnn
from onebit.nn import layers
from onebit.nn.layers import BinaryConv2d
from onebit.nn.surrogates import sharpening, training_aware
from onebit.training.step import clip_gradients


def close(ours: Tensor, expected: Tensor, rtol: float = 1e-10) -> None:
    error = (ours - expected.reshape(ours.shape)).abs().max() / expected.abs().max()
    assert error <= rtol, f"relative error {error:.2e}"


def quadratic(u: Tensor) -> Tensor:
    """The function whose slope is max(2 - 2|u|, 0)."""
    inside = torch.where(u < 0, 2 * u + u * u, 2 * u - u * u)
    return torch.where(u.abs() < 1, inside, torch.where(u < 0, -1.0, 1.0).to(u.dtype))


def through(value: Tensor, smooth: Tensor) -> Tensor:
    """`value` forward, the gradient of `smooth` backward: what a surrogate means, without our autograd function."""
    return value.detach() + smooth - smooth.detach()


# ---- AdaBin


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.6, 0.3), (1.7, -0.8), (-0.5, 0.2)])
def test_adabin_activation_gradients(alpha, beta):
    """d/dx = g', d/dalpha = s - u g', d/dbeta = 1 - g', g' = max(2 - 2|u|, 0) at u = (x - beta) / alpha."""
    binarizer = methods.create("adabin", variant="paper").activation(3).double()
    with torch.no_grad():
        binarizer.alpha.fill_(alpha)
        binarizer.beta.fill_(beta)
    x = (1.5 * torch.randn(4, 3, 5, 5, dtype=torch.float64)).requires_grad_()
    upstream = torch.randn_like(x)
    binarizer(x).backward(upstream)
    u = (x.detach() - beta) / alpha
    s = torch.where(u >= 0, 1.0, -1.0).double()
    slope = (2 - 2 * u.abs()).clamp(min=0)
    close(x.grad, upstream * slope)
    close(binarizer.alpha.grad, (upstream * (s - u * slope)).sum())
    close(binarizer.beta.grad, (upstream * (1 - slope)).sum())


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.8, 1.0])
def test_adabin_weight_gradient_flows_through_mean_and_deviation(fraction):
    """autograd of alpha k tanh(t (w - beta) / alpha) + beta, with sign's values: all three paths to w."""
    binarizer = methods.create("adabin", variant="paper").weight(torch.Size((4, 3, 3, 3))).double()
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    binarizer.set_progress(fraction, weight)
    upstream = torch.randn_like(weight)
    ours = torch.autograd.grad(binarizer(weight), weight, upstream)[0]

    t = 10 ** (-3 + 4 * fraction)
    k = max(1 / t, 1)
    flat = weight.flatten(1)
    beta = flat.mean(1, keepdim=True)
    alpha = (flat - beta).norm(dim=1, keepdim=True) / math.sqrt(flat.shape[1])
    u = (flat - beta) / alpha
    binary = alpha * through(torch.where(u >= 0, 1.0, -1.0).double(), k * torch.tanh(t * u)) + beta
    expected = torch.autograd.grad(binary, weight, upstream.flatten(1))[0]
    close(ours, expected, 1e-6)  # t and k are float32 powers of ten
    close(binarizer(weight).detach(), binary.detach())
    detached = torch.autograd.grad(k * torch.tanh(t * (weight - beta.detach().reshape(-1, 1, 1, 1))), weight, upstream)[
        0
    ]
    assert (ours - detached).abs().max() > 0.01 * ours.abs().max(), "the paths through mean and deviation are missing"


@pytest.mark.parametrize("flush", [False, True])
def test_adabin_zeros_at_a_threshold_of_zero(flush):
    """alpha < 0 turns the set round, and 0 itself (of a ReLU, or a padded shortcut) belongs to the lower value."""
    torch.set_flush_denormal(flush)
    binarizer = methods.create("adabin").activation(1)
    with torch.no_grad():
        binarizer.alpha.fill_(-0.5)
        tiny = torch.finfo(torch.float32).tiny
        x = torch.tensor([[0.0, -0.0, tiny, -tiny, 1.0, -1.0]])
        assert binarizer(x).tolist() == [[-0.5, -0.5, 0.5, -0.5, 0.5, -0.5]]
        (form,) = binarizer.freeze()
        assert form.activation(x).tolist() == binarizer(x).tolist()


def test_adabin_equalises_weights():
    """The binary values of a filter have its mean and its variance about that mean."""
    weight = 0.2 + torch.randn(6, 8, 3, 3, dtype=torch.float64)
    (form,) = methods.create("adabin").weight(weight.shape).double().freeze(weight)
    close(form.offset, weight.flatten(1).mean(1))
    close(form.scale, weight.flatten(1).std(1, correction=0))


# ---- RBNN


def kron_layer(shape: tuple[int, ...], variant: str = "paper") -> tuple[RotatedSign, Tensor, Tensor]:
    """A binarizer with its R = R1 (x) R2 (n, n) and random weights; theta is not at its start, where sin is flat."""
    binarizer = methods.create("rbnn", variant=variant).weight(torch.Size(shape)).double()
    with torch.no_grad():
        for matrix in (binarizer.r1, binarizer.r2):
            matrix.copy_(torch.linalg.qr(torch.randn_like(matrix))[0])
        binarizer.theta.copy_(torch.empty_like(binarizer.theta).uniform_(-3, 3))
    return binarizer, torch.kron(binarizer.r1, binarizer.r2), torch.randn(shape, dtype=torch.float64)


def test_rbnn_rotation_is_the_kronecker_product():
    for shape in ((4, 2, 3, 3), (3, 5, 1, 1), (2, 7)):
        binarizer, big, weight = kron_layer(shape)
        close(binarizer.rotate(weight).flatten(), big.T @ weight.flatten(), 1e-12)
        assert big.shape[0] == weight.numel(), "one rotation for the whole layer"
        close(big.T @ big, torch.eye(len(big), dtype=torch.float64), 1e-12)


def test_rbnn_factors_are_the_nearest_pair():
    pairs = {144: (12, 12), 288: (16, 18), 576: (24, 24), 1152: (32, 36), 4608: (64, 72), 128: (8, 16), 13: (1, 13)}
    assert {n: factors(n) for n in pairs} == pairs


def test_rbnn_gradient_of_rotated_weights():
    """dw~/dw = (1 - alpha) I + alpha R^T (eq. 15), as a whole Jacobian."""
    binarizer, big, weight = kron_layer((4, 2, 3, 3))
    alpha = binarizer.theta.sin().abs().item()
    jacobian = torch.autograd.functional.jacobian(lambda w: binarizer.rotated(w).flatten(), weight).reshape(big.shape)
    close(jacobian, (1 - alpha) * torch.eye(len(big), dtype=torch.float64) + alpha * big.T, 1e-12)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_rbnn_gradients(fraction):
    """eq. 13-16 in full: scale sign(w~) with F' backward, for weights, theta and scale."""
    binarizer, big, weight = kron_layer((4, 2, 3, 3))
    binarizer.surrogate.set_progress(fraction)
    weight = (weight / 4).requires_grad_()  # some |w~| below sqrt(2) / t at the end, some above
    with torch.no_grad():
        binarizer.scale.copy_(torch.randn_like(binarizer.scale))
    upstream = torch.randn_like(weight)
    binarizer(weight).backward(upstream)

    t = 10 ** (-2 + 3 * fraction)
    k = max(1 / t, 1)
    theta, scale = binarizer.theta.detach().flatten(), binarizer.scale.detach().reshape(4, 1)
    alpha = theta.sin().abs()
    w = weight.detach().flatten()
    blended = w + alpha * (big.T @ w - w)  # eq. 11
    slope = (k * (math.sqrt(2) * t - t * t * blended.abs())).clamp(min=0)  # eq. 13
    g = (upstream.reshape(4, -1) * scale).flatten() * slope  # dL/dw~
    close(weight.grad, (1 - alpha) * g + alpha * (big @ g), 1e-6)  # eq. 14, 15; t and k are float32
    d_alpha = (g * (big.T @ w - w)).sum()  # eq. 16
    close(binarizer.theta.grad, d_alpha * theta.sin().sgn() * theta.cos(), 1e-6)
    signs = torch.where(blended >= 0, 1.0, -1.0).double().reshape(4, -1)
    close(binarizer.scale.grad, (upstream.reshape(4, -1) * signs).sum(1))


def test_rbnn_combined_shares_rotations_between_standardised_filters():
    """w~ of each filter with its own theta; the gradient reaches w through the rotation and the standardisation."""
    binarizer, big, weight = kron_layer((3, 4, 3, 3), "combined")
    weight.requires_grad_()
    flat = weight.flatten(1)
    standard = (flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True)
    alpha = binarizer.theta.detach().flatten(1).sin().abs()
    expected = (1 - alpha) * standard + alpha * (standard @ big)  # rows: R^T w
    ours = binarizer.rotated(weight)
    close(ours.detach(), expected.detach())
    upstream = torch.randn_like(weight)
    (ours_grad,) = torch.autograd.grad(ours, weight, upstream)
    (expected_grad,) = torch.autograd.grad(expected, weight, upstream.flatten(1))
    close(ours_grad, expected_grad)


def test_rbnn_schedule():
    """t = 10^(-2 + 3 e/E), k = max(1/t, 1) for weights; the released activations use max(t, 1), so k = 1."""
    method = methods.create("rbnn", variant="combined")
    weights, activations = method.weight(torch.Size((2, 4))), method.activation(4)
    for fraction, t in ((0.0, 0.01), (0.5, 10**-0.5), (1.0, 10.0)):
        weights.set_progress(fraction, torch.randn(2, 4))
        activations.set_progress(fraction)
        assert weights.surrogate.t.item() == pytest.approx(t) and weights.surrogate.k.item() == pytest.approx(
            max(1 / t, 1)
        )
        assert activations.surrogate.t.item() == pytest.approx(max(t, 1)) and activations.surrogate.k.item() == 1


def cosine(matrices: Tensor, r1: Tensor, r2: Tensor) -> float:
    """Mean over filters of cos(R^T w, sign(R^T w)) = |R^T w|_1 / (sqrt(n) |w|_2)."""
    rotated = (r1.T @ matrices @ r2).flatten(1)
    return (rotated.abs().sum(1) / (math.sqrt(rotated.shape[1]) * rotated.norm(dim=1))).mean().item()


@pytest.mark.parametrize(
    ("filters", "n", "expected"),
    [(16, 144, (0.817, 0.833, 0.849)), (32, 288, (0.810, 0.823, 0.837)), (64, 576, (0.803, 0.811, 0.822))],
)
def test_rbnn_alignment(filters, n, expected):
    """The mean cosine after 1, 3 and 10 cycles on Gaussian weights, as measured with the authors' code."""
    n1, n2 = factors(n)
    random = np.random.default_rng(n)
    matrices = torch.from_numpy(random.normal(size=(filters, n1, n2)))
    r1, r2 = (torch.linalg.qr(torch.from_numpy(random.normal(size=(m, m))))[0] for m in (n1, n2))
    cosines = [cosine(matrices, r1, r2)]
    assert cosines[0] == pytest.approx(0.798, abs=0.006)  # a random rotation aligns nothing
    for _ in range(10):
        r1, r2 = align(matrices, r1, r2, cycles=1)
        cosines.append(cosine(matrices, r1, r2))
    assert all(later >= earlier - 1e-12 for earlier, later in pairwise(cosines))
    assert [cosines[c] for c in (1, 3, 10)] == pytest.approx(expected, abs=0.004)
    for matrix in (r1, r2):
        assert (matrix.T @ matrix - torch.eye(len(matrix))).abs().max() < 1e-6
    flips = ((r1.T @ matrices @ r2 >= 0) != (matrices >= 0)).double().mean().item()
    assert 0.45 < flips < 0.55


def test_rbnn_alignment_of_a_layer():
    """set_progress turns the stored rotations, in float32, and keeps them orthogonal over many epochs."""
    layer = layers_conv("rbnn", 16, 16)
    binarizer = layer.weight_binarizer
    before = cosine(*rotation_of(binarizer, layer.weight))
    for epoch in range(30):
        layers.set_progress(layer, epoch / 30)
    after = cosine(*rotation_of(binarizer, layer.weight))
    assert after > before + 0.015
    for matrix in (binarizer.r1, binarizer.r2):
        assert (matrix.T @ matrix - torch.eye(len(matrix))).abs().max() < 1e-5


def test_rbnn_rotations_stay_after_a_fraction_of_training():
    weight = torch.randn(8, 4, 3, 3)
    for until, progress, turns in ((0.5, 0.5, True), (0.5, 0.525, False), (1.0, 0.99, True)):
        binarizer = RotatedSign(weight.shape, sharpening(training_aware, 1e-2, 2.0), "combined", rotate_until=until)
        before = binarizer.r1.clone()
        binarizer.set_progress(progress, weight)
        assert torch.equal(binarizer.r1, before) != turns and binarizer.surrogate.t > 0.1
    with pytest.raises(UserError, match="rotate_until must be from 0 to 1"):
        rbnn(rotate_until=1.5)


def test_rbnn_statistics_of_bf16_are_float32():
    """Samples far from 0, whose variance bf16 sums would lose."""
    x = (1 + 0.1 * torch.randn(4, 8, 12, 12)).bfloat16().requires_grad_()
    exact = x.detach().double().requires_grad_()
    g = torch.randn(x.shape, dtype=torch.float64)
    binarize = methods.create("rbnn", t_max=2.0).activation(8)
    binarize.set_progress(1.0)
    y, expected = binarize(x), binarize(exact)
    y.backward(g.bfloat16())
    expected.backward(g)
    assert y.dtype == x.grad.dtype == torch.bfloat16
    assert torch.equal(y.double(), expected)
    assert (x.grad.double() - exact.grad).abs().max() < 0.02 * exact.grad.abs().max()


def rotation_of(binarizer: RotatedSign, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return binarizer.matrices(binarizer.standardize(weight.detach())), binarizer.r1, binarizer.r2


def layers_conv(method: str, inputs: int, outputs: int, **options: object) -> BinaryConv2d:
    row = methods.create(method, **options)
    shape = torch.Size((outputs, inputs, 3, 3))
    layer = BinaryConv2d(
        inputs,
        outputs,
        3,
        padding=1,
        weight_binarizer=row.weight(shape),
        activation_binarizer=row.activation(inputs),
    )
    with torch.no_grad():
        layer.weight.normal_()
    layer.weight_binarizer.initialize(layer.weight)
    return layer


# ---- ReBNN


def resilient(shape: tuple[int, ...] = (4, 3, 3, 3)) -> tuple[nn.Module, nn.Parameter]:
    """A binarizer with random scales (one negative) and gammas, and weights of which some exceed 1."""
    binarizer = methods.create("rebnn", variant="paper").weight(torch.Size(shape)).double()
    weight = nn.Parameter(0.8 * torch.randn(shape, dtype=torch.float64))
    binarizer.initialize(weight)
    with torch.no_grad():
        binarizer.scale[0] *= -1
        binarizer.gamma.uniform_(1e-5, 2e-4)
    binarizer.set_progress(0.0, weight)
    return binarizer, weight


def sign_of(weight: Tensor) -> Tensor:
    return torch.where(weight >= 0, 1.0, -1.0).to(weight.dtype)


def test_rebnn_gradients():
    """eq. 3.144, and eq. 3.152 with the sign that the derivative of L_R has."""
    binarizer, weight = resilient()
    binarizer.gamma *= 1000  # as large as the rest
    g = torch.randn_like(weight)  # dL/dw_b of a linear loss
    ((binarizer(weight) * g).sum() + binarizer.regularization(weight)).backward()
    w, alpha, gamma = weight.detach(), binarizer.scale.detach(), binarizer.gamma
    b = sign_of(w)
    close(weight.grad, alpha * g * (w.abs() <= 1) + gamma * (w - alpha * b))
    terms = g * b - gamma * (w - alpha * b) * b
    close(binarizer.scale.grad, terms.flatten(1).sum(1))


def test_rebnn_regularisation_by_finite_differences():
    """L_R = 1/2 sum gamma ||w - alpha sign(w)||^2 and its slopes in w and alpha."""
    binarizer, weight = resilient()
    loss = binarizer.regularization(weight)
    gradients = torch.autograd.grad(loss, [weight, binarizer.scale])

    def value(w: np.ndarray, alpha: np.ndarray) -> float:
        b = np.where(w >= 0, 1.0, -1.0)
        squares = ((w - alpha * b) ** 2).sum(axis=(1, 2, 3))
        return 0.5 * float((binarizer.gamma.numpy().ravel() * squares).sum())

    w, alpha = weight.detach().numpy(), binarizer.scale.detach().numpy()
    assert loss.item() == pytest.approx(value(w, alpha), rel=1e-12)
    h = 1e-6
    for index in [(0, 0, 0, 0), (1, 2, 0, 1), (3, 1, 2, 2)]:
        step = np.zeros_like(w)
        step[index] = h
        slope = (value(w + step, alpha) - value(w - step, alpha)) / (2 * h)
        assert gradients[0][index].item() == pytest.approx(slope, rel=1e-4)
    for channel in range(4):
        step = np.zeros_like(alpha)
        step[channel] = h
        slope = (value(w, alpha + step) - value(w, alpha - step)) / (2 * h)
        assert gradients[1][channel].item() == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_rebnn_gamma(optimizer):
    """eq. 3.150: the fraction of signs the step flipped times the largest |dL/dw_b|, clamped; over several steps."""
    binarizer, weight = resilient((6, 3, 3, 3))
    parameters = [weight, binarizer.scale]
    if optimizer == "sgd":
        optimizer = torch.optim.SGD(parameters, lr=1e4, momentum=0.5, weight_decay=1e-6)
    else:
        optimizer = torch.optim.Adam(parameters, lr=0.3)
    size = torch.logspace(-6, -2, 6, dtype=torch.float64).reshape(-1, 1, 1, 1)  # below, inside and above the clamp
    seen = []
    for _ in range(4):
        g = size * torch.randn_like(weight)
        before = weight.detach().clone()
        ((binarizer(weight) * g).sum() + binarizer.regularization(weight)).backward()
        optimizer.step()
        binarizer.after_step(weight, weight.grad)
        optimizer.zero_grad()
        flips = (sign_of(weight.detach()) != sign_of(before)).double().flatten(1).mean(1)
        largest = (g * (before.abs() <= 1)).abs().flatten(1).amax(1)  # beyond 1 the straight-through gradient is 0
        expected = (flips * largest).clamp(1e-5, 2e-4)
        close(binarizer.gamma, expected, 1e-6)
        seen += expected.tolist()
    inside = [value for value in seen if 1e-5 < value < 2e-4]
    assert len(inside) > 2 and min(seen) == 1e-5 and max(seen) == 2e-4, seen


def test_rebnn_gamma_survives_a_changed_scale():
    """The scale moves in the same step as the weights: dL/dw_b must be recovered with the scale before the step."""
    binarizer, weight = resilient((1, 8))
    g = 1e-4 * torch.randn_like(weight)
    optimizer = torch.optim.SGD([{"params": [weight], "lr": 1e4}, {"params": [binarizer.scale], "lr": 1e3}])
    ((binarizer(weight) * g).sum() + binarizer.regularization(weight)).backward()
    before, scale = weight.detach().clone(), binarizer.scale.detach().clone()
    optimizer.step()
    binarizer.after_step(weight, weight.grad)
    assert (binarizer.scale - scale).abs() > 0.05
    flips = (sign_of(weight.detach()) != sign_of(before)).double().mean()
    close(binarizer.gamma, (flips * (g * (before.abs() <= 1)).abs().max()).clamp(1e-5, 2e-4), 1e-6)


def test_rebnn_gamma_does_not_see_clipping():
    """gamma is of the loss's gradient, also where the optimizer takes a shorter one."""
    fabric = Fabric(accelerator="cpu", devices=1)
    gammas = []
    for bound in (0.0, 1e-6):
        torch.manual_seed(0)
        layer = layers_conv("rebnn", 4, 6)
        wrapped, optimizer = fabric.setup(layer, torch.optim.Adam(layer.parameters(), lr=0.3, eps=1e-20))
        loss = 1e-3 * wrapped(torch.randn(8, 4, 6, 6)).square().mean()
        (loss + layers.regularization(layer)).backward()
        clipping = clip_gradients(fabric, wrapped, optimizer, bound)
        optimizer.step()
        layers.after_step(layer, clipping)
        gammas.append(layer.weight_binarizer.gamma)
    assert clipping < 0.1
    assert ((gammas[0] > 1e-5) & (gammas[0] < 2e-4)).any()
    torch.testing.assert_close(gammas[1], gammas[0], rtol=1e-4, atol=0)


def test_rebnn_released_gamma_is_constant():
    """The authors' clamps are exchanged: 2e-4 whatever happens, and no state that could change it."""
    binarizer = methods.create("rebnn", variant="released").weight(torch.Size((3, 8))).double()
    assert not list(binarizer.buffers())
    weight = nn.Parameter(torch.randn(3, 8, dtype=torch.float64))
    for _ in range(3):
        binarizer(weight).backward(torch.zeros_like(weight))  # what remains is gamma (w - 0.02 |alpha| sign(w))
        pull = weight - 0.02 * binarizer.scaling_factor.abs() * sign_of(weight)
        close(weight.grad, 2e-4 * pull.detach())
        with torch.no_grad():
            weight.copy_(torch.randn_like(weight))
        binarizer.after_step(weight, weight.grad)
        weight.grad = None


# ---- ReCU


def test_rebnn_without_its_reconstruction_loss():
    """gamma's bounds hold it at 0: no term of the loss, and the plain gradient; wrong bounds are refused."""
    binarizer = methods.create("rebnn", gamma_min=0, gamma_max=0).weight(torch.Size((3, 2, 3, 3))).double()
    weight = torch.nn.Parameter(0.3 * torch.randn(3, 2, 3, 3, dtype=torch.float64))
    binarizer.initialize(weight.detach())
    binarizer.after_step(-weight.detach(), torch.randn_like(weight))  # all signs flip
    assert binarizer.gamma.abs().max() == 0 and binarizer.regularization(weight).item() == 0
    for options, named in (
        ({"gamma_min": -1e-5}, "gamma_min = -1e-05 must be a number in"),
        ({"gamma_min": 0.1}, "gamma_min = 0.1 is above gamma_max = 0.0002"),
        ({"variant": "released", "gamma_max": 0.0, "gamma_min": 0.0}, "the released gamma is always"),
    ):
        with pytest.raises(UserError, match=named):
            methods.create("rebnn", **options)


def test_recu_schedule():
    """tau = A e^f + B with A = (0.99 - 0.85) / (e - 1), B = 0.85 - A, as the authors' training sets it."""
    binarizer = methods.create("recu").weight(torch.Size((4, 3, 3, 3)))
    a = (0.99 - 0.85) / (math.e - 1)
    for fraction in (0.0, 0.25, 0.5, 1.0):
        binarizer.set_progress(fraction, torch.empty(0))
        assert binarizer.tau.item() == pytest.approx(a * math.e**fraction + 0.85 - a, abs=1e-6)


# ---- XNOR-Net, IR-Net, Bi-Real Net


def test_xnor_gradient_has_both_paths():
    """alpha 1_{|w| <= 1} g + sign(w) mean(g sign(w))."""
    weight = torch.randn(3, 5, 3, 3, dtype=torch.float64, requires_grad=True)
    g = torch.randn_like(weight)
    methods.create("xnor").weight(weight.shape)(weight).backward(g)
    w, b = weight.detach(), sign_of(weight.detach())
    alpha = w.abs().mean((1, 2, 3), keepdim=True)
    close(weight.grad, alpha * g * (w.abs() <= 1) + b * (g * b).mean((1, 2, 3), keepdim=True))


def test_irnet_weights():
    """2^round(log2 mean |w^|) sign(w^), the gradient through the standardisation with the scale held constant."""
    binarizer = methods.create("irnet").weight(torch.Size((3, 20))).double()
    binarizer.set_progress(0.7, torch.empty(0))
    weight = (0.1 + torch.randn(3, 20, dtype=torch.float64)).requires_grad_()
    g = torch.randn_like(weight)
    ours = binarizer(weight)
    standard = (weight - weight.mean(1, keepdim=True)) / weight.std(1, keepdim=True)
    scale = 2.0 ** np.round(np.log2(standard.detach().abs().mean(1, keepdim=True).numpy()))
    t = 10 ** (-3 + 4 * 0.7)
    expected = torch.from_numpy(scale) * through(sign_of(standard), max(1 / t, 1) * torch.tanh(t * standard))
    close(ours.detach(), expected.detach())
    close(torch.autograd.grad(ours, weight, g)[0], torch.autograd.grad(expected, weight, g)[0], 1e-6)


def test_bireal_weight_gradient_is_clipped_identity():
    weight = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    g = torch.randn_like(weight)
    methods.create("bireal").weight(weight.shape)(weight).backward(g)
    close(weight.grad, g * (weight.detach().abs() <= 1))


def test_approximate_sign_of_activations():
    """Bi-Real and ReActNet: the slope of the quadratic, at x and at x + shift; and its sum for the shift."""
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    g = torch.randn_like(x)
    for name in ("bireal", "reactnet", "rebnn"):
        binarizer = methods.create(name).activation(3).double()
        shift = torch.zeros(3, dtype=torch.float64)
        if name != "bireal":
            shift = torch.tensor([0.4, -0.3, 0.1], dtype=torch.float64)
            with torch.no_grad():
                binarizer.shift.copy_(shift)
        moved = x + shift.reshape(1, 3, 1, 1)
        (expected,) = torch.autograd.grad(quadratic(moved), x, g)
        (ours,) = torch.autograd.grad(binarizer(x), x, g, retain_graph=True)
        close(ours, expected)
        if name != "bireal":
            (ours,) = torch.autograd.grad(binarizer(x), binarizer.shift, g)
            close(ours, expected.sum((0, 2, 3)))
