"""Checkpoints of training: what they hold, written to a temporary name and renamed, read without executing anything."""

import dataclasses
import re
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from onebit import files, models, tasks
from onebit.checkpoints import weights
from onebit.data.inputs import Images, Words, inputs_of
from onebit.errors import UserError
from onebit.options import fits

VERSION = 3


@dataclass
class Progress:
    """Where a training stands, with all that it needs to go on to the same bits.

    recipe        every key
    optimizer     state dict
    average       state dict of the moving average of the weights, or None
    epoch, step   what is done
    partial       sums over the epoch in progress, None at its end
    best          best score so far in percent, None before the first
    seconds       of training so far
    rng           state of PyTorch's generator
    best_epoch    epochs that were done when it was reached; None where an earlier version wrote the file
    signs         of binary weights that the training remembers, see `onebit.training.signs`; None where it watches none
    """

    recipe: dict[str, Any]
    optimizer: dict[str, Any]
    average: dict[str, Any] | None
    epoch: int
    step: int
    partial: dict[str, Any] | None
    best: float | None
    seconds: float
    rng: torch.Tensor
    signs: dict[str, Any] | None = None
    best_epoch: int | None = None


@dataclass
class Checkpoint:
    """A network's weights, and what is known of them.

    config     arguments of `models.create`
    model      state dict
    task       {"name", "labels"}, and "settings" where its outputs need some to be read; labels are None where nobody knows them
    inputs     what the network takes, None where nobody knows
    source     name of the recipe, or where an imported file comes from
    scores     of the weights as they are (of the averaged ones, where there are some) in percent, None if nobody measured
    ema        state dict of the averaged weights
    progress   of a training, None in what no training wrote
    where      the file this was read from, for messages; not part of the file
    """

    config: dict[str, Any]
    model: dict[str, Any]
    task: dict[str, Any]
    inputs: Images | Words | None = None
    source: str | None = None
    scores: dict[str, float] | None = None
    ema: dict[str, Any] | None = None
    progress: Progress | None = None
    where: str = field(default="the checkpoint", compare=False)

    @property
    def score(self) -> float | None:
        """The first of the scores: what best.ckpt goes by."""
        return next(iter(self.scores.values())) if self.scores else None

    def network(self, averaged: bool = True) -> nn.Module:
        """The model in evaluation mode, NHWC; its averaged weights where there are some and `averaged` is true.

        Raises UserError for weights that do not fit the architecture.
        """
        state = (self.ema if averaged else None) or self.model
        try:
            largest = max((value.numel() for value in state.values()), default=0)
            _check_size(self.config, largest)
            model = models.create(**self.config)
        except UserError as error:
            raise UserError(f"{self.where} does not fit the architecture it names: {error}") from error
        except (ArithmeticError, AttributeError, MemoryError, RuntimeError, TypeError, ValueError) as error:
            reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
            raise UserError(
                f"{self.where} does not fit the architecture it names: {reason}; it may be damaged"
            ) from error
        what = "averaged weights" if averaged and self.ema else "weights"
        network = f"{self.config.get('name')!r} of method {self.config.get('method', 'float')!r}"
        where = f"{self.where} does not fit the architecture it names: its {what}"
        weights.load(model, state, where, network, "the file may be damaged")
        return model.to(memory_format=torch.channels_last).eval()


def _check_size(config: dict[str, Any], largest: int) -> None:
    """Refuse a config whose numbers ask for far more memory than the file's weights have, before any is allocated."""
    for key, value in config.items():
        if type(value) is int and value > 4096 and value > largest:
            raise UserError(f"{key} = {value}, where the largest tensor has {largest} elements; it may be damaged")


