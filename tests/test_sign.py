"""The one sign, and each surrogate gradient against its closed form and the slope of the function it comes from."""

import io
import re
import tokenize
from pathlib import Path

import numpy as np
import pytest
import torch

import onebit
from onebit import methods, models
from onebit.errors import UserError
from onebit.nn import layers, surrogates
from onebit.nn.sign import sign, surrogate_sign
from onebit.nn.surrogates import (
    approx_sign,
    blended,
    ede,
    exste,
    fourier,
    identity,
    reste,
    ste,
    swish_sign,
    tanh,
    training_aware,
)

FLOATS = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_sign(dtype):
    info = torch.finfo(dtype)
    subnormal = info.smallest_normal / 2
    inputs = [0.0, -0.0, subnormal, -subnormal, info.tiny, -info.tiny, 1.0, -1.0, info.max, info.min, np.inf, -np.inf]
    expected = [1, 1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1]
    result = sign(torch.tensor(inputs, dtype=dtype))
    assert result.dtype == dtype
    assert result.tolist() == expected


def test_sign_agrees_with_the_bits_of_the_file():
    from onebit.runtime import bits

    x = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 3.0, -3.0, np.inf, -np.inf])
    assert bits.unpack(bits.pack(x.numpy()), len(x)).tolist() == sign(x).tolist()


def test_nothing_else_calls_a_library_sign():
    """torch.sign and numpy.sign give 0 at 0."""
    forbidden = re.compile(r"(torch\s*\.\s*(sign|sgn)|np\s*\.\s*sign|\.\s*(sign|sgn|sign_|sgn_)\s*\()")
    assert forbidden.search("x.sign()") and forbidden.search("torch.sign(x)")
    package = Path(onebit.__file__).parent
    found = []
    for path in package.rglob("*.py"):
        tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        skipped = (tokenize.COMMENT, tokenize.STRING)
        code = " ".join(t.string for t in tokens if t.type not in skipped)
        found += [f"{path.name}: {match.group()}" for match in forbidden.finditer(code)]
    assert not found


# Each surrogate: derivative, parameters, its closed form in numpy, and the function whose slope it is.
X = np.linspace(-3.0, 3.0, 1201) + 1e-4  # off the kinks at 0, 1 and sqrt(2) / t


def approx(x: np.ndarray) -> np.ndarray:
    """Bi-Real Net eq. 4: the piecewise quadratic."""
    return np.select([x < -1, x < 0, x < 1], [-1, 2 * x + x**2, 2 * x - x**2], 1)


def rbnn_f(x: np.ndarray, t: float, k: float) -> np.ndarray:
    """RBNN eq. 12."""
    inside = k * (-np.sign(x) * t**2 * x**2 / 2 + np.sqrt(2) * t * x)
    return np.where(np.abs(x) < np.sqrt(2) / t, inside, k * np.sign(x))


def sign_swish(x: np.ndarray, b: float) -> np.ndarray:
    """BNN+ eq. 4: 2 sigma(b x) (1 + b x (1 - sigma(b x))) - 1."""
    s = 1 / (1 + np.exp(-b * x))
    return 2 * s * (1 + b * x * (1 - s)) - 1


def power(x: np.ndarray, o: float, clip: float) -> np.ndarray:
    """ReSTE's sign(x) |x|^(1/o) up to clip, and its chord up to 0.1."""
    size = np.minimum(np.abs(x), clip)
    return np.sign(x) * np.where(size < 0.1, size * 0.1 ** (1 / o - 1), size ** (1 / o))


def power_slope(x: np.ndarray, o: float, clip: float) -> np.ndarray:
    size = np.maximum(np.abs(x), 0.1)
    slope = np.where(np.abs(x) < 0.1, 0.1 ** (1 / o) / 0.1, size ** ((1 - o) / o) / o)
    return np.where(np.abs(x) <= clip, slope, 0)


def exponential(x: np.ndarray, o: float, clip: float) -> np.ndarray:
    """sign(x) (1 - e^(-o|x|)) / (1 - e^(-o)) up to clip."""
    return np.sign(x) * (1 - np.exp(-o * np.minimum(np.abs(x), clip))) / (1 - np.exp(-o))


def series(x: np.ndarray, n: float) -> np.ndarray:
    """(4 / pi) sum_{i < n} sin((2i + 1) w x) / (2i + 1), w = pi / 2, constant beyond 1."""
    inside = np.clip(x, -1, 1)
    return 4 / np.pi * sum(np.sin((2 * i + 1) * np.pi / 2 * inside) / (2 * i + 1) for i in range(int(n)))


def series_slope(x: np.ndarray, n: float) -> np.ndarray:
    return np.where(np.abs(x) <= 1, 2 * sum(np.cos((2 * i + 1) * np.pi / 2 * x) for i in range(int(n))), 0)


