"""The networks that are timed, and what goes into them: a packed file, or a model of the table with random weights.

A packed file is benchmarked without PyTorch, which need not be installed for it. So PyTorch, and what needs it, is imported
only in the functions that make networks of it.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from onebit.bench.outputs import joined_tensors
from onebit.errors import UserError
from onebit.machine import processor
from onebit.runtime import Image, Model, native, zoo
from onebit.runtime.tensors import float_weight


def network(
    model: str, method: str, size: int, folder: str, *, random: bool, int8: bool
) -> tuple[str, tuple[Any, Any] | None]:
    """(packed file, None), or what random_network makes of a name, which `random` says where a file has it too.

    Raises UserError for a file that does not exist, and for an unknown name or method.
    """
    if zoo.is_named(model):
        return str(zoo.located(model)), None
    if Path(model).exists() and not random:
        return model, None
    if "/" in model or "." in model:
        raise UserError(f"{model} does not exist; give a packed file or the name of a model")
    return random_network(model, method, size, folder, int8)


def random_network(name: str, method: str, size: int, folder: str, int8: bool = False) -> tuple[str, tuple[Any, Any]]:
    """(packed file of a network with random weights, (the network, its full-precision parent) in PyTorch).

    The file is written into `folder`, for images of size × size pixels. Raises UserError for an unknown name or method.
    """
    import torch

    from onebit import models, pack
    from onebit.packing import pack as packing

    torch.manual_seed(0)
    binary = models.create(name, method, image_size=size).eval()
    parent = models.create(name, "float", image_size=size).eval()
    path = os.path.join(folder, "random.safetensors")
    if int8:  # which packing then takes as they are
        real: list[Any] = [m for m in binary.modules() if type(m) in (torch.nn.Conv2d, torch.nn.Linear)]
        for layer in real:
            weight, scale = packing.quantized(layer.weight.detach().numpy())
            layer.weight.data = torch.from_numpy(float_weight(weight, scale))
    pack(binary, path, mean=[0.5] * 3, std=[0.25] * 3, int8=int8)
    return path, (binary, parent)


class Inputs(NamedTuple):
    """The same random inputs for every contender."""

    engine: np.ndarray  # the first batch as our engine takes it: float32 (B, C, H, W), or uint8 (B, H, W, C)
    batches: list[np.ndarray]  # all of them as PyTorch and the peers take them: normalised, float32 (B, C, H, W)


def image_of(model: Model) -> Image:
    """The input of a network. Raises UserError for one of other or several inputs."""
    shape = model.input_shape
    return next(source for source in model.inputs if isinstance(source, Image) and source.shape == shape)


def random_inputs(image: Image, batch: int, count: int, *, in_bytes: bool = False) -> Inputs:
    """`count` batches for a network with this input. The only place in bench that knows what goes into a network.

    An image is noise and a colour of its own, so that logits differ between images. In bytes it is the nearest one whose
    normalisation is that.
    """
    shape = image.shape
    random = np.random.default_rng(0)
    noise = random.standard_normal((count, batch, *shape), np.float32)
    batches = list(noise + random.standard_normal((count, batch, shape[0], 1, 1), np.float32))
    if not in_bytes:
        return Inputs(batches[0], batches)
    mean, std = np.array(image.mean, np.float32), np.array(image.std, np.float32)
    pixels = [(images.transpose(0, 2, 3, 1) * std + mean) * 255 for images in batches]  # (B, H, W, C)
    given = [np.clip(np.rint(values), 0, 255).astype(np.uint8) for values in pixels]
    rounded = [image.normalized(images).transpose(0, 3, 1, 2) for images in given]
    return Inputs(given[0], [np.ascontiguousarray(images) for images in rounded])


def instruction_sets(isa: str) -> list[str | None]:
    """The names to force: [None] for `best`, all that this machine has for `all`, or those asked for ("avx2,scalar").

    Raises UserError for `all` where the engine is not built."""
    if isa == "best":
        return [None]
    if isa != "all":
        return [*isa.split(",")]
    return [*native.supported()]


def eager(network: Any, inputs: np.ndarray) -> Callable[[], Any]:
    """A call of the PyTorch network on float32 inputs (B, C, H, W) that gives its logits, a tensor (B, classes), or its outputs
    joined."""
    import torch

    tensor = torch.from_numpy(inputs)

    def call() -> Any:
        with torch.inference_mode():
            return joined_tensors(network(tensor))

    return call


def machine() -> str:
    """The processor and how many CPUs this process may use, as the head of every table names them."""
    return f"{processor.name()}, {processor.count()} CPUs"