def save(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write atomically: whatever happens, `path` holds either its old content or the new one, whole."""
    content: dict[str, Any] = {"version": VERSION}
    for entry in dataclasses.fields(Checkpoint):
        value = getattr(checkpoint, entry.name)
        if isinstance(value, Images | Words):
            value = value.record()
        elif isinstance(value, Progress):
            value = {part.name: getattr(value, part.name) for part in dataclasses.fields(value)}
        if entry.compare:
            content[entry.name] = value
    files.write(path, lambda file: torch.save(content, file))


def load(path: str | Path) -> Checkpoint:
    """Read a checkpoint of onebit, of this version or an earlier one. Raises UserError for anything that is not one."""
    content = weights.read_torch(path, "name a checkpoint such as runs/NAME/last.ckpt", "checkpoint")
    if not isinstance(content, dict) or "model" not in content or not isinstance(content.get("config"), dict):
        raise UserError(
            f"{path} is not a checkpoint of onebit, it holds {_words(content)}; papers' weights are read by `onebit import`, "
            "your own network is packed in Python: onebit.pack(model, ...)"
        )
    version = content.pop("version", 1)
    if type(version) is not int or not 1 <= version <= VERSION:
        raise UserError(f"{path}: checkpoint version {version!r}, this onebit reads 1 to {VERSION}; update it")
    if version == 1:
        content = from_version_1(content, str(path))
    if version < 3:
        surrogates_renamed(content)
    if content.get("progress") is not None:
        content["progress"] = checked(Progress, content["progress"], path)
    if content.get("inputs") is not None:
        content["inputs"] = inputs_of(content["inputs"], str(path))
    checkpoint: Checkpoint = checked(Checkpoint, content | {"where": str(path)}, path)
    for name, state in (("model", checkpoint.model), ("ema", checkpoint.ema or {})):
        if wrong := [
            key for key, value in state.items() if type(key) is not str or not isinstance(value, torch.Tensor)
        ]:
            raise UserError(f"{path}: {name}[{wrong[0]!r}] is no tensor; the file may be damaged")
    labels, scores = checkpoint.task.get("labels"), checkpoint.scores or {}
    if type(checkpoint.task.get("name")) is not str or not (labels is None or fits(labels, list[str])):
        raise UserError(f"{path}: task must have a name, and labels that are texts; the file may be damaged")
    if type(checkpoint.task.get("settings", {})) is not dict:
        raise UserError(f"{path}: settings of the task must be a table; the file may be damaged")
    if not all(type(name) is str and fits(value, float) for name, value in scores.items()):
        raise UserError(f"{path}: scores must be numbers; the file may be damaged")
    tasks.TASKS.check(checkpoint.task["name"])
    return checkpoint


def _words(content: Any) -> str:
    """What a PyTorch file holds, for an error."""
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    if content and all(isinstance(value, torch.Tensor) for value in content.values()):
        return f"weights alone (a state dict of {len(content)} tensors)"
    return "entries of another program: " + ", ".join(sorted(map(str, content))[:5])[:200]


def checked(kind: Any, content: Any, path: str | Path) -> Any:
    """A Checkpoint or Progress of these fields. Raises UserError for one that lacks, is unknown, or has another type."""
    hints = typing.get_type_hints(kind)
    required = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING]
    if not isinstance(content, dict) or set(content) - set(hints) or set(required) - set(content):
        names = (
            sorted(set(content) ^ set(hints), key=str)[:3] if isinstance(content, dict) else [type(content).__name__]
        )
        raise UserError(f"{path}: the fields of its {kind.__name__.lower()} are others ({names}); it may be damaged")
    for name, value in content.items():
        if not fits(value, hints[name]):
            raise UserError(f"{path}: {name} is of the type {type(value).__name__}; it may be damaged")
    return kind(**content)


def surrogates_renamed(content: dict[str, Any]) -> None:
    """Give the schedules' buffers their names of version 3, in the states of weights and of their averages."""
    progress = content.get("progress")
    holders = [(content, "model"), (content, "ema"), (progress if isinstance(progress, dict) else {}, "average")]
    for holder, name in holders:
        state = holder.get(name)
        if isinstance(state, dict):
            holder[name] = {
                re.sub(r"(_binarizer\.)schedule(\.[tk])$", r"\1surrogate\2", str(k)): v for k, v in state.items()
            }


def from_version_1(content: dict[str, Any], path: str) -> dict[str, Any]:
    """The fields of a checkpoint from before there were tasks: of classifiers of images."""
    config, normalization = content["config"], content.get("normalization")
    inputs = None
    if normalization is not None:
        inputs = {"kind": "image", "channels": config.get("in_channels", 3), "size": config.get("image_size", 32)}
        inputs |= {"normalization": normalization, "resize": content.get("resize")}
    progress: dict[str, Any] | None = None
    if "optimizer" in content:
        names = [entry.name for entry in dataclasses.fields(Progress)]
        progress = {name: content.get(name) for name in names}
        if sums := content.get("partial"):
            right, all_of_them = (torch.tensor([int(sums[key])]) for key in ("correct", "images"))
            wrong = all_of_them - right
            counts = {"tp": right, "fp": wrong, "fn": wrong, "tn": torch.zeros_like(right)}
            partial = {key: sums[key] for key in ("loss", "seconds", "rate")}
            progress["partial"] = partial | {"examples": sums["images"], "score": {"accuracy": counts}}
    accuracy = content.get("accuracy")
    return {
        "config": config,
        "model": content["model"],
        "task": {"name": "classification", "labels": content.get("labels")},
        "inputs": inputs,
        "source": content.get("source"),
        "scores": None if accuracy is None else {"accuracy": accuracy},
        "ema": content.get("ema"),
        "progress": progress,
    }
