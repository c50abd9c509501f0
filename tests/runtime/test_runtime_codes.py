"""Layers whose values and weights both have 8 bits: what they compute, on every instruction set, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nets import Builder
from onebit.runtime import code_conv, load, native
from onebit.runtime import format as file_format
from test_runtime_hostile import Parts, accept, refuse_changed, tensor
from test_runtime_hostile_moves import of
from test_runtime_hostile_several import raw

ISAS = native.supported() if native.available() else ()


def codes(net: Builder, *shape: int) -> dict[str, np.ndarray]:
    """A weight (O, ...) in 8 bits, one in two with a bias."""
    weight = net.random.integers(-128, 128, shape).astype(np.int8)
    bias = {"bias": net.floats(shape[0])} if net.random.integers(2) else {}
    return {"weight": weight, "weight_scale": net.floats(shape[0]) / 128, **bias}


def random_codes(seed: int) -> tuple[dict[str, Any], Builder]:
    """Convolutions of maps or sequences, fused with sums and ReLU or not, a map that both floats and codes are read from, and
    linear layers, of one input of floats or an image."""
    random = np.random.default_rng(seed)
    channels = int(random.choice([1, 3, 4, 5, 16, 18, 64, 130]))
    height, width = int(random.integers(3, 14)), int(random.choice([1, 4, 9, 30, 70]))
    net = Builder(seed, (channels, height, width))
    x = "input"
    for _ in range(3):
        out = int(random.choice([1, 5, 16, 17, 33, 64, 70, 130]))
        window: dict[str, Any] = {}
        kernel = (1, 1)
        if random.integers(3):
            kernel = (int(random.integers(1, 4)), int(random.integers(1, 4 if width > 1 else 2)))
            padding = [1 + int(random.integers(k)) for k in kernel]
            window = {"stride": random.integers(1, 3, 2).tolist(), "padding": padding}
            window["dilation"] = random.integers(1, 3, 2).tolist() if width > 4 and height > 8 else [1, 1]
        y = net.node("conv", [x], codes(net, out, channels, *kernel), activations="int8", **window)
        if random.integers(2):
            other = codes(net, out, channels, *kernel)
            of_floats = {"weight": net.floats(out, channels, *kernel)}
            eight = bool(random.integers(2))
            z = net.node(
                "conv", [x], other if eight else of_floats, **window, **({"activations": "int8"} if eight else {})
            )
            y = net.node("add", [y, z])
        x, channels = net.node("relu", [y]) if random.integers(2) else y, out
    vector = net.node("global_avg_pool", [x])
    for out in (70, 3):
        vector = net.node("linear", [vector], codes(net, out, channels), activations="int8")
        channels = out
    return net.graph(vector, map=x), net


@pytest.mark.skipif(not ISAS, reason="the engine is not built")
@pytest.mark.parametrize("seed", range(30))
def test_the_engine_equals_the_reference(tmp_path: Path, seed: int) -> None:
    """To the bit, also of magnitudes below those that count, and of images of bytes, which are normalised first."""
    graph, net = random_codes(seed)
    try:
        file_format.write(tmp_path / "net", graph, net.tensors)
    except file_format.FormatError as error:
        assert "too small" in str(error)
        pytest.skip("drawn too small")
    random = np.random.default_rng(seed)
    images = (random.normal(size=(3, *net.shape)) * 10.0 ** random.integers(-38, 3)).astype(np.float32)
    channels, height, width = net.shape
    pixels = random.integers(0, 256, (2, height, width, channels), dtype=np.uint8)
    reference = load(tmp_path / "net", backend="reference")
    expected, traced, of_bytes = reference(images), reference.trace(images), reference(pixels)
    for isa in ISAS:
        for threads in (1, 2):
            model = load(tmp_path / "net", isa=isa, threads=threads)
            found, alone, trace, bytes_ = model(images), model(images[:1]), model.trace(images), model(pixels)
            for name, value in expected.items():
                np.testing.assert_array_equal(found[name], value, err_msg=f"{isa}, {threads} threads: {name}")
                np.testing.assert_array_equal(alone[name], value[:1])
                np.testing.assert_array_equal(bytes_[name], of_bytes[name])
            assert trace.keys() == traced.keys()
            for name, value in traced.items():
                np.testing.assert_array_equal(trace[name], value, err_msg=f"{isa}, {threads} threads: {name}")


def test_pixels_are_rounded_by_their_own_magnitude() -> None:
    """Half a step at most; the largest is exact; halves go to the even code; what is below 2^-100 is 0 of the least scale."""
    x = np.random.default_rng(0).normal(size=(50, 9)).astype(np.float32) * np.float32(10) ** np.arange(-20, 30)[:, None]
    x = x.astype(np.float32)
    found, scale = code_conv.quantized(x)
    assert scale.dtype == np.float32 and scale.shape == (50, 1) and (np.abs(found).max(1) == 127).all()
    assert (np.abs(found * scale - x) <= 0.50001 * scale).all()
    np.testing.assert_array_equal(
        code_conv.quantized(np.float32([[127, 0.5, 1.5, 2.5, -0.5, -1.5]]))[0], [[127, 0, 2, 2, 0, -2]]
    )
    found, scale = code_conv.quantized(np.float32([[0, 0], [1e-38, -1e-38], [2**-101, -(2**-102)]]))
    np.testing.assert_array_equal(found, [[0, 0], [0, 0], [64, -32]])
    assert (scale == np.float32(2**-100) / np.float32(127)).all()
    largest = np.finfo(np.float32).max
    np.testing.assert_array_equal(code_conv.quantized(np.float32([[largest, -largest, 1]]))[0], [[127, -127, 0]])


def test_the_layer_computes_the_formula(tmp_path: Path) -> None:
    """In float64, within rounding: padded taps contribute 0, and the result is near the layer's of floats."""
    net = Builder(1, (6, 5, 7))
    stored = codes(net, 4, 6, 3, 2) | {"bias": net.floats(4)}
    name = net.node("conv", ["input"], stored, padding=[1, 1], stride=[2, 1], activations="int8")
    graph = net.graph(name)
    file_format.write(tmp_path / "net", graph, net.tensors)
    x = net.floats(2, 6, 5, 7)
    weight = stored["weight_scale"].astype(np.float64)[:, None, None, None] * stored["weight"]
    step = np.abs(x).max(1, keepdims=True).astype(np.float64) / 127
    padded = np.pad(np.rint(x / step) * step, ((0, 0), (0, 0), (1, 1), (1, 1)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (3, 2), (2, 3))[:, :, ::2]  # (B, I, OH, OW, KH, KW)
    expected = np.einsum("bihwkl,oikl->bohw", views, weight) + stored["bias"][:, None, None]
    found = load(tmp_path / "net", backend="reference")(x)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    del graph["nodes"][0]["activations"]
    file_format.write(tmp_path / "floats", graph, net.tensors)
    floats = load(tmp_path / "floats", backend="reference")(x)
    assert 0 < np.abs(floats - found).max() < 0.02 * np.abs(floats).max()


def parts() -> Parts:
    """A valid network: convolutions "c" and, of groups, "g", and linear "l" of a mean, all in 8 bits."""
    net = Builder(0, (4, 3, 2))
    net.nodes = [
        {"op": "conv", "name": "c", "inputs": ["input"], "activations": "int8", "padding": [1, 1]},
        {"op": "conv", "name": "g", "inputs": ["c"], "groups": 2},
        {"op": "global_avg_pool", "name": "m", "inputs": ["g"]},
        {"op": "linear", "name": "l", "inputs": ["m"], "activations": "int8"},
    ]
    for name, shape in {"c": (6, 4, 3, 3), "g": (6, 3, 1, 1), "l": (3, 6)}.items():
        net.tensors |= {f"{name}.{what}": array for what, array in codes(net, *shape).items()}
    return net.graph("l"), net.tensors


def floats(name: str) -> Callable[[Parts], Any]:
    """The layer with a float weight."""

    def change(source: Parts) -> None:
        source[1][f"{name}.weight"] = source[1][f"{name}.weight"].astype(np.float32)
        del source[1][f"{name}.weight_scale"]

    return change


MUTATIONS: dict[str, tuple[Callable[[Parts], Any], str]] = {
    "activations of 4 bits": (of("c", activations="int4"), "activations must be one of float, int8"),
    "activations a number": (of("c", activations=8), "activations must be one of float, int8"),
    "activations null": (
        lambda p: p[0]["nodes"][0].update(activations=None),
        "activations must be one of float, int8",
    ),
    "activations of a linear": (of("l", activations="INT8"), "activations must be one of float, int8"),
    "activations of a mean": (of("m", activations="int8"), "unknown key 'activations'"),
    "codes of groups": (of("g", activations="int8"), "need groups 1, got 2"),
    "codes of a float weight": (floats("c"), "'c'.*need a weight in I8"),
    "codes of a float matrix": (floats("l"), "'l'.*need a weight in I8"),
    "codes without scales": (lambda p: p[1].pop("c.weight_scale"), "c.weight_scale is missing"),
    "codes of other channels": (tensor("c.weight", lambda a: a[:, :3]), "weight has 3 input channels"),
}


def test_the_unchanged_file_is_accepted(tmp_path: Path) -> None:
    accept(tmp_path, raw(*parts()))
    source = parts()
    of("c", activations="float")(source)
    floats("c")(source)
    accept(tmp_path, raw(*source))


@pytest.mark.parametrize("name", MUTATIONS)
def test_hostile_graphs(tmp_path: Path, name: str) -> None:
    refuse_changed(tmp_path, raw, parts(), MUTATIONS[name])


def test_too_many_channels(tmp_path: Path) -> None:
    """Of which sums would not fit 32 bits; as many as fit are exact."""
    graph = Builder(0, (1, 1, 1)).graph("l")
    graph["nodes"] = [{"op": "linear", "name": "l", "inputs": ["x"], "activations": "int8"}]
    for size in (2**16 + 1, 2**16):
        graph["inputs"] = [{"name": "x", "type": "floats", "shape": [size]}]
        tensors = {"l.weight": np.full((2, size), -128, np.int8), "l.weight_scale": np.ones(2, np.float32)}
        if size > 2**16:
            change = (lambda p: None, "at most 65536 channels, got 65537")
            refuse_changed(tmp_path, raw, (graph, tensors), change)
    file_format.write(tmp_path / "net", graph, tensors)
    x = np.full((1, size), 127, np.float32)
    for backend in ("reference", *(["engine"] if ISAS else [])):
        np.testing.assert_array_equal(load(tmp_path / "net", backend=backend)(x), [[-(2.0**16) * 127 * 128] * 2])
