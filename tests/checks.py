"""What every method must satisfy, whatever it does in training; `test_methods.py` runs it on each row of the table."""

import inspect
import math

import torch
from torch import Tensor, nn

from onebit import methods
from onebit.errors import UserError
from onebit.methods.method import Method
from onebit.nn import layers
from onebit.nn.binarizer import ActivationBinarizer, ActivationForm, WeightBinarizer
from onebit.nn.layers import BinaryConv2d, BinaryLinear

PROGRESS = (0.0, 0.5, 1.0)

Case = tuple[str, dict[str, object]]


def variants(name: str) -> list[str]:
    """The values of a method's option `variant`, read from the message that refuses another one."""
    if "variant" not in inspect.signature(methods.METHODS[name]).parameters:
        return []
    try:
        methods.create(name, variant="?")
    except UserError as error:
        return str(error).rpartition("choose one of ")[2].split(", ")
    raise AssertionError(f"method {name} accepts any variant")


def cases() -> list[Case]:
    """(name, options) of every method with every variant, the full-precision parent left out."""
    names = [name for name in methods.METHODS if name != "float"]
    plain = [(name, {"variant": v} if v else {}) for name in names for v in variants(name) or [""]]
    ablations = [("rbnn", {"rotation": rotation, "t_max": 2.0}) for rotation in ("full", "none")]
    several: list[Case] = [("dorefa", {"activation_bits": 2}), ("abcnet", {"weight_bases": 2, "activation_bases": 2})]
    return plain + ablations + several


def case_id(case: Case) -> str:
    name, options = case
    return "-".join([name, *(str(value) for value in options.values())])


