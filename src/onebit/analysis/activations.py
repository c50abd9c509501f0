"""What reaches the activations' binarizers, on test examples: distributions, and what their signs say.

Of a layer's input x and the threshold tau, u = x - tau; A = sign(u), and the binary values offset -+ scale:

    entropy           H of the share of +1 over the layer, in bits (`onebit.nn.measures`)
    entropy_channels  the mean over channels of H of their shares
    kl                KL(P || Q) in bits: P the distribution of u, Q that of the two binary values less the mean of tau
    angle             between u and A as one vector, in degrees
"""

from typing import Any

import torch
from torch import Tensor, nn

from onebit.nn.binarizer import ActivationForm
from onebit.nn.layers import binary_layers
from onebit.nn.measures import cosine, divergence, entropy, histogram


@torch.no_grad()
def activation_measures(model: nn.Module, inputs: Tensor) -> list[dict[str, Any] | None]:
    """For each binary layer of a model in evaluation mode {"entropy", "entropy_channels", "kl", "angle", "share", "values",
    "histogram" of u}, None where its activations are real. inputs (B, C, H, W); of several forms the first is described.
    """
    layers = [layer for _, layer in binary_layers(model)]
    found: list[dict[str, Any] | None] = [None] * len(layers)

    def watch(place: int) -> Any:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            binarizer = layers[place].activation_binarizer
            if binarizer is not None:
                found[place] = described(layers[place].as_binarized(arguments[0].float()), binarizer.freeze()[0])

        return hook

    handles = [layer.register_forward_pre_hook(watch(place)) for place, layer in enumerate(layers)]
    try:
        model(inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def described(x: Tensor, form: ActivationForm) -> dict[str, Any]:
    """The measures of one layer's x (B, C, ...)."""
    u = less_threshold(x, form)
    centre = 0.0 if isinstance(form.threshold, str) else float(torch.as_tensor(form.threshold).mean())
    signs = form.signs(x)
    positive = (signs > 0).float()
    low, high = form.offset - form.scale - centre, form.offset + form.scale - centre
    share = positive.mean()
    return {
        "entropy": entropy(share).item(),
        "entropy_channels": entropy(positive.transpose(0, 1).flatten(1).mean(1)).mean().item(),
        "kl": divergence(u, low, high, share.item()),
        "angle": torch.rad2deg(torch.acos(cosine(u, signs).clamp(-1, 1))).item(),
        "share": share.item(),
        "values": [low, high],
        "histogram": histogram(u),
    }


def less_threshold(x: Tensor, form: ActivationForm) -> Tensor:
    """u = x - threshold, shaped like x (B, C, ...): what the form takes the signs of."""
    if isinstance(form.threshold, str):
        return x - x.mean(dim=tuple(range(1, x.dim())), keepdim=True)
    if isinstance(form.threshold, Tensor):
        return x - form.threshold.reshape(1, -1, *[1] * (x.dim() - 2)).to(x)
    return x - form.threshold
