"""The oracle against an independent float64 convolution, and against PyTorch where it is installed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nets import Builder
from onebit.runtime import bits, load
from onebit.runtime import format as file_format
from onebit.runtime.fields import number
from onebit.runtime.graph import Attribute
from onebit.runtime.operators import OPERATORS, Operator

WINDOWS = [
    {"padding": [1, 1]},
    {"padding": [1, 2], "stride": [2, 1]},
    {"padding": [2, 2], "dilation": [2, 2]},
    {"padding": [3, 1], "stride": [3, 2], "dilation": [1, 2]},
    {},
]


def trace(tmp_path: Path, net: Builder, output: str, images: np.ndarray) -> dict[str, np.ndarray]:
    path = tmp_path / "net.onebit"
    file_format.write(path, net.graph(output), net.tensors)
    return load(path, backend="reference").trace(images)


def convolve(a: np.ndarray, w: np.ndarray, stride: Any, padding: Any, dilation: Any, groups: int) -> np.ndarray:
    """Plain loops in float64 over (B, I, H, W) and (O, I/g, KH, KW); a padded tap is skipped."""
    (b, _, h, width), (out, group_in, kh, kw) = a.shape, w.shape
    oh = (h + 2 * padding[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    ow = (width + 2 * padding[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.zeros((b, out, oh, ow))
    for o in range(out):
        group = o // (out // groups)
        inputs = a[:, group * group_in : (group + 1) * group_in]
        for r, c, i, j in np.ndindex(oh, ow, kh, kw):
            row, column = r * stride[0] - padding[0] + i * dilation[0], c * stride[1] - padding[1] + j * dilation[1]
            if 0 <= row < h and 0 <= column < width:
                y[:, o, r, c] += inputs[:, :, row, column] @ w[o, :, i, j]
    return y


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("threshold", [0, 0.37, "sample_mean", "channel"])
@pytest.mark.parametrize(("shift", "rows"), [(0, 2), (0.6, 2), (0, 3), (-1.25, 3)])
def test_binary_conv(
    tmp_path: Path, window: dict[str, Any], groups: int, threshold: float | str, shift: float, rows: int
) -> None:
    net = Builder(1, (6, 7, 5))
    name = net.binary_conv("input", 6, 4, 3, rows, groups=groups, shift=shift, threshold=threshold, **window)
    x = net.floats(2, 6, 7, 5)
    values = trace(tmp_path, net, name, x)

    levels: Any = threshold
    if threshold == "sample_mean":
        levels = x.astype(np.float64).mean(axis=(1, 2, 3), keepdims=True).astype(np.float32)
    elif threshold == "channel":
        levels = net.tensors[f"{name}.threshold"][:, None, None]
    a = np.where(x >= np.asarray(levels, np.float32), 1.0, -1.0)
    b = bits.unpack_weight(net.tensors[f"{name}.bits"], 6 // groups, (3, 3)).astype(np.float64)
    scale, bias, *offset = net.tensors[f"{name}.channels"].astype(np.float64)
    w = scale[:, None, None, None] * b + (offset[0][:, None, None, None] if offset else 0)
    full = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], **window}
    assert np.array_equal(values[f"{name}:accumulator"], convolve(a, b, groups=groups, **full))
    assert values[f"{name}:accumulator"].dtype == np.int32
    expected = convolve(a + shift, w, groups=groups, **full) + bias[:, None, None]
    np.testing.assert_allclose(values[name], expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 63, 64, 65, 130])
def test_binary_linear(tmp_path: Path, channels: int) -> None:
    net = Builder(2, (channels, 1, 1))
    weight = net.floats(5, channels)
    flat = net.node("flatten", ["input"])
    name = net.node("binary_linear", [flat], {"bits": bits.pack(weight), "channels": net.floats(3, 5)}, shift=0.5)
    x = net.floats(3, channels, 1, 1)
    values = trace(tmp_path, net, name, x)
    a = np.sign(x[:, :, 0, 0])
    assert np.array_equal(values[f"{name}:accumulator"], a @ np.sign(weight).T)
    scale, bias, offset = net.tensors[f"{name}.channels"].astype(np.float64)
    expected = (a + 0.5) @ (scale[:, None] * np.sign(weight) + offset[:, None]).T + bias
    np.testing.assert_allclose(values[name], expected, rtol=1e-5, atol=1e-4)


def test_a_value_at_the_threshold_is_plus_one(tmp_path: Path) -> None:
    net = Builder(3, (1, 1, 4))
    name = net.binary_conv("input", 1, 1, 1)
    net.tensors[f"{name}.bits"][:] = 0
    x = np.array([0.0, -0.0, 1e-45, -1e-45], np.float32).reshape(1, 1, 1, 4)
    assert trace(tmp_path, net, name, x)[f"{name}:accumulator"].ravel().tolist() == [1, 1, 1, -1]


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [((2, 2), (2, 2), (0, 0)), ((3, 2), (2, 3), (1, 1))])
def test_pools_equal_pytorch(tmp_path: Path, kernel: Any, stride: Any, padding: Any, ceil_mode: bool) -> None:
    functional = pytest.importorskip("torch.nn.functional")
    import torch

    net = Builder(4, (3, 11, 8))
    pool = {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    names = [
        net.node("max_pool", ["input"], **pool),
        net.node("avg_pool", ["input"], **pool),
        net.node("avg_pool", ["input"], **pool, count_include_pad=False),
    ]
    x = net.floats(2, 3, 11, 8)
    values = trace(tmp_path, net, names[0], x)
    t = torch.from_numpy(x)
    window = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    assert np.array_equal(values[names[0]], functional.max_pool2d(t, kernel, **window).numpy())
    for name, include in zip(names[1:], (True, False)):
        expected = functional.avg_pool2d(t, kernel, **window, count_include_pad=include).numpy()
        np.testing.assert_allclose(values[name], expected, rtol=1e-6, atol=1e-6)


def test_float_operators(tmp_path: Path) -> None:
    net = Builder(5, (4, 5, 6))
    x = net.floats(2, 4, 5, 6)
    p = {name: net.floats(rows, 4) for name, rows in (("affine", 2), ("rprelu", 3), ("maxout", 2))}
    p["prelu"] = net.floats(4)
    names = {op: net.node(op, ["input"], {"slope" if op == "prelu" else "channels": v}) for op, v in p.items()}
    names |= {op: net.node(op, ["input"]) for op in ("relu", "hardtanh", "global_avg_pool", "flatten")}
    names["add"] = net.node("add", ["input", names["relu"]])
    names["concat"] = net.node("concat", [names["relu"], "input"])
    names["option_a"] = net.node("option_a", ["input"], stride=2, pad=[1, 3])
    names["conv"] = net.conv("input", 4, 6, 3, groups=2, padding=[1, 0], stride=[2, 1])
    values = trace(tmp_path, net, names["add"], x)

    def channel(row: np.ndarray) -> np.ndarray:
        return row[:, None, None].astype(np.float64)

    def prelu(z: np.ndarray, slope: np.ndarray) -> np.ndarray:
        return np.maximum(z, 0) + channel(slope) * np.minimum(z, 0)

    z = x.astype(np.float64)
    shortcut = np.zeros((2, 8, 3, 3))
    shortcut[:, 1:5] = z[:, :, ::2, ::2]
    expected = {
        "affine": channel(p["affine"][0]) * z + channel(p["affine"][1]),
        "prelu": prelu(z, p["prelu"]),
        "rprelu": prelu(z + channel(p["rprelu"][0]), p["rprelu"][1]) + channel(p["rprelu"][2]),
        "maxout": channel(p["maxout"][0]) * np.maximum(z, 0) + channel(p["maxout"][1]) * np.minimum(z, 0),
        "relu": np.maximum(z, 0),
        "hardtanh": np.clip(z, -1, 1),
        "global_avg_pool": z.mean(axis=(2, 3)),
        "flatten": z.transpose(0, 2, 3, 1).reshape(2, -1),
        "add": z + np.maximum(z, 0),
        "concat": np.concatenate([np.maximum(z, 0), z], axis=1),
        "option_a": shortcut,
        "conv": convolve(z, net.tensors[f"{names['conv']}.weight"].astype(np.float64), (2, 1), (1, 0), (1, 1), 2),
    }
    for op, value in expected.items():
        np.testing.assert_allclose(values[names[op]], value, rtol=1e-5, atol=1e-5, err_msg=op)


@pytest.mark.parametrize("eight_bits", [False, True])
def test_embedding(tmp_path: Path, eight_bits: bool) -> None:
    """Each token's row, for any number of tokens; rows in 8 bits have a scale each."""
    net = Builder(6, (1, 2, 2))
    weight = net.floats(7, 3)
    stored = {"weight": weight}
    if eight_bits:
        stored = {"weight": net.random.integers(-128, 128, (7, 3)).astype(np.int8), "weight_scale": net.floats(7)}
        weight = stored["weight_scale"][:, None] * stored["weight"].astype(np.float32)
    words = net.node("embedding", ["ids"], stored)
    graph = net.graph(words)
    graph["inputs"] = [{"name": "ids", "type": "tokens", "length": 4, "count": 7}]
    file_format.write(tmp_path / "net", graph, net.tensors)
    model = load(tmp_path / "net", backend="reference")
    for length in (1, 4, 9):
        ids = net.random.integers(0, 7, (2, length))
        assert np.array_equal(model(ids), weight[ids].transpose(0, 2, 1)[..., None])  # (B, C, T, 1)


def test_a_new_operator_is_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the reader, the writer and the reference then have."""
    scale = Attribute(number, 1.0)
    row = Operator(
        1, lambda node, inputs, tensors: inputs[0], lambda node, tensors, x: node["scale"] * x * x, {"scale": scale}
    )
    monkeypatch.setitem(OPERATORS, "square", row)
    net = Builder(7, (2, 3, 4))
    graph = net.graph(net.node("square", ["input"], scale=2))
    file_format.write(tmp_path / "net", graph, {})
    model, x = load(tmp_path / "net", backend="reference"), net.floats(1, 2, 3, 4)
    assert np.array_equal(model(x), 2 * x * x) and model.graph["nodes"][0]["scale"] == 2
