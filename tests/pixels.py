"""Small packed networks that show what pixels they were given, and pictures for them."""

from pathlib import Path
from typing import Any

import numpy as np

from onebit.runtime import Model, load
from onebit.runtime import format as file_format


def network(path: Path, shape: tuple[int, int, int] = (3, 8, 8), resize: int | None = None, **changes: Any) -> Model:
    """A network whose outputs are the mean of each channel of what it was given, between 0 and 1."""
    channels = shape[0]
    weight = np.eye(channels, dtype=np.float32).reshape(channels, channels, 1, 1)
    nodes = [
        {"op": "conv", "name": "same", "inputs": ["input"]},
        {"op": "global_avg_pool", "name": "mean", "inputs": ["same"]},
    ]
    image: dict[str, Any] = {"shape": list(shape), "mean": [0.0] * channels, "std": [1.0] * channels}
    labels = ["red", "green", "blue"][:channels] if channels <= 3 else None
    graph = {
        "name": "mean of channels",
        "method": "none",
        "inputs": [{"name": "input", "type": "image", **image, "resize": resize, **changes}],
        "nodes": nodes,
        "outputs": [{"name": "output", "node": "mean"}],
        "task": {"name": "measurement", "answer": "values", "labels": labels},
    }
    file_format.write(path, graph, {"same.weight": weight})
    return load(path)


def ramp(height: int = 32, width: int = 32) -> np.ndarray:
    """uint8 (H, W), brighter to the right."""
    return np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