SURROGATES = [
    (ste, (1.5,), lambda x, clip: np.where(np.abs(x) <= clip, 1.0, 0.0), lambda x, clip: np.clip(x, -clip, clip)),
    (ste, (), lambda x: np.where(np.abs(x) <= 1, 1.0, 0.0), lambda x: np.clip(x, -1, 1)),
    (identity, (), np.ones_like, lambda x: x),
    (approx_sign, (), lambda x: np.where(np.abs(x) < 1, 2 - 2 * np.abs(x), 0), approx),
]
for t in (1e-3, 0.1, 1.0, 10.0):
    k = max(1 / t, 1.0)
    SURROGATES += [
        (ede, (t, k), lambda x, t, k: k * t / np.cosh(t * x) ** 2, lambda x, t, k: k * np.tanh(t * x)),
        (training_aware, (t, k), lambda x, t, k: np.maximum(k * (np.sqrt(2) * t - np.abs(t * t * x)), 0), rbnn_f),
    ]
for b in (1.0, 5.0):
    closed = lambda x, b: b * (2 - b * x * np.tanh(b * x / 2)) / (1 + np.cosh(b * x))  # noqa: E731
    SURROGATES.append((swish_sign, (b,), closed, sign_swish))
for t in (1.0, 5.0):
    SURROGATES.append((tanh, (t,), lambda x, t: t / np.cosh(t * x) ** 2, lambda x, t: np.tanh(t * x)))
for t, s in ((1.0, 0.0), (5.0, 0.7)):
    closed = lambda x, t, s: (1 - s) + s * t / np.cosh(t * x) ** 2  # noqa: E731
    SURROGATES.append((blended, (t, s), closed, lambda x, t, s: (1 - s) * x + s * np.tanh(t * x)))
for o in (1.0, 3.0):
    SURROGATES += [
        (reste, (o, 1.5), power_slope, power),
        (
            exste,
            (o, 1.5),
            lambda x, o, clip: np.where(np.abs(x) <= clip, o * np.exp(-o * np.abs(x)) / (1 - np.exp(-o)), 0),
            exponential,
        ),
    ]
SURROGATES += [(fourier, (n,), series_slope, series) for n in (1.0, 4.0)]
each_surrogate = pytest.mark.parametrize(
    ("derivative", "parameters", "closed", "function"),
    SURROGATES,
    ids=[f"{d.__name__}-{'-'.join(map(str, p))}" for d, p, *_ in SURROGATES],
)


@each_surrogate
def test_surrogate_is_its_closed_form(derivative, parameters, closed, function):
    values = derivative(torch.from_numpy(X), *(torch.tensor(p, dtype=torch.float64) for p in parameters))
    np.testing.assert_allclose(values.numpy(), closed(X, *parameters), rtol=1e-10, atol=1e-12)


@each_surrogate
def test_surrogate_is_the_slope_of_its_function(derivative, parameters, closed, function):
    h = 1e-6
    slope = (function(X + h, *parameters) - function(X - h, *parameters)) / (2 * h)
    values = derivative(torch.from_numpy(X), *(torch.tensor(p, dtype=torch.float64) for p in parameters))
    np.testing.assert_allclose(values.numpy(), slope, rtol=1e-6, atol=1e-6)


@each_surrogate
def test_backward_multiplies_by_the_surrogate(derivative, parameters, closed, function):
    x = torch.from_numpy(X).requires_grad_()
    upstream = torch.randn_like(x)
    y = surrogate_sign(x, derivative, *(torch.tensor(p, dtype=torch.float64) for p in parameters))
    assert set(y.tolist()) == {-1.0, 1.0}
    y.backward(upstream)
    np.testing.assert_allclose(x.grad.numpy(), upstream.numpy() * closed(X, *parameters), rtol=1e-10, atol=1e-12)


def test_rbnn_f_approaches_the_sign():
    """At the end of the schedule (t = 10, k = 1) F is sign outside |x| < 0.142; at its start it is nearly a line."""
    assert np.array_equal(rbnn_f(X, 10.0, 1.0)[np.abs(X) > 0.142], np.sign(X)[np.abs(X) > 0.142])
    start = training_aware(torch.tensor([0.5]), torch.tensor(0.01), torch.tensor(100.0))
    assert start.item() == pytest.approx(1.41421 - 0.01 * 0.5, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_keeps_its_dtype(dtype):
    """Schedules are float32 numbers and must not promote activations."""
    x = torch.randn(8).to(dtype).requires_grad_()
    y = surrogate_sign(x, ede, torch.tensor(0.5), torch.tensor(2.0))
    y.sum().backward()
    assert y.dtype == dtype and x.grad.dtype == dtype


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_what_is_compiled_is_the_same(dtype, monkeypatch):
    edge = torch.tensor([0.5, 1.0, 1.5, 2.0], dtype=dtype)
    around = [edge, torch.nextafter(edge, edge + 1), torch.nextafter(edge, edge - 1), edge * 0]
    x = torch.cat([*around, *(-part for part in around), torch.tensor([1e30, -1e30, float("nan")]).to(dtype)])
    eager = [sign(x), *(ste(x[:-1], clip) for clip in (0.5, 1.0, 1.5))]
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    compiled = [sign(x), *(ste(x[:-1], clip) for clip in (0.5, 1.0, 1.5))]
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(eager, compiled, strict=True))


