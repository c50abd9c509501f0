"""A second oracle: ONNX Runtime on the exported file gives what the reference and the engine give.

What is exact by the format (docs/format.md) is compared bit for bit, with all of ONNX Runtime's fusions; sums of floats, which
every runtime takes in its own order, closely.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx is not installed: pip install '.[onnx]'")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed: pip install '.[peers]'")
import onnxruntime as ort

from nets import Builder, random_net, text_net
from onebit.errors import UserError
from onebit.export.onnx import model as exported
from onebit.export.onnx.model import Form
from onebit.runtime import bits, format, load, zoo
from onebit.runtime.operators import OPERATORS
from onebit.runtime.tensors import by_node

# Operators that sum floats, or take functions that libraries approximate: compared within rounding errors.
SUMS = {
    "conv",
    "transposed_conv",
    "linear",
    "attention",
    "avg_pool",
    "global_avg_pool",
    "layer_norm",
    "group_norm",
    "l2_norm",
}
FUNCTIONS = {"sigmoid", "tanh", "silu", "elu", "gelu", "gelu_tanh", "softmax", "upsample"}
REGIONS = {"proposals", "roi_align"}
CLOSE = dict.fromkeys(SUMS | FUNCTIONS | REGIONS, 3e-5)


def session(content: bytes) -> Callable[..., dict[str, np.ndarray]]:
    """The outputs by name, of inputs by name."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    opened = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in opened.get_outputs()]
    return lambda **inputs: dict(zip(names, opened.run(names, inputs), strict=True))


