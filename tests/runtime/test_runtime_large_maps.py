"""Maps that are too large to be worth storing: threads that share an image make the rows which their own rows of the next stage need."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nets import Builder
from onebit.runtime import format as file_format
from onebit.runtime import load, native

if not native.available():
    pytest.skip("the engine is not built", allow_module_level=True)

READERS: dict[str, dict[str, Any]] = {
    "a max pool": {"op": "max_pool", "kernel": [3, 3], "stride": [2, 2], "padding": [1, 1]},
    "an avg pool": {"op": "avg_pool", "kernel": [2, 3], "stride": [1, 2], "padding": [1, 0], "ceil_mode": True},
    "an upsampling": {"op": "upsample", "scale": [2, 1], "mode": "bilinear", "align_corners": False},
    "a pad of zeros": {"op": "pad", "pixels": [3, 2, 0, 1], "mode": "zeros"},
    "a pad": {"op": "pad", "pixels": [1, 4, 0, 1], "mode": "replicate"},
}


@pytest.mark.parametrize("reader", [*READERS, "a depthwise convolution", "two in a row"])
@pytest.mark.parametrize("height", (127, 40, 3))
def test_streams(tmp_path: Path, reader: str, height: int) -> None:
    width = 12_000 // height
    net = Builder(3, (3, height, width))
    x = net.step("relu", net.conv("input", 3, 24, 3, padding=[1, 1]), 24)  # 24 · 12,000 floats: more than 1 MiB
    if reader in READERS:
        x = net.node(READERS[reader]["op"], [x], **{k: v for k, v in READERS[reader].items() if k != "op"})
    else:
        for _ in range(1 if reader == "a depthwise convolution" else 2):
            x = net.step("prelu", net.conv(x, 24, 24, 3, groups=24, padding=[1, 1]), 24)
    y = net.binary_conv(x, 24, 32, 3, stride=[2, 2], padding=[1, 1])
    z = net.node("add", [net.node("avg_pool", [x], kernel=[1, 1], stride=[2, 2]), net.conv(y, 32, 24, 1)])
    file_format.write(tmp_path / "net.onebit", net.graph(z), net.tensors)
    pixels = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    expected = load(tmp_path / "net.onebit", backend="reference")(pixels)
    for isa in native.supported():
        for threads in (1, 2, 3, 5):
            model = load(tmp_path / "net.onebit", isa=isa, threads=threads)
            for _ in range(2):
                np.testing.assert_array_equal(model(pixels), expected, err_msg=f"{isa}, {threads} threads")


@pytest.mark.parametrize("mode", ("reflect", "circular", "replicate", "zeros"))
@pytest.mark.parametrize("pixels", ([0, 2, 0, 0], [2, 2, 2, 2], [1, 0, 0, 0]))
def test_pads_of_rows_that_are_asked_for_together(tmp_path: Path, mode: str, pixels: list[int]) -> None:
    """A pad needs no fewer rows for the first rows of a band than for its last: the image before must not shine through."""
    net = Builder(0, (3, 28, 28))
    x = net.node("relu", [net.conv("input", 3, 64, 3, padding=[1, 1])])
    x = net.conv(net.node("pad", [x], pixels=pixels, mode=mode), 64, 8, 3)
    file_format.write(tmp_path / "net.onebit", net.graph(x), net.tensors)
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), dtype=np.uint8)
    expected = load(tmp_path / "net.onebit", backend="reference")(images)
    for threads in (1, 2):
        model = load(tmp_path / "net.onebit", threads=threads)
        for number in (0, 1, 2):
            one = slice(number, number + 1)
            np.testing.assert_array_equal(model(images[one]), expected[one])
        np.testing.assert_array_equal(model(images), expected)
