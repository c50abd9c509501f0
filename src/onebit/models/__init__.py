"""The model table: one family, one file, one line a model here. Importing it imports no PyTorch; using a row does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from onebit import methods
from onebit.errors import UserError
from onebit.tables import Table

if TYPE_CHECKING:
    from torch import nn

    from onebit.models.architecture import Architecture

MODELS: Table[Architecture] = Table(
    "model",
    {
        "resnet8": "onebit.models.resnet_cifar:resnet8",
        "resnet18": "onebit.models.resnet_cifar:resnet18",
        "resnet18a": "onebit.models.resnet_cifar:resnet18a",
        "resnet18b": "onebit.models.resnet_cifar:resnet18b",
        "resnet18c": "onebit.models.resnet_cifar:resnet18c",
        "resnet20": "onebit.models.resnet_cifar:resnet20",
        "resnet56": "onebit.models.resnet_cifar:resnet56",
        "imagenet_resnet18": "onebit.models.resnet_imagenet:imagenet_resnet18",
        "imagenet_resnet34": "onebit.models.resnet_imagenet:imagenet_resnet34",
        "fasterrcnn_resnet18_fpn": "onebit.models.faster_rcnn:fasterrcnn_resnet18_fpn",
        "vgg_small": "onebit.models.vgg_small:vgg_small",
        "alexnet": "onebit.models.alexnet:alexnet",
        "reactnet_a": "onebit.models.reactnet_a:reactnet_a",
        "meliusnet22": "onebit.models.meliusnet:meliusnet22",
        "meliusnet29": "onebit.models.meliusnet:meliusnet29",
        "meliusnet42": "onebit.models.meliusnet:meliusnet42",
        "meliusnet59": "onebit.models.meliusnet:meliusnet59",
        "bert": "onebit.models.bert:bert",
        "bert_base": "onebit.models.bert:bert_base",
        "minilm": "onebit.models.bert:minilm",
        "ssd300_resnet18": "onebit.models.ssd_resnet:ssd300_resnet18",
        "ssd300_vgg16": "onebit.models.ssd_vgg:ssd300_vgg16",
    },
    {"timm": "onebit.models.libraries:timm_network", "torchvision": "onebit.models.libraries:torchvision_network"},
)


def create(
    name: str,
    method: str = "float",
    *,
    options: Mapping[str, object] | None = None,
    structure: Mapping[str, object] | None = None,
    binarize: str = "both",
    **arguments: Any,
) -> nn.Module:
    """The network `name` of MODELS with its convolutions in `method` of METHODS; timm:NAME and torchvision:NAME too, without
    weights.

    options      the method's own, for example {"variant": "paper"}
    structure    what differs from the structure the method's paper uses, for example {"block": "bireal"}; see Structure.
                 Of timm:NAME and torchvision:NAME layers to leave real, and to convert all the same: {"skip": [names and
                 patterns], "also": [...]}
    binarize     "both" operands, or "activations" alone: the first step of two-step training, whose weights stay real
    arguments    of the network itself. Those for images take classes (10), in_channels (3) and image_size (32, of alexnet
                 224: height and width in pixels), with these defaults; those for words classes (2) and vocabulary

    The returned module carries `config`, the arguments that build it again: {"name", "method", the network's own, defaults
    included, "options", "structure", and "binarize" unless it is "both"}.
    Raises UserError for an unknown name, argument or value, and for an argument without a default that is not given.
    """
    architecture = MODELS[name]
    chosen = methods.create(method, **(options or {}))
    if binarize not in ("both", "activations"):
        raise UserError(f"binarize = {binarize!r} is unknown; choose both or activations")
    if binarize == "activations":
        if chosen.activation is None:
            raise UserError(
                f"binarize = 'activations': method {method!r} has no binary activations; choose another method"
            )
        chosen = dataclasses.replace(chosen, weight=None)
    arguments = architecture.resolve(name, arguments)
    wired = architecture.wiring(chosen, structure or {})
    model = architecture(chosen, wired, **arguments)
    model.config = {  # type: ignore[assignment]
        "name": name,
        "method": method,
        **arguments,
        "options": dict(options or {}),
        "structure": dict(structure or {}),
        **({} if binarize == "both" else {"binarize": binarize}),  # not all checkpoints' configs have it
    }
    return model


__all__ = ["MODELS", "create"]
