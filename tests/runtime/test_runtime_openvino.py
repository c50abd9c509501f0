"""A packed network translated for OpenVINO gives what the reference gives."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openvino", reason="the package openvino is not installed: pip install '.[peers]'")
from nets import Builder
from onebit.errors import UserError
from onebit.export.openvino import openvino_model
from onebit.runtime import format, load


def written(folder: Path, net: Builder, output: str) -> Path:
    format.write(folder / "net.onebit", net.graph(output), net.tensors)
    return folder / "net.onebit"


@pytest.mark.parametrize("seed", range(8))
def test_operators(tmp_path: Path, seed: int) -> None:
    import openvino

    random = np.random.default_rng(seed)
    height, width = (int(n) for n in random.integers(8, 15, 2))
    net = Builder(seed, (24, height, width))  # one binary convolution, first: rounding before it would flip signs
    kernel = tuple(int(k) for k in random.integers(1, 4, 2))
    padding = [int(random.integers(k)) for k in kernel]
    attributes = {"stride": random.integers(1, 3, 2).tolist(), "dilation": random.integers(1, 3, 2).tolist()}
    threshold = ["channel", 0.25][seed % 2]
    shift, rows = (0.0, 0.5)[seed // 2 % 2], 2 + seed // 4 % 2
    x = net.binary_conv("input", 24, 20, kernel, rows, padding=padding, threshold=threshold, shift=shift, **attributes)
    for step, what, shape in (
        ("hardtanh", "", ()),
        ("prelu", "slope", (20,)),
        ("rprelu", "channels", (3, 20)),
        ("maxout", "channels", (2, 20)),
        ("affine", "channels", (2, 20)),
    ):
        x = net.node(step, [x], {what: net.floats(*shape)} if what else {})
    y = net.conv(x, 20, 24, 3, padding=[1, 1], groups=[1, 4][seed % 2], stride=[2, 2])
    x = net.node("add", [y, net.node("option_a", [x], stride=2, pad=[1, 3])])
    x = net.node("concat", [net.node("relu", [x]), x])
    x = net.node("concat", [x, net.node("relu", [x])], axis=["height", "width"][seed % 2])
    pool = {"kernel": [2, 2], "stride": [2, 1], "padding": [1, 1], "ceil_mode": bool(seed % 3 == 0)}
    x = net.node("max_pool", [x], **pool)
    x = net.node("avg_pool", [x], **pool, count_include_pad=bool(seed % 2))
    if seed % 2:
        x = net.node("flatten", [x])
    else:
        x = net.node("global_avg_pool", [x])
        x = net.node("linear", [x], {"weight": net.floats(5, 48), "bias": net.floats(5)})
    path = written(tmp_path, net, x)
    images = net.floats(2, 24, height, width)
    network = openvino.Core().compile_model(openvino_model(str(path), 2), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = load(path, backend="reference")(images)
    np.testing.assert_allclose(network(images)[0].reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("attributes", "says"),
    [({"groups": 2}, "no groups"), ({"threshold": "sample_mean"}, "constant thresholds")],
)
def test_what_openvino_cannot_say(tmp_path: Path, attributes: dict, says: str) -> None:
    net = Builder(0, (8, 5, 5))
    path = written(tmp_path, net, net.binary_conv("input", 8, 8, 3, **attributes))
    with pytest.raises(UserError, match=says):
        openvino_model(str(path), 1)
