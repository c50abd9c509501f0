"""The model table: one family, one file, one line a model here."""

import dataclasses
from collections.abc import Mapping

from torch import nn

from onebit import methods
from onebit.errors import UserError
from onebit.models.resnet_cifar import resnet8, resnet18, resnet20, resnet56
from onebit.models.resnet_imagenet import imagenet_resnet18, imagenet_resnet34
from onebit.models.vgg_small import vgg_small

MODELS = {
    "resnet8": resnet8,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "resnet56": resnet56,
    "imagenet_resnet18": imagenet_resnet18,
    "imagenet_resnet34": imagenet_resnet34,
    "vgg_small": vgg_small,
}


def create(
    name: str,
    method: str = "float",
    *,
    classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    options: Mapping[str, object] | None = None,
    structure: Mapping[str, object] | None = None,
    binarize: str = "both",
) -> nn.Module:
    """The network `name` of MODELS with its convolutions in `method` of METHODS.

    options      the method's own, for example {"variant": "paper"}
    structure    what differs from the structure the method's paper uses, for example {"block": "bireal"}; see Structure
    binarize     "both" operands, or "activations" alone: the first step of two-step training, whose weights stay real

    The returned module carries `config`, the arguments that build it again. Raises UserError for an unknown name or value.
    """
    if name not in MODELS:
        raise UserError(f"model {name!r} is unknown; choose one of {', '.join(sorted(MODELS))}")
    chosen = methods.create(method, **(options or {}))
    if binarize not in ("both", "activations"):
        raise UserError(f"binarize = {binarize!r} is unknown; choose both or activations")
    if binarize == "activations":
        if chosen.activation is None:
            raise UserError(
                f"binarize = 'activations': method {method!r} has no binary activations; choose another method"
            )
        chosen = dataclasses.replace(chosen, weight=None)
    model: nn.Module = MODELS[name](
        chosen, chosen.structure_of(name, **(structure or {})), classes, in_channels, image_size
    )
    model.config = {  # type: ignore[assignment]
        "name": name,
        "method": method,
        "classes": classes,
        "in_channels": in_channels,
        "image_size": image_size,
        "options": dict(options or {}),
        "structure": dict(structure or {}),
        **({} if binarize == "both" else {"binarize": binarize}),  # as checkpoints from before it existed
    }
    return model


__all__ = ["MODELS", "create"]
