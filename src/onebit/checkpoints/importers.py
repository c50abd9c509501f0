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
    """model, method, structure   arguments of models.create
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
        "float-resnet20": Importer("resnet20", "float", RESNET, "akamaster/pytorch_resnet_cifar10", CIFAR10, CLASSES),
        "float-resnet56": Importer("resnet56", "float", RESNET, "akamaster/pytorch_resnet_cifar10", CIFAR10, CLASSES),
    },
)
# Values of a schedule's end, which the authors' files do not hold and inference does not use.
SCHEDULES = re.compile(r"surrogate\.[tk]$|num_batches_tracked$")


def load(kind: str, path: str | Path) -> Checkpoint:
    """A checkpoint of onebit from the authors' file. Raises UserError naming any tensor left over, missing or misshapen."""
    importer = IMPORTERS[kind]
    model = models.create(importer.model, importer.method, structure=importer.structure)
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