def channels_last(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x


def check_every_node(source: dict[str, Any], tensors: dict[str, np.ndarray], inputs: dict[str, np.ndarray]) -> None:
    """Every node's value in ONNX Runtime against the reference's arithmetic on what ONNX Runtime gave it to read, so that a sign
    that turns, where a sum of floats is rounded otherwise, is no difference behind it."""
    every = [{"name": node["name"], "node": node["name"]} for node in source["nodes"]]
    graph = format.validate({**source, "outputs": every}, tensors)
    values = {**inputs, **session(exported.model(graph, tensors).SerializeToString())(**inputs)}
    arrays = by_node(tensors)
    for node in graph.nodes:
        read = [channels_last(values[name]) for name in node.inputs]
        expected: Any = OPERATORS[node.op].compute(node, arrays.get(node.name, {}), *read)
        expected = expected[1] if isinstance(expected, tuple) else expected  # of binary nodes, (A·B, y)
        found = channels_last(values[node.name])
        if node.op == "constant":
            expected = np.broadcast_to(expected, found.shape)
        assert found.shape == expected.shape, node
        tolerance = CLOSE.get(node.op, 0) * max(1.0, float(np.abs(expected).max()))
        assert np.abs(found - expected).max() <= tolerance, (node, np.abs(found - expected).max())


@pytest.mark.parametrize("seed", range(40))
def test_random_networks(seed: int) -> None:
    graph, tensors = random_net(seed)
    images = np.random.default_rng(seed).normal(size=(1 + seed % 3, *graph["inputs"][0]["shape"]))
    check_every_node(graph, tensors, {"input": images.astype(np.float32)})


@pytest.mark.parametrize("seed", range(16))
def test_binary_networks_are_exact(tmp_path: Path, seed: int) -> None:
    """Bit for bit, with whatever ONNX Runtime fuses: a multiplication inside a binary convolution's weights would show."""
    random = np.random.default_rng(seed)
    net = Builder(seed, (13, *(int(size) for size in random.integers(9, 14, 2))))
    x, c = "input", 13
    for layer, out in enumerate(random.choice([8, 24, 40], 3)):
        stride = [1, 2] if layer == 1 else [1, 1]
        groups = int(random.choice([1, 1, 8])) if c % 8 == 0 else 1
        window = {"padding": random.integers(0, 3, 2).tolist(), "dilation": [int(random.integers(1, 3)), 1]}
        threshold = [0.0, 0.3, "channel", "sample_mean"][random.integers(4)]
        shift = [0.0, 0.1, -0.5][random.integers(3)]
        kernel = [(1, 1), (3, 3), (2, 3)][random.integers(3)]
        rows = int(random.integers(2, 4))
        x = net.binary_conv(
            x, c, int(out), kernel, rows, groups=groups, threshold=threshold, shift=shift, stride=stride, **window
        )
        c = int(out)
        name, tensor = [("maxout", (2, c)), ("affine", (2, c)), ("rprelu", (3, c))][random.integers(3)]
        x = net.node(name, [x], {"channels": net.floats(*tensor)})
    x = net.node("max_pool", [x], kernel=[2, 2], stride=[2, 2], padding=[1, 1], ceil_mode=True)
    x = net.node("flatten", [x])
    format.write(tmp_path / "net.safetensors", net.graph(x), net.tensors)
    made = exported.model(*format.read(tmp_path / "net.safetensors")).SerializeToString()
    images = net.floats(3, *net.shape)
    np.testing.assert_array_equal(session(made)(input=images)["output"], load(tmp_path / "net.safetensors")(images))


MAP, SQUARE, VECTOR = (6, 5, 7), (8, 4, 4), (6,)  # shapes of inputs, channels first
WINDOW = {"stride": [2, 1], "padding": [1, 2], "dilation": [1, 2]}
POOL = {"kernel": [3, 2], "stride": [2, 2], "padding": [1, 1]}
PROPOSALS = {
    **{"grids": [[5, 4, 2], [1, 1, 8]], "image": [10, 8], "candidates": 15, "most": 8},
    **{"overlap": 0.2, "smallest": 0.1},
}
CASES: list[tuple[str, list[tuple[int, ...]], dict[str, Any], dict[str, tuple[int, ...]]]] = [
    # operator, shapes of its inputs, attributes, shapes of its tensors
    ("conv", [MAP], WINDOW | {"groups": 2}, {"weight": (4, 3, 3, 2), "bias": (4,)}),
    ("linear", [VECTOR], {}, {"weight": (3, 6), "bias": (3,)}),
    *[(op, [shape], {}, {"channels": (2, 6)}) for op in ("affine", "maxout") for shape in (MAP, VECTOR)],
    *[("rprelu", [shape], {}, {"channels": (3, 6)}) for shape in (MAP, VECTOR)],
    *[("prelu", [shape], {}, {"slope": (6,)}) for shape in (MAP, VECTOR)],
    *[(op, [shape, shape], {}, {}) for op in ("add", "concat") for shape in (MAP, VECTOR)],
    *[("max_pool", [MAP], POOL | {"ceil_mode": ceil}, {}) for ceil in (False, True)],
    *[
        ("avg_pool", [MAP], POOL | {"ceil_mode": ceil, "count_include_pad": counted}, {})
        for ceil in (False, True)
        for counted in (False, True)
    ],
    ("avg_pool", [(3, 8, 9)], {"kernel": [2, 2], "stride": [3, 4], "ceil_mode": True}, {}),
    ("flatten", [MAP], {}, {}),
    ("flatten", [(6, 1, 1)], {}, {}),
    ("option_a", [MAP], {"stride": 2, "pad": [1, 2]}, {}),
    ("option_a", [MAP], {}, {}),
    *[
        (op, [shape], {}, {})
        for op in (
            "relu",
            "hardtanh",
            "hardsigmoid",
            "hardswish",
            "sigmoid",
            "tanh",
            "silu",
            "gelu",
            "gelu_tanh",
            "softmax",
        )
        for shape in (MAP, VECTOR)
    ],
    ("clip", [MAP], {"low": -0.3, "high": 0.7}, {}),
    ("elu", [MAP], {"alpha": 0.7}, {}),
    *[("layer_norm", [shape], {"eps": 1e-5}, {"channels": (2, 6)}) for shape in (MAP, VECTOR)],
    *[("l2_norm", [shape], {}, {"channels": (1, 6)}) for shape in (MAP, VECTOR)],
    *[("group_norm", [MAP], {"groups": groups, "eps": 1e-5}, {"channels": (2, 6)}) for groups in (1, 3, 6)],
    *[("multiply", [MAP, shape], {}, {}) for shape in (MAP, VECTOR, (1, 5, 7), (6, 1, 1), (6, 5, 1))],
    ("multiply", [VECTOR, VECTOR], {}, {}),
    ("multiply", [VECTOR, (1,)], {}, {}),
    ("concat", [MAP, (6, 2, 7)], {"axis": "height"}, {}),
    ("concat", [MAP, (6, 5, 3)], {"axis": "width"}, {}),
    *[
        ("slice", [MAP], {"axis": axis, "start": 1, "stop": 5, "step": 2}, {})
        for axis in ("channels", "height", "width")
    ],
    ("slice", [VECTOR], {"axis": "channels", "start": 2, "stop": 6}, {}),
    *[("channel_shuffle", [shape], {"groups": 3}, {}) for shape in (MAP, VECTOR)],
    *[("to_sequence", [MAP], {"parts": parts}, {}) for parts in (1, 2, 6)],
    *[("pad", [MAP], {"pixels": [1, 2, 0, 3], "mode": m}, {}) for m in ("zeros", "reflect", "replicate", "circular")],
    ("pad", [MAP], {"pixels": [0, 0, 0, 0], "mode": "circular"}, {}),
    ("upsample", [MAP], {"scale": [2, 3], "mode": "nearest"}, {}),
    *[("upsample", [MAP], {"scale": [3, 2], "mode": "bilinear", "align_corners": c}, {}) for c in (False, True)],
    ("upsample", [(3, 1, 1)], {"scale": [3, 2], "mode": "bilinear"}, {}),
    ("transposed_conv", [MAP], {"stride": [2, 3], "output_padding": [1, 2]}, {"weight": (4, 6, 3, 2), "bias": (4,)}),
    ("transposed_conv", [MAP], WINDOW | {"groups": 2, "output_padding": [1, 0]}, {"weight": (4, 3, 3, 2)}),
    ("attention", [(8, 5, 1), (8, 7, 1), (6, 7, 1)], {"heads": 2, "scale": 0.5}, {}),
    *[
        (
            "binary_attention",
            [(8, 5, 1), (8, 7, 1), (6, 7, 1)],
            {"heads": 2, "scale": 0.5, "level": level, "factor": 0.3, "softmax": softmax},
            {"query": (8,), "key": (8,), "value": (6,)},
        )
        for softmax, level in ((True, 0.2), (False, 0.4))
    ],
    *[("positions", [shape], {}, {"weight": (9, 6)}) for shape in ((6, 7, 1), MAP)],
    *[
        ("proposals", [(1, 42, 1), (4, 42, 1)], PROPOSALS | changed, {"anchors": (2, 2, 4)})
        for changed in ({}, {"candidates": 3}, {"most": 40})
    ],
    ("roi_align", [(4, 9, 1), MAP], {"scale": 1.5, "low": 1.2, "high": 4.0}, {}),
    ("roi_align", [(4, 9, 1), MAP], {"scale": 3, "size": 2, "samples": 3}, {}),
]


FORMS = [(*case, eight) for case in CASES for eight in (False, *([True] if "weight" in case[3] else []))]


@pytest.mark.parametrize("index", range(len(FORMS)), ids=lambda index: f"{index}-{FORMS[index][0]}")
def test_operators(index: int) -> None:
    """In float32, and of weights in 8 bits."""
    op, shapes, attributes, tensors, eight = FORMS[index]
    net = Builder(index, (1, 1, 1))
    arrays = {what: net.floats(*shape) for what, shape in tensors.items()}
    if eight:
        weight = net.random.integers(-128, 128, tensors["weight"]).astype(np.int8)
        arrays |= {"weight": weight, "weight_scale": net.floats(len(weight)) / 128}
    names = [f"x{i}" for i in range(len(shapes))]
    values = {name: 2 * net.floats(2, *shape) for name, shape in zip(names, shapes)}
    net.node(op, names, arrays, **attributes)
    sources = [{"name": name, "type": "floats", "shape": list(shape)} for name, shape in zip(names, shapes)]
    check_every_node({**net.graph("?"), "inputs": sources}, net.tensors, values)


@pytest.mark.parametrize("seed", range(8))
def test_texts(seed: int) -> None:
    """Filled up by masks, one of them of no token at all; attention of floats and of bits, whose whole numbers are exact."""
    graph, tensors = text_net(
        seed, heads=1 + seed % 3, depth=5 + seed, bits_of_attention=seed % 4 != 3, softmax=seed % 4 != 2
    )
    random = np.random.default_rng(seed)
    count, lengths = graph["inputs"][0]["count"], np.array([7, 4, 1, 0, 6])
    places = np.arange(7)
    inputs = {
        "ids": random.integers(0, count, (5, 7)),
        "types": (places >= random.integers(1, 7, (5, 1))).astype(np.int64),
        "mask": (places < lengths[:, None]).astype(np.int64),
    }
    check_every_node(graph, tensors, inputs)
    made = exported.model(format.validate(graph, tensors), tensors)
    held = json.loads({entry.key: entry.value for entry in made.metadata_props}["texts"])
    pieces = {"holds": "pieces", "lowercase": True}
    assert held == {"ids": pieces, "types": {"holds": "types"}, "mask": {"holds": "mask"}}
    assert exported.words(made.graph.input[0]) == "int64 (batch, 7)"
    with pytest.raises(UserError, match="pixels are of images, and test takes ids"):
        exported.model(format.validate(graph, tensors), tensors, Form(pixels=True))


def test_every_operator_of_the_format_has_a_form() -> None:
    """And is drawn in a test above or below."""
    assert set(OPERATORS) == set(exported.OPERATORS)
    elsewhere = {"binary_conv", "binary_linear", "embedding", "binary_embedding", "global_avg_pool", "constant"}
    assert {case[0] for case in CASES} | elsewhere == set(OPERATORS)


def test_an_operator_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Builder(0, (2, 4, 4))
    graph = format.validate(net.graph(net.node("relu", ["input"])), {})
    monkeypatch.delitem(exported.OPERATORS, "relu")
    with pytest.raises(UserError, match="operator relu has no form in ONNX"):
        exported.model(graph, {})


def test_what_one_file_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bits count as they are stored: as float32 for QONNX."""
    graph, tensors = format.read(f"zoo:{zoo.names()[0]}")
    monkeypatch.setattr(exported, "MAX_BYTES", 200_000)
    exported.model(graph, tensors)
    with pytest.raises(UserError, match="an ONNX file has at most 200000"):
        exported.model(graph, tensors, Form(qonnx=True))


def test_constants_go_with_every_sample() -> None:
    net = Builder(0, (3, 4, 5))
    x = net.node("constant", [], {"value": net.floats(4, 5, 2)})
    net.node("concat", ["input", x])
    net.node("constant", [], {"value": net.floats(6)})
    check_every_node(net.graph("?"), net.tensors, {"input": net.floats(3, 3, 4, 5)})


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    """Tokens, floats and an image; an output twice, and outputs named as an input and as another node are."""
    net = Builder(3, (3, 4, 4))
    x = net.embedding("ids", 50, 8)
    x = net.binary_conv(x, 8, 6, (3, 1), padding=[1, 0], threshold="sample_mean", shift=0.5)
    tokens = net.node("global_avg_pool", [x])
    vector = net.node(
        "binary_linear", ["sensors"], {"bits": bits.pack(net.floats(6, 5)), "channels": net.floats(3, 6)}, shift=1
    )
    image = net.node("global_avg_pool", [net.conv("input", 3, 6)])
    total = net.node("add", [net.node("add", [tokens, vector]), image])
    others = [
        {"name": "ids", "type": "tokens", "length": 7, "count": 50},
        {"name": "sensors", "type": "floats", "shape": [5]},
    ]
    graph = net.graph(total, *others, again=total, ids=tokens, add6=image, **{image: vector, "map": x})
    format.write(tmp_path / "net.safetensors", graph, net.tensors)
    run = session(exported.model(*format.read(tmp_path / "net.safetensors")).SerializeToString())
    inputs = {
        "input": net.floats(2, 3, 4, 4),
        "ids": net.random.integers(0, 50, (2, 7)),
        "sensors": net.floats(2, 5),
    }
    expected, found = load(tmp_path / "net.safetensors")(**inputs), run(**inputs)
    assert list(found) == ["output", "again", "ids_", "add6", image, "map"]
    for name, value in zip(expected, found.values(), strict=True):
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", zoo.names())
def test_pixels(name: str) -> None:
    """Networks of the zoo decide alike on bytes that are normalised inside; the file says so, and what the labels are."""
    made = exported.model(*format.read(f"zoo:{name}"), Form(pixels=True))
    network = load(f"zoo:{name}")
    channels, height, width = network.input_shape
    images = np.random.default_rng(0).integers(0, 256, (40, height // 4, width // 4, channels), np.uint8)
    images = images.repeat(4, 1).repeat(4, 2)
    (found,), expected = session(made.SerializeToString())(input=images).values(), network(images)
    assert np.mean(found.argmax(1) == expected.argmax(1)) >= 0.97
    assert np.median(np.abs(found - expected)) < 1e-4
    properties = {entry.key: entry.value for entry in made.metadata_props}
    assert (
        tuple(json.loads(properties["labels"])) == network.labels
        and properties["method"] == network._description.method
    )
    assert json.loads(properties["images"])["input"]["normalised_inside"] is True
    assert (made.producer_name, made.ir_version, [(o.domain, o.version) for o in made.opset_import]) == (
        "onebit",
        8,
        [("", 18)],
    )
    assert "Sign" not in {node.op_type for node in made.graph.node} and {node.domain for node in made.graph.node} == {
        ""
    }


def test_a_fixed_batch() -> None:
    made = exported.model(*format.read(f"zoo:{zoo.names()[0]}"), Form(batch=3))
    assert exported.words(made.graph.input[0]).startswith("float32 (3, ")
    assert exported.words(made.graph.output[0]).startswith("float32 (3, ")


@pytest.mark.filterwarnings("ignore")  # of a package that we do not make
@pytest.mark.parametrize("seed", range(6))
def test_qonnx(tmp_path: Path, seed: int) -> None:
    """Its own interpreter runs what is written for FINN and hls4ml, and gives the reference's values."""
    pytest.importorskip("qonnx", reason="the package qonnx is not installed: pip install qonnx")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.util.cleanup import cleanup_model

    net = Builder(seed, (8, 6, 7))
    threshold = ["channel", 0.0, 0.25, "sample_mean"][seed % 4]
    window = {"padding": [1, 1], "groups": [1, 2][seed % 2], "shift": [0.0, 0.3][seed // 3]}
    x = net.binary_conv("input", 8, 6, 3, 2 + seed // 2 % 2, threshold=threshold, **window)
    x = net.node("affine", [x], {"channels": net.floats(2, 6)})
    x = net.node("max_pool", [x], kernel=[2, 2], stride=[2, 2])
    x = net.node("flatten", [x])
    x = net.node("binary_linear", [x], {"bits": bits.pack(net.floats(4, 54)), "channels": net.floats(2, 4)}, shift=0.5)
    format.write(tmp_path / "net.safetensors", net.graph(x), net.tensors)
    made = exported.model(*format.read(tmp_path / "net.safetensors"), Form(qonnx=True))
    signs = [node for node in made.graph.node if node.op_type == "BipolarQuant"]
    assert len(signs) == 4 and {node.domain for node in signs} == {"qonnx.custom_op.general"}
    wrapper = cleanup_model(ModelWrapper(made))
    image = net.floats(1, 8, 6, 7)
    (found,) = execute_onnx(wrapper, {wrapper.graph.input[0].name: image}).values()
    np.testing.assert_allclose(
        found, load(tmp_path / "net.safetensors", backend="reference")(image), rtol=1e-5, atol=1e-5
    )


@pytest.mark.filterwarnings("ignore")  # of a package that we do not make
@pytest.mark.parametrize("seed", range(2))
def test_qonnx_of_texts(tmp_path: Path, seed: int) -> None:
    pytest.importorskip("qonnx", reason="the package qonnx is not installed: pip install qonnx")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.util.cleanup import cleanup_model

    graph, tensors = text_net(seed, softmax=seed == 0)
    format.write(tmp_path / "net.safetensors", {**graph, "outputs": graph["outputs"][:1]}, tensors)
    wrapper = cleanup_model(ModelWrapper(exported.model(*format.read(tmp_path / "net.safetensors"), Form(qonnx=True))))
    places = np.arange(7)[None]
    values = [
        np.random.default_rng(seed).integers(0, graph["inputs"][0]["count"], (1, 7)),
        places // 3 % 2,
        places // 6 ^ 1,
    ]
    (found,) = execute_onnx(wrapper, {i.name: value for i, value in zip(wrapper.graph.input, values)}).values()
    expected = load(tmp_path / "net.safetensors", backend="reference")(*values)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
