"""Networks with random weights, for tests and measurements."""

from __future__ import annotations

from typing import Any

import numpy as np

from onebit.runtime import bits


class Builder:
    """Collects nodes and random tensors; each method returns the name of the node it adds."""

    def __init__(self, seed: int, shape: tuple[int, int, int]) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[dict[str, Any]] = []
        self.tensors: dict[str, np.ndarray] = {}
        self.shape = shape

    def floats(self, *shape: int) -> np.ndarray:
        return self.random.normal(size=shape).astype(np.float32)

    def node(self, op: str, inputs: list[str], tensors: dict[str, np.ndarray] | None = None, **attributes: Any) -> str:
        name = f"{op}{len(self.nodes)}"
        self.nodes.append({"op": op, "name": name, "inputs": inputs, **attributes})
        self.tensors |= {f"{name}.{what}": array for what, array in (tensors or {}).items()}
        return name

    def conv(self, x: str, in_: int, out: int, kernel: int | tuple[int, int] = 3, **attributes: Any) -> str:
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        weight = self.floats(out, in_ // attributes.get("groups", 1), *kernel)
        return self.node("conv", [x], {"weight": weight}, **attributes)

    def binary_conv(
        self, x: str, in_: int, out: int, kernel: int | tuple[int, int] = 3, rows: int = 2, **attributes: Any
    ) -> str:
        """`rows` 3 adds a weight offset. Scales have both signs."""
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        weight = self.floats(out, in_ // attributes.get("groups", 1), *kernel)
        tensors = {"bits": bits.pack_weight(weight), "channels": self.floats(rows, out)}
        if attributes.get("threshold") == "channel":
            tensors["threshold"] = self.floats(in_)
        return self.node("binary_conv", [x], tensors, in_channels=in_, kernel=list(kernel), **attributes)

    def graph(self, output: str) -> dict[str, Any]:
        channels = self.shape[0]
        return {
            "name": "test",
            "method": "none",
            "input": {"shape": list(self.shape), "mean": [0.5] * channels, "std": [0.25] * channels},
            "labels": None,
            "recipe": None,
            "accuracy": None,
            "nodes": self.nodes,
            "output": output,
        }


def resnet20(seed: int = 0) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """ResNet-20 for 3×32×32 with binary 3×3 convolutions of 16, 32 and 64 channels, a shortcut and a maxout around each."""
    net = Builder(seed, (3, 32, 32))
    x = net.conv("input", 3, 16, padding=[1, 1])
    channels = 16
    for out, stride in [(16, 1)] * 6 + [(32, 2)] + [(32, 1)] * 5 + [(64, 2)] + [(64, 1)] * 5:
        y = net.binary_conv(x, channels, out, padding=[1, 1], stride=[stride, stride])
        if stride != 1:
            x = net.node("option_a", [x], stride=stride, pad=[(out - channels) // 2] * 2)
        x = net.node("add", [y, x])
        x = net.node("maxout", [x], {"channels": net.floats(2, out)})
        channels = out
    x = net.node("global_avg_pool", [x])
    x = net.node("linear", [x], {"weight": net.floats(10, channels), "bias": net.floats(10)})
    return net.graph(x), net.tensors
