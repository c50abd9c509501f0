"""Elementwise operators, gates and normalisations against PyTorch in float64, and the engine against the reference."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nets import STEPS, Builder
from onebit.runtime import exponentials, load, native
from onebit.runtime import format as file_format

torch = pytest.importorskip("torch")
F = torch.nn.functional
Call = Callable[[Any], Any]

EDGES = np.array([0, -0.0, 1e-40, -1e-40, 3, -3, 6, 88, -88, 104, -104, 708, -709, 3e38, -3e38], np.float32)
FUNCTIONS: dict[str, tuple[dict[str, float], Call]] = {
    "clip": ({"low": -0.5, "high": 2.25}, lambda x: torch.clamp(x, -0.5, 2.25)),
    "hardsigmoid": ({}, F.hardsigmoid),
    "hardswish": ({}, F.hardswish),
    "sigmoid": ({}, torch.sigmoid),
    "tanh": ({}, torch.tanh),
    "silu": ({}, F.silu),
    "elu": ({"alpha": 0.75}, lambda x: F.elu(x, 0.75)),
    "gelu": ({}, lambda x: x * torch.special.erfc(-x / 2**0.5) / 2),  # F.gelu loses its digits below -5
    "gelu_tanh": ({}, lambda x: x * torch.sigmoid(2 * (2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))),
}


def both(tmp_path: Path, net: Builder, output: str, images: np.ndarray) -> dict[str, np.ndarray]:
    """What the reference has for every node; the engine has the same bits on every instruction set."""
    path = tmp_path / "net.onebit"
    file_format.write(path, net.graph(output), net.tensors)
    expected = load(path, backend="reference").trace(images)
    for isa in native.supported() if native.available() else ():
        for threads in (1, 2):
            model = load(path, isa=isa, threads=threads)
            found = {**model.trace(images), "fused": model(images)}
            for name, value in {**expected, "fused": expected[output]}.items():
                np.testing.assert_array_equal(
                    found[name].view(np.int32), value.view(np.int32), err_msg=f"{isa}, {threads} threads: {name}"
                )
    return expected


def values(seed: int) -> np.ndarray:
    """float32 of all magnitudes, of which many are small."""
    random = np.random.default_rng(seed)
    parts = [random.normal(size=600) * scale for scale in (1e-6, 1e-2, 1, 5, 60)]
    return np.concatenate([EDGES, *parts]).astype(np.float32)


@pytest.mark.parametrize("op", FUNCTIONS)
def test_functions(tmp_path: Path, op: str) -> None:
    """1e-6 relative, of results that are normal numbers, and nothing where PyTorch has less."""
    attributes, function = FUNCTIONS[op]
    x = values(0).reshape(1, 5, 67, 9)
    net = Builder(0, x.shape[1:])
    found = both(tmp_path, net, net.node(op, ["input"], **attributes), x)[f"{op}0"]
    expected = function(torch.from_numpy(x).double()).numpy()
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-38)


@pytest.mark.parametrize(("op", "kind"), [("gelu", "none"), ("gelu_tanh", "tanh")])
def test_both_forms_of_gelu_are_pytorchs(tmp_path: Path, op: str, kind: str) -> None:
    x = values(1)[len(EDGES) :].reshape(1, 1, 1, -1)
    net = Builder(0, x.shape[1:])
    found = both(tmp_path, net, net.node(op, ["input"]), x)[f"{op}0"]
    np.testing.assert_allclose(found, F.gelu(torch.from_numpy(x), approximate=kind).numpy(), rtol=1e-6, atol=1e-6)


def test_the_error_of_exp_and_of_the_normal_distribution() -> None:
    """As docs/format.md states them; long double and PyTorch's erfc are more exact."""
    x = np.concatenate([np.linspace(-708, 708, 20_001), np.linspace(-1e-3, 1e-3, 2_000)])
    exact = x.astype(np.longdouble)
    np.testing.assert_allclose(exponentials.exp(x) / np.exp(exact), 1, rtol=3e-13)
    np.testing.assert_allclose(exponentials.expm1(x[x != 0]) / np.expm1(exact[x != 0]), 1, rtol=3e-12)
    assert exponentials.exp(np.array([-1e300, -np.inf, np.nan])).tolist() == [exponentials.exp(np.array(-708.0))] * 3
    z = np.linspace(-37, 37, 20_001)
    normal = torch.special.erfc(torch.from_numpy(-z) / 2**0.5).numpy() / 2
    np.testing.assert_allclose(exponentials.normal(z), normal, rtol=1e-8)


