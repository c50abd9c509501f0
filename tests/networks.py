"""Networks for the tests of packing: settled as by a training, packed, and compared with PyTorch in both backends."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import checks
from onebit import pack
from onebit.nn import BinaryConv2d, BinaryLinear, Maxout, RPReLU, binary_layers, set_progress
from onebit.nn.binarizer import ActivationForm, WeightForm
from onebit.runtime import load, native

BACKENDS = ["engine", "reference"] if native.available() else ["reference"]


@torch.no_grad()
def settle(model: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """A model as training leaves it: batch statistics of its own activations, parameters of both signs."""
    checks.disturb(model)
    set_progress(model, 0.5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # the running statistics become those of the batches below
            size = 0.5 + torch.rand_like(module.weight)
            module.weight.copy_(torch.where(torch.rand_like(size) < 0.3, -size, size))
            module.bias.normal_(0, 0.3)
        elif isinstance(module, Maxout | RPReLU | nn.PReLU):
            for parameter in module.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        elif isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            module.bias.normal_(0, 0.3)
    model.train()
    model(torch.randn(6, *shape))
    return model.eval()


class Watch:
    """Records, while a model runs, how close to its threshold the closest activation of each image came.

    Float32 sums differ in their last digits between PyTorch and the engine. An activation closer to its threshold than
    that takes either value, and the image's logits then say nothing.
    """

    def __init__(self, model: nn.Module, images: int):
        self.margin = torch.full((images,), math.inf)
        for _, layer in binary_layers(model):
            layer.register_forward_pre_hook(self.see)

    def see(self, layer: nn.Module, inputs: tuple[Tensor]) -> None:
        (x,) = inputs
        for form in layer.activation_binarizer.freeze():
            threshold = form.threshold
            if isinstance(threshold, str):
                threshold = x.mean(dim=tuple(range(1, x.dim())), keepdim=True)
            elif isinstance(threshold, Tensor):
                threshold = threshold.reshape(1, -1, *[1] * (x.dim() - 2))
            relative = ((x - threshold).abs() / x.square().mean().sqrt()).flatten(1).amin(1)
            self.margin = torch.minimum(self.margin, relative)


Pair = tuple[WeightForm, ActivationForm]


def pairs_of(name: str, layer: BinaryConv2d | BinaryLinear) -> dict[str, Pair]:
    """The binary nodes that a layer becomes, each with its forms."""
    weights, activations = layer.weight_binarizer.freeze(layer.weight.detach()), layer.activation_binarizer.freeze()
    if len(weights) == len(activations) == 1:
        return {name: (weights[0], activations[0])}
    return {f"{name}.a{j}w{i}": (w, a) for j, a in enumerate(activations) for i, w in enumerate(weights)}


def binary_sums(layer: BinaryConv2d | BinaryLinear, pair: Pair, x: np.ndarray) -> Tensor:
    """The integer sums A*B of a layer's pair of forms by PyTorch's convolution of +-1 in float64, from the engine's own
    input x."""
    values = torch.from_numpy(x).double()
    signs, threshold = pair[0].signs.double(), pair[1].threshold
    if isinstance(threshold, str):
        threshold = torch.from_numpy(x).double().mean(dim=tuple(range(1, x.ndim)), keepdim=True).float().double()
    elif isinstance(threshold, Tensor):
        threshold = threshold.double().reshape(1, -1, *[1] * (x.ndim - 2))
    a = torch.where(values >= threshold, 1.0, -1.0).double()
    if isinstance(layer, BinaryLinear):
        return a @ signs.T
    return F.conv2d(a, signs, None, layer.stride, layer.padding, layer.dilation, layer.groups)


def check(
    model: nn.Module,
    path: Path,
    shape: tuple[int, int, int],
    images: int = 6,
    oracle_images: int = 2,
    flattened: dict[str, tuple[int, int, int]] | None = None,
    backends: Sequence[str] = BACKENDS,
) -> None:
    """Pack, load in the backends, and compare: sums to the integer, logits to 1e-3.

    flattened: (C, H, W) of the maps that linear layers read; the file orders their elements (H, W, C).
    """
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pack(model, path, input_shape=shape)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "pack changed the model"
    x = torch.randn(images, *shape)
    runtimes = [load(path, backend=backend) for backend in backends]
    traces = [runtime.trace(x[:oracle_images].numpy()) for runtime in runtimes]
    named = dict(binary_layers(model))
    nodes = {node["name"]: node for node in runtimes[0].graph["nodes"]}
    products = {node: (name, pair) for name, layer in named.items() for node, pair in pairs_of(name, layer).items()}
    assert named.keys() | products.keys() <= nodes.keys()
    for name, (layer_name, pair) in products.items():
        layer = named[layer_name]
        sums = [trace[f"{name}:accumulator"] for trace in traces]
        assert all(s.dtype == np.int32 for s in sums)
        assert all(np.array_equal(s, sums[0]) for s in sums)
        source = nodes[name]["inputs"][0]
        source = traces[0][source] if source in nodes else x[:oracle_images].numpy()
        if layer_name in (flattened or {}):
            channels, height, width = flattened[layer_name]
            source = source.reshape(-1, height, width, channels).transpose(0, 3, 1, 2).reshape(len(source), -1)
        expected = binary_sums(layer, pair, source).numpy()
        turned = np.abs(expected - sums[0]).sum(axis=(0, *range(2, expected.ndim))) != 0
        expected[:, turned] *= -1  # a negative scale is moved into the bits of its channel, whole
        np.testing.assert_array_equal(sums[0], expected, err_msg=name)
    watch = Watch(model, images)
    with torch.inference_mode():
        logits = model(x).numpy()
    counted = (watch.margin > 2e-6).numpy()
    assert counted.sum() >= 2, "too many images with an activation on its threshold; take another seed"
    for runtime, part in zip(runtimes, (images, oracle_images), strict=False):
        chosen = counted[:part]
        difference = np.abs(runtime(x[:part].numpy()) - logits[:part])[chosen]
        assert difference.size == 0 or difference.max() < 1e-3 * max(1.0, np.abs(logits).max())


SHAPES = {"resnet8": (3, 13, 11), "resnet20": (3, 13, 11), "resnet18": (3, 12, 9), "vgg_small": (3, 8, 8)}
