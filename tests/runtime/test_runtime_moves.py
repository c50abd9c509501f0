"""Operators that move values, constants, upsampling, transposed convolutions and attention: the engine equals the reference to
the bit, and the reference PyTorch's functions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nets import Builder, moving_net
from onebit.errors import UserError
from onebit.runtime import format as file_format
from onebit.runtime import load
from test_runtime_engine import isas


def check(path: Path, isa: str, *images: np.ndarray, **named: np.ndarray) -> None:
    """To the bit, the sign of zero included."""
    reference = load(path, backend="reference")
    expected, outputs = reference.trace(*images, **named), reference.graph["outputs"]
    for threads in (1, 2):
        model = load(path, isa=isa, threads=threads)
        traced, found = model.trace(*images, **named), model(*images, **named)
        run = found if isinstance(found, dict) else {outputs[0]["name"]: found}
        assert traced.keys() == expected.keys() and list(run) == [output["name"] for output in outputs]
        for name, value in (*traced.items(), *((output["node"], run[output["name"]]) for output in outputs)):
            assert value.shape == expected[name].shape
            np.testing.assert_array_equal(
                value.view(np.int32), expected[name].view(np.int32), err_msg=f"{isa}, {threads} threads: {name}"
            )


@isas
@pytest.mark.parametrize("seed", range(16))
def test_random_networks(tmp_path: Path, isa: str, seed: int) -> None:
    graph, tensors = moving_net(seed)
    file_format.write(tmp_path / "net.onebit", graph, tensors)
    images = np.random.default_rng(seed).normal(size=(3 if seed % 2 else 1, *graph["inputs"][0]["shape"]))
    check(tmp_path / "net.onebit", isa, images.astype(np.float32))


def traced(tmp_path: Path, net: Builder, x: np.ndarray) -> dict[str, np.ndarray]:
    """All values by the reference, as PyTorch has them: (B, C, H, W)."""
    file_format.write(tmp_path / "net", net.graph(net.nodes[-1]["name"]), net.tensors)
    return load(tmp_path / "net", backend="reference").trace(x)


def test_what_is_moved_is_as_pytorch_has_it(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    net, x = Builder(0, (6, 7, 5)), Builder(1, (6, 7, 5)).floats(2, 6, 7, 5)
    t, z = torch.from_numpy(x), torch.from_numpy(net.floats(3, 2, 6))
    constant = net.node("constant", [], {"value": z.numpy()})
    flat = net.node("flatten", ["input"])
    padded = {
        mode: net.node("pad", ["input"], pixels=[3, 6, 4, 1], mode=mode)
        for mode in ("zeros", "reflect", "replicate", "circular")
    }
    expected = {
        constant: z.permute(2, 0, 1).expand(2, -1, -1, -1),
        net.node("concat", ["input", "input"]): torch.cat([t, t], 1),
        flat: t.permute(0, 2, 3, 1).flatten(1),
        net.node("slice", ["input"], axis="channels", start=1, stop=6, step=2): t[:, 1:6:2],
        net.node("slice", ["input"], axis="height", start=0, stop=7, step=3): t[:, :, 0:7:3],
        net.node("slice", ["input"], axis="width", start=4, stop=5): t[..., 4:5],
        net.node("slice", [flat], axis="channels", start=7, stop=200, step=9): t.permute(0, 2, 3, 1).flatten(1)[
            :, 7:200:9
        ],
        net.node("channel_shuffle", ["input"], groups=2): torch.nn.ChannelShuffle(2)(t),
        net.node("channel_shuffle", ["input"], groups=3): torch.nn.ChannelShuffle(3)(t),
        net.node("to_sequence", ["input"]): t.flatten(2)[..., None],  # (B, C, H·W, 1)
        net.node("to_sequence", ["input"], parts=3): t.permute(0, 2, 3, 1).reshape(2, -1, 2).mT[..., None],
    }
    for mode, name in padded.items():
        mode = "constant" if mode == "zeros" else mode
        expected[name] = torch.nn.functional.pad(t, (4, 1, 3, 6), mode)  # left, right, top, bottom
    tall = net.node("slice", ["input"], axis="height", start=2, stop=4)
    expected[net.node("concat", [tall, "input"], axis="height")] = torch.cat([t[:, :, 2:4], t], 2)
    narrow = net.node("slice", ["input"], axis="width", start=0, stop=2)
    expected[net.node("concat", ["input", narrow], axis="width")] = torch.cat([t, t[..., :2]], 3)
    values = traced(tmp_path, net, x)
    for name, value in expected.items():
        assert np.array_equal(values[name], value.numpy()), name


@pytest.mark.parametrize("scale", [(1, 2), (3, 2), (4, 5)])
def test_upsampling_equals_pytorch(tmp_path: Path, scale: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    net = Builder(0, (3, 6, 5))
    x = net.floats(2, 3, 6, 5)
    t = torch.from_numpy(x).double()  # of float32 PyTorch rounds positions, too
    names = {
        net.node("upsample", ["input"], scale=list(scale), mode=mode, align_corners=align): (mode, align)
        for mode, align in (("nearest", False), ("bilinear", False), ("bilinear", True))
    }
    values = traced(tmp_path, net, x)
    for name, (mode, align) in names.items():
        expected = torch.nn.functional.interpolate(
            t, scale_factor=scale, mode=mode, align_corners=align if mode == "bilinear" else None
        )
        np.testing.assert_allclose(values[name], expected.numpy(), rtol=1e-6, atol=3e-7)


TRANSPOSED: list[dict[str, Any]] = [
    {},
    {"stride": [2, 2]},
    {"stride": [2, 3], "padding": [1, 2], "output_padding": [1, 0]},
    {"stride": [4, 3], "dilation": [2, 3], "padding": [0, 1], "output_padding": [3, 2]},
    {"stride": [1, 2], "dilation": [3, 1], "padding": [4, 0], "output_padding": [2, 0], "groups": 2},
    {"stride": [5, 2], "padding": [1, 1], "groups": 4},
]


@pytest.mark.parametrize("window", TRANSPOSED)
@pytest.mark.parametrize("kernel", [(1, 1), (3, 4), (2, 5)])
def test_transposed_convolutions_equal_pytorch(tmp_path: Path, window: dict[str, Any], kernel: tuple[int, int]) -> None:
    """Whose weight (I, O/g, KH, KW) is that of the ordinary convolution with in and out swapped, and turned around."""
    torch = pytest.importorskip("torch")
    window = dict(window)
    if kernel == (1, 1):
        window["padding"] = [0, 0]
    net, groups = Builder(0, (4, 6, 7)), window.get("groups", 1)
    x, weight = net.floats(2, 4, 6, 7), net.floats(8, 4 // groups, *kernel)
    name = net.node("transposed_conv", ["input"], {"weight": weight, "bias": net.floats(8)}, **window)
    values = traced(tmp_path, net, x)
    theirs = torch.from_numpy(weight).double().unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1).flip(2, 3)
    options = {key: window[key] for key in ("stride", "padding", "output_padding", "dilation") if key in window}
    expected = torch.nn.functional.conv_transpose2d(
        torch.from_numpy(x).double(),
        theirs,
        torch.from_numpy(net.tensors[f"{name}.bias"]).double(),
        groups=groups,
        **options,
    ).numpy()
    np.testing.assert_allclose(values[name], expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize(("heads", "length"), [(1, 5), (3, 5), (6, 1)])
def test_attention_equals_pytorch(tmp_path: Path, heads: int, length: int) -> None:
    torch = pytest.importorskip("torch")
    net = Builder(0, (12, 9, 1))
    x, k, v = net.floats(2, 12, 9, 1), net.floats(length, 1, 12), net.floats(length, 1, 18)
    names = [net.node("constant", [], {"value": value}) for value in (k, v)]
    name = net.node("attention", ["input", *names], heads=heads, scale=0.3)
    values = traced(tmp_path, net, x)
    q, k, v = (
        torch.from_numpy(y)
        .double()
        .expand(2, -1, -1)
        .unflatten(2, (heads, -1))
        .transpose(1, 2)  # (B, heads, T, C / heads)
        for y in (x[..., 0].transpose(0, 2, 1), k[:, 0], v[:, 0])
    )
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=0.3).transpose(1, 2).flatten(2)
    np.testing.assert_allclose(values[name][..., 0].transpose(0, 2, 1), expected.numpy(), rtol=1e-6, atol=1e-6)


@isas
def test_long_sequences(tmp_path: Path, isa: str) -> None:
    """More queries and keys than a tile has, of another number than a register's; scores that are far apart."""
    net = Builder(0, (5, 10, 13))
    x = net.node("to_sequence", ["input"])
    q, k, v = net.conv(x, 5, 34, 1), net.conv(x, 5, 34, 1), net.conv(x, 5, 38, 1)
    y = net.node("relu", [net.node("attention", [q, k, v], heads=2, scale=9)])
    y = net.node("add", [net.conv(y, 38, 38, 1), net.conv(v, 38, 38, 1, groups=2)])
    net.node("rprelu", [net.binary_conv(net.conv(y, 38, 9, 1), 9, 5, 1)], {"channels": net.floats(3, 5)})
    file_format.write(tmp_path / "net", net.graph(net.nodes[-1]["name"]), net.tensors)
    check(tmp_path / "net", isa, net.floats(2, 5, 10, 13))