@pytest.mark.parametrize("op", STEPS)
def test_steps_behind_other_operators(tmp_path: Path, op: str) -> None:
    """Fused behind real-valued and binary convolutions, a sum, a pool and a vector, of sizes that fill no register."""
    net = Builder(STEPS.index(op), (3, 6, 5))
    x = net.step(op, net.conv("input", 3, 21, padding=[1, 1]), 21)
    y = net.step(op, net.binary_conv(x, 21, 21, rows=3, padding=[1, 1]), 21)
    y = net.step(op, net.node("add", [net.binary_conv(y, 21, 21, padding=[1, 1]), y]), 21)
    y = net.step(op, net.conv(y, 21, 14, groups=7, stride=[2, 1]), 14)
    y = net.step(op, net.node("max_pool", [y], kernel=[2, 2], stride=[1, 1]), 14)
    y = net.step(op, net.node("linear", [net.node("global_avg_pool", [y])], {"weight": net.floats(19, 14)}), 19)
    both(tmp_path, net, y, net.floats(2, 3, 6, 5))


@pytest.mark.parametrize("channels", [1, 3, 8, 37])
def test_softmax(tmp_path: Path, channels: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, channels, 3, 10)).astype(np.float32) * 30
    net = Builder(0, x.shape[1:])
    of_pixels = net.node("softmax", ["input"])
    of_vector = net.node("softmax", [net.node("global_avg_pool", ["input"])])
    found = both(tmp_path, net, of_vector, x)
    wide = torch.from_numpy(x).double()
    np.testing.assert_allclose(found[of_pixels], wide.softmax(1).numpy(), rtol=1e-6, atol=1e-38)
    expected = wide.mean((2, 3)).float().double().softmax(1).numpy()
    np.testing.assert_allclose(found[of_vector], expected, rtol=1e-5, atol=1e-38)
    large = np.full_like(x, 3e38) * np.where(np.arange(channels) % 2, -1, 1)[:, None, None].astype(np.float32)
    assert np.allclose(both(tmp_path, net, of_pixels, large)[of_pixels].sum(1), 1)


