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

from onebit import checkpoint, models
from onebit.data.cifar import CIFAR10_LABELS
from onebit.data.dataset import IMAGENET_MEAN, IMAGENET_STD
from onebit.errors import UserError


@dataclass(frozen=True)
class Importer:
    """model, method, structure   arguments of models.create
    renames                        (pattern, replacement) pairs applied in order to the authors' tensor names
    source                         where the file comes from, recorded in what is written
    """

    model: str
    method: str
    renames: Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]
    source: str
    structure: Mapping[str, Any] = field(default_factory=dict)


RESNET = (
    (r"^module\.", ""),
    (r"\blayer(\d)\.", lambda m: f"stages.{int(m[1]) - 1}."),
)
IMPORTERS = {
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
    ),
    "float-resnet20": Importer("resnet20", "float", RESNET, "akamaster/pytorch_resnet_cifar10"),
    "float-resnet56": Importer("resnet56", "float", RESNET, "akamaster/pytorch_resnet_cifar10"),
}
# Values of a schedule's end, which the authors' files do not hold and inference does not use.
SCHEDULES = re.compile(r"schedule\.[tk]$|num_batches_tracked$")


def read(path: str | Path) -> dict[str, torch.Tensor]:
    """The state dict of a checkpoint: the file itself, or its entry "state_dict"."""
    content = checkpoint.read(path, "give the authors' checkpoint")
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise UserError(f"{path} holds no state dict; give the file that the authors' training code saved")
    return state


def load(kind: str, path: str | Path) -> dict[str, Any]:
    """A checkpoint of onebit from the authors' file. Raises UserError naming any tensor left over, missing or misshapen."""
    if kind not in IMPORTERS:
        raise UserError(f"import: {kind!r} is unknown; choose one of {', '.join(sorted(IMPORTERS))}")
    importer = IMPORTERS[kind]
    model = models.create(importer.model, importer.method, structure=importer.structure)
    expected = model.state_dict()
    found: dict[str, torch.Tensor] = {}
    for name, value in read(path).items():
        ours = name
        for pattern, replacement in importer.renames:
            ours = re.sub(pattern, replacement, ours)
        if ours not in expected:
            raise UserError(f"{path}: tensor {name!r} has no place in {kind}; is the file of another network?")
        if value.shape != expected[ours].shape:
            shapes = f"{tuple(value.shape)}, {kind} has {tuple(expected[ours].shape)}"
            raise UserError(f"{path}: tensor {name!r} has shape {shapes}; is the file of another network?")
        if ours in found:
            raise UserError(f"{path}: two tensors are both {ours!r} of {kind}")
        found[ours] = value
    if missing := [name for name in expected if name not in found and not SCHEDULES.search(name)]:
        raise UserError(f"{path}: tensor {missing[0]!r} of {kind} is missing ({len(missing)} in all)")
    model.load_state_dict({**expected, **found}, strict=True)
    return {
        "config": model.config,
        "model": model.state_dict(),
        "labels": list(CIFAR10_LABELS),
        "normalization": {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)},
        "source": importer.source,
    }