def test_other_sizes_of_a_call(tmp_path: Path) -> None:
    """What a smaller image lacks is refused in one line, by both."""
    for op, message, attributes in (
        ("slice", "beyond the size", {"axis": "height", "start": 1, "stop": 6}),
        ("pad", "at most|more pixels", {"pixels": [3, 0, 0, 0], "mode": "reflect"}),
        ("pad", "at most|more pixels", {"pixels": [0, 0, 0, 4], "mode": "circular"}),
    ):
        net = Builder(0, (2, 6, 6))
        file_format.write(tmp_path / "net", net.graph(net.node(op, ["input"], **attributes)), {})
        answers = []
        for backend in ("reference", "engine"):
            model = load(tmp_path / "net", backend=backend)
            answers.append(model(np.ones((1, 2, 9, 7), np.float32)))
            with pytest.raises(UserError, match=message):
                model(np.ones((1, 2, 3, 3), np.float32))
        assert np.array_equal(*answers)


def test_a_constant_of_one_size_does_not_fit_another(tmp_path: Path) -> None:
    net = Builder(0, (2, 4, 4))
    constant = net.node("constant", [], {"value": net.floats(4, 4, 2)})
    file_format.write(tmp_path / "net", net.graph(net.node("add", ["input", constant])), net.tensors)
    for backend in ("reference", "engine"):
        model = load(tmp_path / "net", backend=backend)
        assert model(np.zeros((3, 2, 4, 4), np.float32)).shape == (3, 2, 4, 4)
        with pytest.raises(UserError, match="shapes"):
            model(np.ones((1, 2, 5, 4), np.float32))
