"""The engine equals the reference to the bit, on every instruction set and for any number of threads."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nets import Builder, random_net, resnet20
from onebit.errors import UserError
from onebit.runtime import format as file_format
from onebit.runtime import load, native
from onebit.runtime.model import Model

if not native.available():
    pytest.skip("the engine is not built", allow_module_level=True)
from onebit.runtime import _engine

LEVELS = native.ISAS
SUPPORTED = native.supported()
KERNELS = ("pack", "count", "multiply", "depthwise", "steps", "bytes", "codes")
isas = pytest.mark.parametrize("isa", SUPPORTED)


def check(path: Path, isa: str, images: np.ndarray) -> None:
    expected = load(path, backend="reference").trace(images)
    for threads in (1, 2):
        model = load(path, isa=isa, threads=threads)
        values = model.trace(images)
        assert values.keys() == expected.keys()
        for name, value in expected.items():
            assert values[name].dtype == value.dtype
            np.testing.assert_array_equal(values[name], value, err_msg=f"{isa}, {threads} threads: {name}")
        output = model.graph["outputs"][0]["node"]
        np.testing.assert_array_equal(model(images), expected[output], err_msg="fused")


@isas
@pytest.mark.parametrize("seed", range(40))
def test_random_networks(tmp_path: Path, isa: str, seed: int) -> None:
    graph, tensors = random_net(seed)
    file_format.write(tmp_path / "net.onebit", graph, tensors)
    images = np.random.default_rng(seed).normal(size=(2 if seed % 2 else 1, *graph["inputs"][0]["shape"]))
    check(tmp_path / "net.onebit", isa, images.astype(np.float32))


@isas
def test_resnet20(tmp_path: Path, isa: str) -> None:
    graph, tensors = resnet20()
    file_format.write(tmp_path / "net.onebit", graph, tensors)
    images = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    check(tmp_path / "net.onebit", isa, images)


@isas
@pytest.mark.parametrize("seed", range(12))
def test_convolutions_of_groups(tmp_path: Path, isa: str, seed: int) -> None:
    """Depth-wise ones, with one filter a channel and with several, and others; rows of more than one tile."""
    random = np.random.default_rng(seed)
    size = (int(random.integers(3, 12)), int(random.choice([5, 17, 60])))
    channels = int(random.choice([2, 6, 16, 58, 70]))
    net = Builder(seed, (3, *size))
    x = net.conv("input", 3, channels, 1)

    def window() -> dict[str, Any]:
        dilation, stride = random.integers(1, 3, (2, 2)).tolist()
        return {"stride": stride, "dilation": dilation, "padding": random.integers(2, 5, 2).tolist()}

    for filters in (1, int(random.integers(2, 4))):
        kernel = (int(random.integers(1, 4)), int(random.integers(1, 6)))
        y = net.conv(x, channels, filters * channels, kernel, groups=channels, **window())
        x, channels = net.node("prelu", [y], {"slope": net.floats(filters * channels)}), filters * channels
    y = net.conv(x, channels, channels, 3, groups=channels, padding=[1, 1])
    net.tensors[f"{y}.bias"] = net.floats(channels)
    x = net.node("relu", [net.node("add", [x, y])])  # in place of the other operand
    x = net.conv(x, channels, channels, (2, 3), groups=channels // 2, **window())
    file_format.write(tmp_path / "net.onebit", net.graph(x), net.tensors)
    check(tmp_path / "net.onebit", isa, random.normal(size=(2, 3, *size)).astype(np.float32))


@isas
@pytest.mark.parametrize("seed", range(12))
def test_images_of_bytes_go_into_weights_of_8_bits(tmp_path: Path, isa: str, seed: int) -> None:
    """Straight from the bytes: as the reference to the bit, and as from normalised floats but for rounding."""
    random = np.random.default_rng(seed)
    channels, out, size = (int(random.integers(1, n)) for n in (5, 40, 40))
    kernel = tuple(int(k) for k in random.integers(1, 8, 2))
    net = Builder(seed, (channels, size + 8, size + 9))
    attributes = {"stride": random.integers(1, 4, 2).tolist(), "padding": random.integers(0, 5, 2).tolist()}
    x = net.conv(
        "input", channels, out, kernel, dilation=[int(random.integers(1, 2 + (max(kernel) < 5))), 1], **attributes
    )
    weight = random.integers(-128, 128, (out, channels, *kernel)).astype(np.int8)
    net.tensors |= {f"{x}.weight": weight, f"{x}.weight_scale": net.floats(out) / 128}
    if seed % 2:
        net.tensors[f"{x}.bias"] = net.floats(out)
    if seed % 3 == 0:  # fused behind it, the image's floats read as well
        y = net.conv("input", channels, out, kernel, dilation=net.nodes[0]["dilation"], **attributes)
        net.nodes[-1].pop("activations", None)
        net.tensors = {name: array for name, array in net.tensors.items() if not name.startswith(f"{y}.")}
        net.tensors[f"{y}.weight"] = net.floats(out, channels, *kernel)
        x = net.node("add", [x, y])
    x = net.node("hardtanh", [x])
    file_format.write(tmp_path / "net.onebit", net.graph(x), net.tensors)
    images = random.integers(0, 256, (3, size + 8, size + 9, channels), dtype=np.uint8)
    expected = load(tmp_path / "net.onebit", backend="reference")(images)
    for threads in (1, 2):
        model = load(tmp_path / "net.onebit", isa=isa, threads=threads)
        np.testing.assert_array_equal(model(images), expected)
        np.testing.assert_array_equal(model(images[:1]), expected[:1])
    normalized = (images.transpose(0, 3, 1, 2) / np.float32(255) - np.float32(0.5)) / np.float32(0.25)
    np.testing.assert_allclose(model(normalized), expected, atol=1e-4)


@isas
@pytest.mark.parametrize("channels", [8, 24, 40, 56, 72, 80, 96, 104, 120, 136, 256])
def test_windows_of_whole_bytes(tmp_path: Path, isa: str, channels: int) -> None:
    net = Builder(channels, (channels, 5, 40))
    x = net.binary_conv("input", channels, 16, 3, padding=[1, 1])
    y = net.binary_conv(
        "input", channels, 8, 3, 3, padding=[2, 1], stride=[1, 2], groups=2 if channels % 16 == 0 else 1
    )
    net.node("flatten", [y])
    file_format.write(tmp_path / "net.onebit", net.graph(x), net.tensors)
    check(tmp_path / "net.onebit", isa, net.floats(1, channels, 5, 40))


@isas
@pytest.mark.parametrize("seed", range(16))
def test_products(tmp_path: Path, isa: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Binary convolutions counted as products of matrices, by the scalar kernel where there is no other."""
    monkeypatch.setattr(_engine, "Network", partial(_engine.Network, oracle=True))
    random = np.random.default_rng(seed)
    height, width = (int(n) for n in random.integers(4, 40 if seed % 4 == 0 else 20, 2))
    net = Builder(seed, (3, height, width))
    x = net.conv("input", 3, 64, padding=[1, 1])
    channels = 64
    for block in range(3):
        out = int(random.choice([64, 128, 30]))
        kernel = [int(k) for k in random.integers(1, 4, 2)]
        dilation = [int(d) for d in random.integers(1, 3, 2)] if block == 0 else [1, 1]
        padding = [dilation[i] * (kernel[i] - 1) // 2 + int(random.integers(2)) for i in (0, 1)]
        stride = [int(s) for s in random.integers(1, 3, 2)] if block else [1, 1]
        y = net.binary_conv(
            x, channels, out, tuple(kernel), rows=2 + block % 2, stride=stride, padding=padding, dilation=dilation
        )
        same = kernel == [1, 1] and stride == [1, 1] and padding == [0, 0] and out == channels
        x = net.node("add", [y, x]) if same else y
        x = net.node("hardtanh", [x])
        if out % 64:
            break
        channels = out
    x = net.node("max_pool", [x], kernel=[1, 1], stride=[1, 1], padding=[0, 0])
    file_format.write(tmp_path / "net.onebit", net.graph(x), net.tensors)
    assert "product" in engine_of(load(tmp_path / "net.onebit", isa=isa)).kernels
    check(tmp_path / "net.onebit", isa, net.floats(2 if seed % 2 else 1, 3, height, width))


@isas
def test_counts_beyond_a_byte_and_16_bits(tmp_path: Path, isa: str) -> None:
    """All signs differ: the largest count, past the 31 words after which byte counters are widened and past 2^15."""
    net = Builder(0, (4096, 3, 3))
    x = net.binary_conv("input", 4096, 17, 3)
    net.tensors[f"{x}.bits"][:] = 255
    file_format.write(tmp_path / "net.onebit", net.graph(x), net.tensors)
    values = load(tmp_path / "net.onebit", isa=isa, threads=1).trace(np.ones((1, 4096, 3, 3), np.float32))
    assert (values[f"{x}:accumulator"] == -9 * 4096).all()


@isas
@pytest.mark.parametrize("seed", range(6))
def test_maps_that_are_read_in_several_ways(tmp_path: Path, isa: str, seed: int) -> None:
    """Strided blocks of a residual network: a map read as bits by a convolution and as floats by the shortcut beside it,
    sums that overwrite an operand and are then pooled. The rows of one may be wanted before those of the other."""
    random = np.random.default_rng(seed)
    channels = int(random.choice([8, 32, 40]))
    net = Builder(seed, (3, 14, 11))
    x = net.conv("input", 3, channels, padding=[1, 1])
    for block in range(4):
        stride = [2, 2] if block % 2 else [1, 1]
        y = net.binary_conv(x, channels, channels, 3, rows=2 + block % 2, padding=[1, 1], stride=stride)
        kind = random.integers(3) if block % 2 else -1
        if kind == 0:
            x = net.conv(x, channels, channels, 1, stride=stride)
        elif kind == 1:
            x = net.node("max_pool", [x], kernel=[3, 3], stride=stride, padding=[1, 1])
        elif kind == 2:
            x = net.node("option_a", [x], stride=2)
        x = net.node("add", [y, x])
        if random.integers(2):
            x = net.node("relu", [x])
    x = net.node("max_pool", [x], kernel=[2, 2], stride=[1, 1])
    file_format.write(tmp_path / "net.onebit", net.graph(x), net.tensors)
    check(tmp_path / "net.onebit", isa, net.floats(3, 3, 14, 11))


@isas
@pytest.mark.parametrize("seed", range(6))
def test_maps_behind_each_other(tmp_path: Path, isa: str, seed: int) -> None:
    """Dense and improvement blocks, whose maps are read as bits, as floats and by several; a map twice; pools and windows that
    take a few rows of what was put together, and inputs of which one is ready earlier; vectors."""
    random = np.random.default_rng(seed)
    net = Builder(seed, (3, 14, 11))
    x, channels = net.conv("input", 3, 16, padding=[1, 1]), 16
    for block in range(3):
        first = net.node("affine", [x], {"channels": net.floats(2, channels)}) if random.integers(2) else x
        y = net.binary_conv(first, channels, 24, 3, padding=[1, 1])
        x, channels = net.node("concat", [x, y] if random.integers(2) else [y, x]), channels + 24
        y = net.binary_conv(x, channels, 24, 3, rows=3, padding=[1, 1])
        x = net.node("add", [x, net.node("option_a", [y], pad=[channels - 24, 0])])
        if block == 1:
            pooled = net.node("max_pool", [x], kernel=[3, 3], stride=[2, 2], padding=[1, 1])
            strided = net.conv(x, channels, 8, 3, stride=[2, 2], padding=[1, 1])
            x, channels = net.node("concat", [pooled, strided]), channels + 8
        if random.integers(2):
            y = net.binary_conv(x, channels, 2 * channels, 1)
            x, channels = net.node("add", [y, net.node("concat", [x, x])]), 2 * channels
            x = net.node("rprelu", [x], {"channels": net.floats(3, channels)})
    mean = net.node("global_avg_pool", [x])
    both = net.node("concat", [net.node("global_avg_pool", [net.node("relu", [x])]), mean])
    net.node("linear", [both], {"weight": net.floats(5, 2 * channels)})
    file_format.write(tmp_path / "net.onebit", net.graph(net.nodes[-1]["name"]), net.tensors)
    check(tmp_path / "net.onebit", isa, net.floats(3, 3, 14, 11))


def mixed(seed: int) -> tuple[dict[str, Any], Builder]:
    """An image, tokens and a vector; the vectors' sum, maps in the middle of what is fused, and one value under two names."""
    random = np.random.default_rng(seed)
    channels, length, count = 1 + seed % 3, 2 + seed % 4, 11
    net = Builder(seed, (channels, 9, 7))
    inputs = [
        {"name": "ids", "type": "tokens", "length": length, "count": count},
        {
            "name": "photo",
            "type": "image",
            "shape": [channels, 9, 7],
            "mean": [0.4] * channels,
            "std": [0.2] * channels,
        },
        {"name": "sensors", "type": "floats", "shape": [16]},
        {"name": "depth", "type": "floats", "shape": [16, 3, 2]},
    ]
    weight = net.floats(count, 16)
    words = net.node("embedding", ["ids"], {"weight": weight} if seed % 2 else net.stored(weight))
    words = net.node("prelu", [words], {"slope": net.floats(16)})
    words = net.binary_conv(words, 16, 16, 1, threshold="sample_mean" if seed % 3 == 0 else 0)
    eight = random.integers(-128, 128, (16, channels, 3, 3)).astype(np.int8)
    first = net.node(
        "conv",
        ["photo"],
        {"weight": eight, "weight_scale": net.floats(16) / 128},
        padding=[1, 1],
        stride=[1, 1 + seed % 2],
    )
    second = net.node("relu", [net.node("add", [net.binary_conv(first, 16, 16, 3, padding=[1, 1]), first])])
    pooled = net.node("max_pool", [second], kernel=[3, 3], stride=[2, 2])
    depth = net.node("hardtanh", ["depth"])
    total = net.node("global_avg_pool", [words])
    for vector in (net.node("global_avg_pool", [pooled]), net.node("global_avg_pool", [depth]), "sensors"):
        total = net.node("add", [total, vector])
    logits = net.node("linear", [total], {"weight": net.floats(5, 16)})
    outputs = [
        {"name": name, "node": node}
        for name, node in (("logits", logits), ("map", second), ("words", words), ("again", logits), ("total", total))
    ]
    return net.graph(logits) | {"inputs": inputs, "outputs": outputs}, net


@isas
@pytest.mark.parametrize("seed", range(6))
def test_several_inputs_and_outputs(tmp_path: Path, isa: str, seed: int) -> None:
    graph, net = mixed(seed)
    file_format.write(tmp_path / "net.onebit", graph, net.tensors)
    random = np.random.default_rng(seed)
    reference = load(tmp_path / "net.onebit", backend="reference")
    for batch in (1, 3):
        for length, height, width in ((graph["inputs"][0]["length"], 9, 7), (7, 6, 12)):
            channels = graph["inputs"][1]["shape"][0]
            pixels = random.integers(0, 256, (batch, height, width, channels), dtype=np.uint8)
            values = {
                "ids": random.integers(0, 11, (batch, length)),
                "photo": pixels if seed % 2 else reference.inputs[1].normalized(pixels).transpose(0, 3, 1, 2),
                "sensors": net.floats(batch, 16),
                "depth": net.floats(batch, 16, 2, 5),
            }
            expected, traced = reference(**values), reference.trace(**values)
            for threads in (1, 2):
                model = load(tmp_path / "net.onebit", isa=isa, threads=threads)
                found, trace = model(**values), model.trace(**values)
                assert list(found) == list(expected) == ["logits", "map", "words", "again", "total"]
                for name, value in (*expected.items(), *traced.items()):
                    other = found[name] if name in found else trace[name]
                    assert other.shape == value.shape and other.dtype == value.dtype
                    np.testing.assert_array_equal(
                        other, value, err_msg=f"{isa}, {threads} threads, batch {batch}: {name}"
                    )


@isas
def test_other_image_sizes(tmp_path: Path, isa: str) -> None:
    graph, tensors = resnet20()
    file_format.write(tmp_path / "net.onebit", graph, tensors)
    model, reference = (
        load(tmp_path / "net.onebit", isa=isa, threads=2),
        load(tmp_path / "net.onebit", backend="reference"),
    )
    for height, width in ((9, 20), (5, 3), (9, 20), (1, 1)):
        images = np.random.default_rng(0).normal(size=(3, 3, height, width)).astype(np.float32)
        assert np.array_equal(model(images), reference(images))


@isas
def test_forced_isa_runs(tmp_path: Path, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_small(tmp_path)
    monkeypatch.setenv("ONEBIT_ISA", isa)
    for model in (load(path), load(path, isa=isa)):
        assert model.isa == isa
        kernels = engine_of(model).kernels
        base = "avx512" if isa in ("avx512vnni", "avx512vp", "amx") else isa
        expected = {kernel: f"{kernel}_{base}" for kernel in KERNELS}
        for level, kernel in (
            ("avx512vnni", "bytes"),
            ("avx512vnni", "codes"),
            ("avx512vp", "count"),
            ("amx", "product"),
        ):
            if isa in LEVELS[1:] and level in LEVELS[: LEVELS.index(isa) + 1]:
                expected[kernel] = f"{kernel}_{level}"
        assert kernels == expected


def test_unknown_isa_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_small(tmp_path)
    with pytest.raises(UserError, match='unknown instruction set "sse9"'):
        load(path, isa="sse9")
    other = "avx2" if "neon" in LEVELS else "neon"  # a name of another architecture
    with pytest.raises(UserError, match=f'unknown instruction set "{other}"; choose one of {", ".join(LEVELS)}'):
        load(path, isa=other)
    monkeypatch.setenv("ONEBIT_ISA", "mmx")
    with pytest.raises(UserError, match='unknown instruction set "mmx"'):
        load(path)


@pytest.mark.skipif(len(SUPPORTED) == len(LEVELS), reason="this CPU supports every instruction set")
def test_unsupported_isa_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not support the instruction set"):
        load(write_small(tmp_path), isa=LEVELS[-1])


def test_default_isa_is_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEBIT_ISA", raising=False)
    assert load(write_small(tmp_path)).isa == _engine.best_isa()


def test_values_are_checked_in_c(tmp_path: Path) -> None:
    """The extension is called with arrays that no model would hand over."""
    network = _engine.Network(write_small(tmp_path).read_bytes(), "scalar", 1)  # of images (3, 4, 4)
    images = np.zeros((2, 3, 4, 4), np.float32)
    (answer,) = network.run([images])
    assert answer.shape == (2, 2, 2, 2)
    for values, message in (
        ([], "number of inputs"),
        ([images, images], "number of inputs"),
        ([images[:0]], "batch of values"),
        ([images[0]], "number of axes"),
        ([images.astype(np.float64)], "a type or a number of axes"),
        ([np.zeros((2, 4, 4, 4), np.float32)], "number of channels"),
        ([np.zeros((2, 4, 4, 4), np.uint8)], "number of channels"),
        ([np.zeros((2, 3), np.float32)], "number of channels"),
        ([np.zeros((2, 3), np.int32)], "number of channels"),
        ([np.zeros((2, 3, 2, 4), np.float32)], "too small"),
        ([np.full((2, 3, 4, 4), np.nan, np.float32)], "NaN or infinity"),
    ):
        for call in (network.run, network.trace, lambda values: network.profile(values, 1)):
            with pytest.raises(ValueError, match=message):
                call(values)
    for shapes in ([], [(4, 4)], [(4, 4, 2)], [(0, 4, 3)], [(4, 4, 2**40)], [(2**15, 2**15, 3)]):
        for measure in (network.memory, network.out_shapes):
            with pytest.raises(ValueError):
                measure(shapes)
    with pytest.raises(ValueError, match="out of range"):
        _engine.Network(write_small(tmp_path).read_bytes(), "scalar", 0)
    with pytest.raises(ValueError, match="out of range"):
        network.profile([images], 0)


def write_small(tmp_path: Path) -> Path:
    net = Builder(0, (3, 4, 4))
    path = tmp_path / "small.onebit"
    file_format.write(path, net.graph(net.binary_conv("input", 3, 2)), net.tensors)
    return path


def engine_of(model: Model) -> native.Engine:
    assert isinstance(model._backend, native.Engine)
    return model._backend