def conv(method: Method, inputs: int, outputs: int, kernel: tuple[int, int], **geometry: object) -> BinaryConv2d:
    groups = int(geometry.get("groups", 1))  # type: ignore[call-overload]
    return BinaryConv2d(
        inputs,
        outputs,
        kernel,
        weight_binarizer=method.weight(torch.Size((outputs, inputs // groups, *kernel))),
        activation_binarizer=method.activation(inputs),
        **geometry,
    )


def linear(method: Method, inputs: int, outputs: int, bias: bool = False) -> BinaryLinear:
    return BinaryLinear(
        inputs,
        outputs,
        bias,
        weight_binarizer=method.weight(torch.Size((outputs, inputs))),
        activation_binarizer=method.activation(inputs),
    )


@torch.no_grad()
def disturb(module: nn.Module) -> nn.Module:
    """Give every parameter of the binarizers a value between 0.3 and 1.3, of either sign: nothing stays as it began."""
    for part in module.modules():
        if isinstance(part, WeightBinarizer | ActivationBinarizer):
            for parameter in part.parameters():
                values = 0.3 + torch.rand_like(parameter)
                parameter.copy_(torch.where(torch.rand_like(parameter) < 0.5, -values, values))
    return module


def weights_of(
    method: Method, shape: tuple[int, ...], size: float, dtype: torch.dtype
) -> tuple[WeightBinarizer, Tensor]:
    """A weight binarizer with disturbed parameters and latent weights of standard deviation `size` for it."""
    binarizer = method.weight(torch.Size(shape)).to(dtype)
    weight = (size * torch.randn(shape, dtype=torch.float64)).to(dtype)
    binarizer.initialize(weight)
    disturb(binarizer)
    return binarizer, weight


def inputs_of(forms: tuple[ActivationForm, ...], channels: int, dtype: torch.dtype) -> Tensor:
    """Activations (2, C, 4, 8), among them the thresholds themselves, the numbers next to them, +0 and -0."""
    x = torch.randn(2, channels, 4, 8, dtype=torch.float64).to(dtype)
    if any(isinstance(form.threshold, str) for form in forms):  # quarters whose sum is exactly 0: some lie on the mean
        half = (4 * x[:, :, :2]).round() / 4
        x = torch.cat([half, -half], dim=2)
        assert (x == 0).any()
        return x
    for row, form in enumerate(forms):
        threshold = torch.as_tensor(form.threshold, dtype=dtype).expand(channels)
        x[:, :, row, 0] = threshold
        x[:, :, row, 1] = torch.nextafter(threshold, torch.full_like(threshold, -math.inf))
        x[:, :, row, 2] = torch.nextafter(threshold, torch.full_like(threshold, math.inf))
    x[:, :, 0, 3], x[:, :, 0, 4] = 0.0, -0.0
    return x


def tolerance(dtype: torch.dtype) -> float:
    return 1e-12 if dtype == torch.float64 else 1e-6


def check_weights(method: Method, dtype: torch.dtype) -> None:
    """Two values a channel, or as many as several forms have sums; freeze() gives the weights of forward()."""
    for shape, size in (((5, 3, 3, 3), 0.3), ((3, 7, 1, 2), 1.0), ((4, 11), 0.003)):
        for fraction in PROGRESS:
            binarizer, weight = weights_of(method, shape, size, dtype)
            binarizer.set_progress(fraction, weight)
            with torch.no_grad():
                binary = binarizer(weight)
                forms = binarizer.freeze(weight)
            assert binary.dtype == dtype
            for channel in binary.flatten(1):
                assert 2 <= len(channel.unique()) <= 2 ** len(forms), channel.unique()
            assert all(set(form.signs.unique().tolist()) == {-1.0, 1.0} for form in forms)
            error = (sum(form.weight() for form in forms) - binary).abs().max() / binary.abs().max()
            assert error <= tolerance(dtype), f"{shape} at {fraction}: relative error {error:.1e}"


def check_activations(method: Method, dtype: torch.dtype) -> None:
    """Two values, or as many as several forms have sums; freeze() gives the activations of forward(), at the thresholds
    too, in training and evaluation."""
    for attempt in range(6):  # scalar parameters get both signs
        torch.manual_seed(attempt)
        binarizer = method.activation(6).to(dtype)
        disturb(binarizer)
        binarizer.set_progress(PROGRESS[attempt % 3])
        forms = binarizer.freeze()
        assert all(form.scale > 0 for form in forms)
        x = inputs_of(forms, 6, dtype)
        for training in (True, False):
            with torch.no_grad():
                a = binarizer.train(training)(x)
            assert a.dtype == dtype
            assert 2 <= len(a.unique()) <= 2 ** len(forms)
            torch.testing.assert_close(
                sum(form.activation(x) for form in forms), a, rtol=tolerance(dtype), atol=tolerance(dtype)
            )


def layers_of(method: Method) -> list[tuple[nn.Module, tuple[int, ...]]]:
    """(layer, shape of its input): strides, dilation, groups, bias, odd sizes, linear."""
    return [
        (conv(method, 5, 7, (3, 3), padding=1), (3, 5, 7, 9)),
        (conv(method, 6, 8, (3, 2), stride=(2, 1), padding=(1, 0), bias=True), (3, 6, 9, 5)),
        (conv(method, 6, 4, (3, 3), padding=2, dilation=2, groups=2), (3, 6, 8, 7)),
        (conv(method, 6, 6, (3, 3), padding=1, groups=6, bias=True), (3, 6, 5, 5)),
        (linear(method, 13, 5, bias=True), (3, 13)),
    ]


def check_evaluation(method: Method, dtype: torch.dtype) -> None:
    """Evaluation without gradients, which sums +-1 exactly, gives what training gives."""
    for layer, shape in layers_of(method):
        disturb(layer.to(dtype))
        layers.set_progress(layer, 0.5)
        x = torch.randn(shape, dtype=torch.float64).to(dtype)
        expected = layer.train()(x).detach()
        with torch.no_grad():
            y = layer.eval()(x)
        assert y.dtype == dtype
        error = (y - expected).abs().max() / expected.abs().max()
        assert error <= (1e-12 if dtype == torch.float64 else 1e-5), f"{layer}: relative error {error:.1e}"


def check_gradients(method: Method, without: tuple[str, ...] = ()) -> None:
    """Finite gradients for everything; not all 0, except for the parameters named in `without`."""
    for layer, shape in layers_of(method):
        disturb(layer)
        for fraction in PROGRESS:
            layers.set_progress(layer, fraction)
            x = torch.randn(shape).requires_grad_()
            layer.zero_grad()
            loss = layer(x).square().sum()
            extra = layers.regularization(layer)
            (loss if extra is None else loss + extra).backward()
            for name, gradient in [("x", x.grad), *((n, p.grad) for n, p in layer.named_parameters())]:
                assert gradient is not None and gradient.isfinite().all(), f"{name} at {fraction}"
                if name not in without:
                    assert gradient.abs().max() > 0, f"{name} at {fraction}: no gradient in {layer}"


def check_state(method: Method) -> None:
    """The state dict holds all that forward depends on, schedules and rotations included."""
    for fraction in PROGRESS:
        one, other = (disturb(conv(method, 6, 4, (3, 3), padding=1)) for _ in range(2))
        layers.set_progress(one, fraction)
        x = torch.randn(2, 6, 5, 5)
        assert not torch.equal(one(x), other(x))
        other.load_state_dict(one.state_dict(), strict=True)
        results = []
        for layer in (one, other):
            layer.zero_grad()
            y = layer(x)
            y.square().sum().backward()
            results.append([y, *(p.grad for p in layer.parameters())])
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def check_autocast(method: Method) -> None:
    """A step under bf16 autocast: the layer's parameters keep float32 gradients, the output its value."""
    layer = disturb(conv(method, 8, 8, (3, 3), padding=1))
    layers.set_progress(layer, 0.5)
    x = torch.randn(2, 8, 6, 6)
    expected = layer(x).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
        loss = y.float().square().mean()
    loss.backward()
    error = (y.float() - expected).abs().max() / expected.abs().max()
    assert error < 0.02, f"relative error {error:.1e}"
    for name, parameter in layer.named_parameters():
        assert parameter.grad.dtype == torch.float32 and parameter.grad.isfinite().all(), name


def check_training_step(method: Method) -> None:
    """Twenty steps of a tiny regression lower the loss."""
    layer = conv(method, 8, 4, (3, 3), padding=1)
    scale = nn.BatchNorm2d(4)
    model = nn.Sequential(layer, scale)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    x = torch.randn(16, 8, 6, 6)
    target = nn.functional.conv2d(x, torch.randn(4, 8, 3, 3), padding=1) / 8
    losses = []
    for step in range(20):
        layers.set_progress(model, step / 20)
        loss = (model(x) - target).square().mean()
        extra = layers.regularization(model)
        (loss if extra is None else loss + extra).backward()
        layers.before_step(model)
        optimizer.step()
        layers.after_step(model)
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0], losses


def check_all(method: Method) -> None:
    """Everything above."""
    for dtype in (torch.float32, torch.float64):
        check_weights(method, dtype)
        check_activations(method, dtype)
        check_evaluation(method, dtype)
    check_gradients(method)
    check_state(method)
    check_autocast(method)
    check_training_step(method)