@pytest.mark.parametrize("eps", [1e-6, 1e-3, 2])
@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (12, 1), (12, 4), (12, 12), (40, 5)])
def test_normalisations(tmp_path: Path, channels: int, groups: int, eps: float) -> None:
    """Of maps whose rows are computed one by one or by several threads, of values far from 0, and where none varies."""
    net = Builder(channels + groups, (channels, 5, 19))
    x = net.floats(3, channels, 5, 19) * 4 - 50
    x[2] = -7
    scale, bias = params = net.floats(2, channels)
    layer = net.node("layer_norm", ["input"], {"channels": params}, eps=eps)
    group = net.node("group_norm", ["input"], {"channels": params}, eps=eps, groups=groups)
    mean = net.node("global_avg_pool", [net.step("relu", net.node("add", [layer, group]), channels)])
    vector = net.node("layer_norm", [mean], {"channels": params}, eps=eps)
    found = both(tmp_path, net, vector, x)
    wide, weight, shift = (torch.from_numpy(a).double() for a in (x, scale, bias))
    expected = F.group_norm(wide, groups, weight, shift, eps).numpy()
    np.testing.assert_allclose(found[group], expected, rtol=1e-6, atol=2e-6)
    expected = F.layer_norm(wide.movedim(1, -1), (channels,), weight, shift, eps).movedim(-1, 1).numpy()
    np.testing.assert_allclose(found[layer], expected, rtol=1e-6, atol=2e-6)
    means = torch.from_numpy(found[mean]).double()
    expected = F.layer_norm(means, (channels,), weight, shift, eps).numpy()
    np.testing.assert_allclose(found[vector], expected, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("channels", [1, 7, 40])
def test_l2_norm_is_pytorchs(tmp_path: Path, channels: int) -> None:
    """Of pixels of all lengths, of one that is 0, of more columns than are summed together, and of a vector."""
    net = Builder(channels, (channels, 5, 19))
    x = net.floats(3, channels, 5, 19) * np.float32(10) ** net.random.integers(-20, 20, (3, 1, 5, 19)).astype(
        np.float32
    )
    x[0, :, 2, 3] = 0
    (scale,) = params = net.floats(1, channels)
    norm = net.node("l2_norm", ["input"], {"channels": params})
    vector = net.node("l2_norm", [net.node("global_avg_pool", [norm])], {"channels": params})
    found = both(tmp_path, net, vector, x)
    for name, source in ((norm, x), (vector, found["global_avg_pool1"])):
        weight = torch.from_numpy(scale).double().reshape(-1, *[1] * (source.ndim - 2))
        expected = F.normalize(torch.from_numpy(source).double(), dim=1) * weight
        np.testing.assert_allclose(found[name], expected.numpy(), rtol=1e-6, atol=1e-30)


def test_products(tmp_path: Path) -> None:
    """A map with a map, a row, a column, a channel, a number of its own, or a vector; vectors; the same value twice."""
    net = Builder(0, (10, 4, 7))
    x = net.floats(2, 10, 4, 7)
    one = net.conv("input", 10, 1, 1)
    whole = {"stride": [1, 1], "kernel": [4, 1]}
    row = net.node("max_pool", ["input"], kernel=[4, 1], stride=[1, 1])
    column = net.node("max_pool", ["input"], kernel=[1, 7], stride=[1, 1])
    single = net.conv(row, 10, 1, (1, 7))
    vector = net.node("global_avg_pool", ["input"])
    first = net.node("linear", [vector], {"weight": net.floats(1, 10)})
    narrow = net.node("max_pool", [one], **whole)  # (1, 7, 1)
    others = ["input", one, row, column, single, vector, first, narrow]
    products = [net.node("multiply", ["input", other]) for other in others]
    of_vectors = [net.node("multiply", [vector, vector]), net.node("multiply", [vector, first])]
    total = products[0]
    for product in products[1:]:
        total = net.node("add", [total, product])
    found = both(tmp_path, net, total, x) | {"input": x}
    for name, other in zip(products, others):
        factor = found[other] if found[other].ndim == 4 else found[other][:, :, None, None]
        np.testing.assert_array_equal(found[name], x * factor, err_msg=other)
    for name, other in zip(of_vectors, (vector, first)):
        np.testing.assert_array_equal(found[name], found[vector] * found[other])


def test_squeeze_and_excite(tmp_path: Path) -> None:
    """As mobile networks have it, a convolution behind it; the gate comes from the map that it multiplies."""
    net = Builder(1, (3, 9, 8))
    x = net.node("hardswish", [net.conv("input", 3, 24, padding=[1, 1])])
    gate = net.step("relu", net.node("linear", [net.node("global_avg_pool", [x])], {"weight": net.floats(8, 24)}), 8)
    gate = net.node("hardsigmoid", [net.node("linear", [gate], {"weight": net.floats(24, 8)})])
    y = net.binary_conv(net.node("multiply", [x, gate]), 24, 24, padding=[1, 1])
    both(tmp_path, net, net.norm("group_norm", net.node("add", [y, x]), 24, 6), net.floats(3, 3, 9, 8))
