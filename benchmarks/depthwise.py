"""Depth-wise convolutions of mobile networks in the engine and in PyTorch, each with a bias and a ReLU behind it.

    python benchmarks/depthwise.py [--isa avx2,avx512]

One image, one thread, random weights: the least microseconds of all calls, and products a second. The engine's layer is
timed inside a network (`Engine.profile`); PyTorch's is a call of two modules, channels first or last, whichever is
quicker. Both take turns, layer by layer.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from onebit.bench.networks import instruction_sets, machine
from onebit.runtime import format as packed_format
from onebit.runtime import load, native

TURNS, CALLS = 5, 20


class Layer(NamedTuple):
    size: int
    channels: int
    kernel: int
    stride: int


LAYERS = (  # MobileNetV2's and, with kernels of 5, EfficientNet-Lite0's
    Layer(112, 32, 3, 1),
    Layer(112, 96, 3, 2),
    Layer(56, 144, 3, 1),
    Layer(28, 192, 3, 1),
    Layer(28, 240, 5, 1),
    Layer(14, 576, 3, 1),
    Layer(7, 960, 3, 1),
    Layer(7, 1152, 5, 1),
)


def write(layer: Layer, path: Path) -> None:
    """A packed network: a map of the layer's channels, made from an image of one, then the layer, then means."""
    random = np.random.default_rng(0)
    channels, pad = layer.channels, [layer.kernel // 2] * 2
    nodes: list[dict[str, Any]] = [
        {"op": "conv", "name": "wide", "inputs": ["image"]},
        {
            "op": "conv",
            "name": "deep",
            "inputs": ["wide"],
            "groups": channels,
            "stride": [layer.stride] * 2,
            "padding": pad,
        },
        {"op": "relu", "name": "relu", "inputs": ["deep"]},
        {"op": "global_avg_pool", "name": "mean", "inputs": ["relu"]},
    ]
    image = {"name": "image", "type": "image", "shape": [1, layer.size, layer.size], "mean": [0.5], "std": [0.5]}
    graph = {
        "name": "depthwise",
        "method": "none",
        "inputs": [image],
        "nodes": nodes,
        "outputs": [{"name": "mean", "node": "mean"}],
        "task": {"name": "classification", "answer": "one"},
    }
    shapes = {
        "wide.weight": (channels, 1, 1, 1),
        "deep.weight": (channels, 1, layer.kernel, layer.kernel),
        "deep.bias": (channels,),
    }
    packed_format.write(
        path, graph, {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    )


def in_engine(layer: Layer, isa: str | None) -> float:
    """Seconds."""
    with tempfile.TemporaryDirectory() as folder:
        write(layer, Path(folder) / "depthwise.safetensors")
        backend = load(Path(folder) / "depthwise.safetensors", threads=1, isa=isa, backend="engine").backend
        assert isinstance(backend, native.Engine)
        stages = backend.profile({"image": np.ones((1, 1, layer.size, layer.size), np.float32)}, CALLS)
    return next(stage["seconds"] for stage in stages if stage["node"] == "deep")


def in_torch(layer: Layer, memory_format: torch.memory_format) -> float:
    """Seconds."""
    conv = nn.Conv2d(
        layer.channels, layer.channels, layer.kernel, layer.stride, layer.kernel // 2, groups=layer.channels
    )
    net = nn.Sequential(conv, nn.ReLU()).eval().to(memory_format=memory_format)
    x = torch.randn(1, layer.channels, layer.size, layer.size).contiguous(memory_format=memory_format)
    times = []
    with torch.inference_mode():
        for _ in range(CALLS):
            began = time.perf_counter()
            net(x)
            times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--isa", default="best", help="instruction sets, all or best")
    names = instruction_sets(parser.parse_args().isa)
    torch.set_num_threads(1)
    print(machine(), f"torch {torch.__version__}", sep=", ")
    print("| layer |" + "".join(f" {name or 'engine'}, µs | GMAC/s |" for name in names) + " torch, µs |")
    print("|---|" + "---|" * (2 * len(names) + 1))
    for layer in LAYERS:
        ours, theirs = [float("inf")] * len(names), float("inf")
        for _ in range(TURNS):
            ours = [min(least, in_engine(layer, name)) for least, name in zip(ours, names, strict=True)]
            theirs = min(theirs, *(in_torch(layer, each) for each in (torch.contiguous_format, torch.channels_last)))
        products = layer.channels * (layer.size // layer.stride) ** 2 * layer.kernel**2
        text = f"{layer.kernel}×{layer.kernel}, {layer.channels} channels, {layer.size}×{layer.size}"
        row = "".join(f" {1e6 * least:.1f} | {products / least / 1e9:.0f} |" for least in ours)
        print(f"| {text}{', stride 2' if layer.stride == 2 else ''} |{row} {1e6 * theirs:.1f} |")


if __name__ == "__main__":
    main()
