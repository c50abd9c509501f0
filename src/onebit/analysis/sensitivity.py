"""Which layer's bits cost accuracy: what a trained network gains where one layer computes with real numbers instead.

A network that was trained binary has no working parent with real weights, so no layer can be made binary alone. The other
way round is defined: of one layer, one operand is left real, all else stays binary, and

    gain = accuracy of the network with that operand real - accuracy of the network as it is, in points

on the same test examples. The real operand is what is binarized, scaled as its signs are, so that nothing but its magnitudes
comes back:

    weights       s_o x_o / mean|x_o| + o_o per filter o: x what is binarized, s and o the binary form's scale and offset
    activations   s clamp(u / mean|u|, -2, 2) + o: u = x - threshold, mean over the batch

Both networks get the statistics of their batch norms from the same training examples first, since those belong to binary
operands. A gain near 0, or below, says that the layer loses nothing by its bits that the others had not learned to live with.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from onebit.analysis.activations import less_threshold
from onebit.analysis.examples import Source
from onebit.nn.binarizer import ActivationForm, WeightForm, filter_mean
from onebit.nn.latent import binarized
from onebit.nn.layers import BinaryConv2d, BinaryLinear, binary_layers
from onebit.tasks.score import score_module

TRAINING_EXAMPLES = 500  # from which batch norms take their statistics


def sensitivity(model: nn.Module, source: Source, images: int) -> dict[str, Any]:
    """{"images", "score" of the network with new statistics, "weights": gains in points by layer, "activations": likewise};
    None where a layer's operand is real already, or what is binarized is not known."""
    training = list(source.train(TRAINING_EXAMPLES, min(100, len(source.data.train))))
    testing = list(source.test(images))

    def first_score(network: nn.Module) -> float:
        update_bn((batch.laid_out(torch.channels_last).inputs for batch in training), network)
        scores, _ = score_module(network, testing, source.task)
        return next(iter(scores.values()))

    base = copy.deepcopy(model)
    reference = first_score(base)
    gains: dict[str, list[float | None]] = {"weights": [], "activations": []}
    for place in range(len(binary_layers(model))):
        for operand, replace in (("weights", real_weights), ("activations", real_activations)):
            network = copy.deepcopy(model)
            possible = replace(binary_layers(network)[place][1])
            gains[operand].append(first_score(network) - reference if possible else None)
    return {"images": sum(len(batch) for batch in testing), "score": reference, **gains}


def real_weights(layer: BinaryConv2d | BinaryLinear) -> bool:
    """Let the layer compute with real weights; False where it does already, or what is binarized is not known."""
    binarizer = layer.weight_binarizer
    if binarizer is None:
        return False
    weight = layer.weight.detach()
    forms = binarizer.freeze(weight)
    xs = binarized(binarizer, weight, forms)
    if not xs:
        return False
    real = torch.stack([scaled(x, form) for x, form in zip(xs, forms)]).sum(0)
    layer.weight.data.copy_(real)
    layer.weight_binarizer = None
    return True


def scaled(x: Tensor, form: WeightForm) -> Tensor:
    """s_o x_o / mean|x_o| + o_o per filter, shaped like x (O, ...); a filter of zeros stays its offset."""
    unit = filter_mean(x, magnitude=True)  # (O, 1, ...)
    per_channel = (-1, *[1] * (x.dim() - 1))
    real = form.scale.reshape(per_channel) * x / torch.where(unit > 0, unit, 1.0)
    return real if form.offset is None else real + form.offset.reshape(per_channel)


def real_activations(layer: BinaryConv2d | BinaryLinear) -> bool:
    """Let the layer compute with real activations; False where it does already."""
    binarizer = layer.activation_binarizer
    if binarizer is None:
        return False
    forms = binarizer.freeze()
    layer.activation_binarizer = None

    def hook(layer: Any, inputs: tuple[Tensor, ...]) -> Tensor:
        x = clamped(layer.as_binarized(inputs[0]), forms)  # (B, C, ...)
        return x.movedim(1, -1) if isinstance(layer, BinaryLinear) else x

    layer.register_forward_pre_hook(hook)
    return True


def clamped(x: Tensor, forms: tuple[ActivationForm, ...]) -> Tensor:
    """s clamp(u / mean|u|, -2, 2) + o, summed over the forms; x (B, C, ...)."""
    total = torch.zeros_like(x)
    for form in forms:
        u = less_threshold(x, form)
        total = total + form.scale * (u / u.abs().mean().clamp(min=1e-12)).clamp(-2, 2) + form.offset
    return total
