"""The full-precision parent in 8 bits, as int8 engines run it: what one bit has to be compared with."""

import os
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onebit import data, tasks
from onebit.bench.peers import PEERS
from onebit.checkpoints import checkpoint
from onebit.data.dataset import Data
from onebit.tasks.score import score_network
from onebit.training.recipe import Recipe

ENGINES = ("onnxruntime", "openvino")
CALIBRATION_IMAGES = 256


def installed() -> list[str]:
    """The int8 engines whose packages are here."""
    return [name for name in ENGINES if all(find_spec(package) is not None for package in PEERS[name].packages)]


def int8(folder: Path, recipe: Recipe, median_ms: Callable[[Callable[[], Any]], float]) -> dict[str, Any]:
    """{"<engine>_accuracy" in percent, "<engine>_bytes" of its file, "<engine>_ms" for one input on one thread} of each engine.

    Quantized after training, activations by CALIBRATION_IMAGES test-time images of the training set.
    """
    saved = checkpoint.load(folder / "last.ckpt")
    source = data.load(recipe.data, recipe.root, recipe)
    task = tasks.of_data(source)
    samples = [image[None] for image in first_inputs(source)]  # each (1, C, H, W)
    found: dict[str, Any] = {}
    for name in installed():
        with tempfile.TemporaryDirectory() as work:
            peer: Any = PEERS[name](saved.network(), samples, work)
            call = peer.sessions(threads=1)["int8"]
            scores, _ = score_network(one_by_one(call), source.test.evaluation_batches(100), task, torch.device("cpu"))
            path = Path(peer.paths["int8"])
            size = sum(
                os.path.getsize(part) for part in path.parent.glob(f"{path.stem}.*")
            )  # weights may lie beside it
            found |= {
                f"{name}_accuracy": round(scores["accuracy"], 4),
                f"{name}_bytes": size,
                f"{name}_ms": median_ms(partial(call, samples[0])),
            }
    return found


def first_inputs(source: Data) -> np.ndarray:
    """CALIBRATION_IMAGES images of the training set without augmentation, (N, C, H, W)."""
    batch = next(iter(source.train.evaluation_batches(CALIBRATION_IMAGES)))
    return np.ascontiguousarray(batch.inputs.numpy())


def one_by_one(call: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensor], Tensor]:
    """A call for one input (1, C, H, W) as a network for batches (B, C, H, W): the engines' files have a fixed shape."""

    def network(inputs: Tensor) -> Tensor:
        images = np.ascontiguousarray(inputs.numpy())
        return torch.from_numpy(np.concatenate([call(image[None]) for image in images]))

    return network