def test_a_row_of_the_table_for_each_surrogate():
    """Each name trains through the derivative of that name; parameters are where its course puts them."""
    assert set(surrogates.SURROGATES) == {derivative.__name__ for derivative, *_ in SURROGATES}
    for name in surrogates.SURROGATES:
        surrogate = surrogates.create("test", name)
        assert surrogate.derivative.__name__ == name
        for fraction in (0.0, 0.5, 1.0):
            surrogate.set_progress(fraction)
            x = torch.linspace(-2, 2, 41).requires_grad_()
            y = surrogate(x)
            y.sum().backward()
            assert torch.equal(y.detach(), sign(x.detach())) and torch.equal(x.grad, surrogate.slope(x.detach()))
            assert torch.isfinite(x.grad).all() and x.grad[20] > 0  # at 0
    surrogate = surrogates.create("test", {"name": "exste", "o_max": 5.0, "clip": 2.0})
    surrogate.set_progress(0.5)
    assert surrogate.o.item() == 3.0 and surrogate.clip.item() == 2.0
    surrogate = surrogates.create("test", {"name": "ede", "t_min": 0.1})
    surrogate.set_progress(0.5)
    assert surrogate.t.item() == pytest.approx(1.0)


@pytest.mark.parametrize("method", [name for name in methods.METHODS if name != "float"])
def test_every_method_takes_another_surrogate(method):
    """Its gradient changes, and nothing else: the same network, the same outputs."""
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def outputs_and_gradient(**options):
        torch.manual_seed(1)
        network = models.create("resnet8", method, options=options)
        layers.set_progress(network, 0.7)
        outputs = network(images)
        outputs.square().sum().backward()
        return outputs.detach(), network.conv1.weight.grad.clone(), network.stages[2][0].conv2.weight.grad.clone()

    own, row = outputs_and_gradient(), methods.create(method)
    for option, value, of, part in (
        ("surrogate", {"name": "ste", "clip": 0.7}, 1, row.activation(2)),
        ("weight_surrogate", {"name": "ste", "clip": 0.01}, 2, row.weight(torch.Size((2, 2)))),
    ):
        if part.surrogate is None:  # the method's own gradient is of no sign
            with pytest.raises(UserError, match="no surrogate gradient trains this operand"):
                outputs_and_gradient(**{option: value})
            continue
        other = outputs_and_gradient(**{option: value})
        assert torch.equal(own[0], other[0]) and not torch.equal(own[of], other[of])


def test_what_no_surrogate_is_is_refused():
    for options, message in (
        ({"surrogate": "stee"}, "method 'adabin': surrogate: surrogate 'stee' is unknown; choose one of ste, identity"),
        ({"surrogate": {"clip": 1.0}}, "surrogate = {'clip': 1.0} has no name; give one of ste"),
        ({"surrogate": {"name": "ste", "clip": 10**60}}, "clip of surrogate 'ste' must be a number from"),
        ({"surrogate": {"name": "tanh", "t_min": 1e-320}}, "t_min of surrogate 'tanh' must be a number from 1e-06"),
        (
            {"surrogate": {"name": "fourier", "n_min": 0.2}},
            "n_min of surrogate 'fourier' must be a number from 1 to 100",
        ),
        ({"weight_surrogate": {"name": "ede", "clip": 1.0}}, "surrogate 'ede' has no 'clip'; it has: t_min, t_max"),
        (
            {"surrogate": {"name": "ste", "clip": 0}},
            "clip of surrogate 'ste' must be a number from 1e-06 to 1e+06, got 0",
        ),
        ({"surrogate": 3}, "surrogate 3 is unknown"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            methods.create("adabin", **options)
    with pytest.raises(UserError, match="no surrogate gradient trains this operand"):
        methods.create("rebnn", variant="released", weight_surrogate="ste")
    with pytest.raises(UserError, match="no surrogate gradient trains this operand"):
        methods.create("float", surrogate="ste")
