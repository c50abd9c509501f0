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
from onebit.runtime import Image, Model, load, native, zoo
from onebit.runtime.examples import made_up
from onebit.runtime.tensors import float_weight
from onebit.runtime.vocabulary import SPECIAL

WORDS, LENGTH = 30_522, 128  # of a network of texts with random weights: word pieces as BERT has them, tokens


def network(
    model: str, method: str, size: int, folder: str, *, random: bool, int8: bool, length: int | None = None
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
    return random_network(model, method, size, folder, int8, length or LENGTH)


def check_peers(path: str) -> None:
    """Raises UserError where other engines are asked for, and the network is one of texts."""
    if load(path, backend="reference").input_kind == "text":
        raise UserError("--peers is for networks of images; benchmarks/texts.py times texts in other engines")


def random_network(
    name: str, method: str, size: int, folder: str, int8: bool = False, length: int = LENGTH
) -> tuple[str, tuple[Any, Any]]:
    """(packed file of a network with random weights, (the network, its full-precision parent) in PyTorch).

    The file is written into `folder`, for images of size × size pixels, or texts of `length` tokens. Raises UserError for an
    unknown name or method.
    """
    import torch

    from onebit import models, pack
    from onebit.data.inputs import Words
    from onebit.packing import pack as packing
    from onebit.packing.from_checkpoint import sources

    torch.manual_seed(0)
    text = models.MODELS[name].task == "text"
    words = Words((*SPECIAL, *(str(number) for number in range(WORDS - len(SPECIAL)))), length)
    own = words.arguments() if text else {"image_size": size}
    binary = models.create(name, method, **own).eval()
    parent = models.create(name, "float", **own).eval()
    path = os.path.join(folder, "random.safetensors")
    if int8:  # which packing then takes as they are
        real: list[Any] = [m for m in binary.modules() if type(m) in (torch.nn.Conv2d, torch.nn.Linear)]
        for layer in real:
            weight, scale = packing.quantized(layer.weight.detach().numpy())
            layer.weight.data = torch.from_numpy(float_weight(weight, scale))
    asked = {**sources(words), "task": "text"} if text else {"mean": [0.5] * 3, "std": [0.25] * 3}
    pack(binary, path, **asked, int8=int8)
    return path, (binary, parent)


class Inputs(NamedTuple):
    """The same random inputs for every contender."""

    # the first batch as a call of ours takes it: float32 (B, C, H, W), or uint8 (B, H, W, C); of a text three
    engine: list[np.ndarray]
    # all as PyTorch and the peers take them: normalised, float32 (B, C, H, W); texts int64 (B, 3, T)
    batches: list[np.ndarray]


def random_inputs(
    model: Model, batch: int, count: int, *, int8: bool = False, named: bool = False, length: int | None = None
) -> Inputs:
    """`count` batches for a network of one image, or one text, of `length` tokens if it is given. Raises UserError for others.

    int8    --int8: images are bytes; of texts, which never are, it is for a model that was given by name (`named`) alone
    """
    if model.input_kind == "text":
        if int8 and not named:
            raise UserError("--int8 is of images, or of a model given by name; leave it out")
        texts = [made_up(model.inputs, batch, np.random.default_rng(i), length) for i in range(count)]
        return Inputs(texts[0], [np.stack(text, 1).astype(np.int64) for text in texts])
    if length is not None:
        raise UserError(f"--length is of texts, and {model.name} takes images; leave it out")
    (image,) = (source for source in model.inputs if isinstance(source, Image))
    return random_images(image, batch, count, in_bytes=int8)


def random_images(image: Image, batch: int, count: int, *, in_bytes: bool = False) -> Inputs:
    """`count` batches of images: noise and a colour of its own each, so that logits differ between images. In bytes they are the
    nearest ones whose normalisation is that."""
    shape = image.shape
    random = np.random.default_rng(0)
    noise = random.standard_normal((count, batch, *shape), np.float32)
    batches = list(noise + random.standard_normal((count, batch, shape[0], 1, 1), np.float32))
    if not in_bytes:
        return Inputs(batches[:1], batches)
    mean, std = np.array(image.mean, np.float32), np.array(image.std, np.float32)
    pixels = [(images.transpose(0, 2, 3, 1) * std + mean) * 255 for images in batches]  # (B, H, W, C)
    given = [np.clip(np.rint(values), 0, 255).astype(np.uint8) for values in pixels]
    rounded = [image.normalized(images).transpose(0, 3, 1, 2) for images in given]
    return Inputs(given[:1], [np.ascontiguousarray(images) for images in rounded])


def what(inputs: list[np.ndarray]) -> str:
    """One of them in words."""
    return "image" if len(inputs) == 1 else f"text of {inputs[0].shape[1]} tokens"


def instruction_sets(isa: str) -> list[str | None]:
    """The names to force: [None] for `best`, all that this machine has for `all`, or those asked for ("avx2,scalar").

    Raises UserError for `all` where the engine is not built."""
    if isa == "best":
        return [None]
    if isa != "all":
        return [*isa.split(",")]
    return [*native.supported()]


def eager(network: Any, inputs: np.ndarray) -> Callable[[], Any]:
    """A call of the PyTorch network on inputs, float32 (B, C, H, W) or int64 (B, 3, T), that gives its logits, a tensor (B, classes), or its outputs
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
