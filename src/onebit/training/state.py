"""Where a training stands: what changes from step to step beside the weights, and its way into checkpoints and back."""

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import nn

from onebit import files
from onebit.checkpoints import checkpoint
from onebit.checkpoints.checkpoint import Checkpoint, Progress
from onebit.errors import UserError
from onebit.training.non_finite import non_finite_parameter
from onebit.training.run_folder import check_same_recipe
from onebit.training.setup import Setup
from onebit.training.signs import Signs


@dataclass
class State:
    """epoch, step   what is done
    partial       sums over the epoch in progress, from before this process; None at its start
    scores        of the weights as they are, None if they were not evaluated
    best          best first score so far, reached after `best_epoch` epochs
    changed       keys of the recipe that --extend changed: {key: [before, now]}
    before        seconds of training before this process
    signs         the course of the binary weights' signs
    """

    name: str
    epoch: int = 0
    step: int = 0
    partial: dict[str, Any] | None = None
    scores: dict[str, float] | None = None
    best: float | None = None
    best_epoch: int | None = None
    before: float = 0.0
    changed: dict[str, list[Any]] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)
    signs: Signs = field(default_factory=lambda: Signs(nn.Sequential(), 1))

    @property
    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.began

    def improved(self) -> bool:
        """Whether the scores are the best so far, which they then are remembered to be."""
        first = next(iter(self.scores.values())) if self.scores else None
        if first is None or not first > (-math.inf if self.best is None else self.best):  # nor is NaN the best
            return False
        self.best, self.best_epoch = first, self.epoch
        return True

    def stalled(self, epochs: int) -> bool:
        """Whether the last score was taken so many epochs after the best one, or more; 0 for never."""
        if not epochs or self.best_epoch is None or self.scores is None:
            return False
        return self.epoch - self.best_epoch >= epochs


def begin(setup: Setup, name: str) -> State:
    """The state of a training that has done nothing yet."""
    state = State(name, signs=watched(setup))
    state.signs.begin()
    return state


def watched(setup: Setup) -> Signs:
    """The signs that the first rank watches, if the recipe wants diagnostics: all ranks have the same."""
    return Signs(setup.model, setup.steps, setup.recipe.diagnostics and setup.fabric.is_global_zero)


def restore(setup: Setup, name: str, extend: bool) -> State:
    """The state of the run folder's last checkpoint, whose weights setup's network and optimizer get.

    extend: keys that lengthen a training may be others. Raises UserError for a checkpoint of another recipe, network,
    labels or version.
    """
    path = setup.out / "last.ckpt"
    saved = checkpoint.load(path)
    progress = saved.progress
    if progress is None:
        raise UserError(f"{path} was not written by a training and cannot be resumed; name another folder")
    if saved.config != setup.model.config:
        raise UserError(f"{path} holds {saved.config}, not this recipe's model; use the recipe of the run")
    check_same_labels(path, saved.task["labels"], setup.task.labels)
    changed = check_same_recipe(setup.out, setup.recipe, progress.recipe, extend)
    if setup.recipe.epochs < (begun := progress.epoch + bool(progress.step)):
        raise UserError(
            f"--extend: {setup.out} has begun {begun} epochs; choose at least so many, not {setup.recipe.epochs}"
        )
    try:
        setup.model.load_state_dict(saved.model)
        ours = [{key: group[key] for key in group if key in changed} for group in setup.optimizer.param_groups]
        setup.optimizer.load_state_dict(progress.optimizer)
        for group, values in zip(setup.optimizer.param_groups, ours, strict=True):
            group.update(values)  # momentum and weight decay, which the checkpoint has too
        if setup.average is not None:
            average: Any = progress.average
            setup.average.load_state_dict(average)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path} does not fit: {reason}; it may be of another version; name another folder") from error
    torch.set_rng_state(progress.rng)
    signs = watched(setup)
    signs.load(progress.signs, str(path))
    return State(
        name,
        progress.epoch,
        progress.step,
        progress.partial,
        saved.scores,
        progress.best,
        progress.best_epoch,
        before=progress.seconds,
        changed=changed,
        signs=signs,
    )


def check_same_labels(path: Path, before: Sequence[str] | None, now: Sequence[str]) -> None:
    """Refuse data whose classes have changed since the training began."""
    if before is None or list(before) == list(now):
        return
    old, new = next(((a, b) for a, b in zip_longest(before, now) if a != b), (None, None))
    raise UserError(
        f"--resume: {path} was trained on {len(before)} classes, the data set now has {len(now)}; the first that differs is "
        f"{new!r} (before: {old!r}); restore the data set, or name another folder with --out"
    )


def save(setup: Setup, state: State, names: Sequence[str], partial: dict[str, Any] | None = None) -> None:
    """Write these files of the run folder, on the first rank (a collective operation): one, under several names where the
    file system allows it. Raises UserError for weights that are not finite: what is in the folder stays as it is."""
    if culprit := non_finite_parameter(setup.model):
        raise UserError(
            f"the step before epoch {state.epoch}, step {state.step} made the parameter {culprit} not finite. "
            f"Checkpoints in {setup.out} are from before; lower lr or set clip_grad_norm"
        )
    if setup.fabric.is_global_zero:
        average: Any = setup.average
        progress = Progress(
            recipe=dataclasses.asdict(setup.recipe),
            optimizer=setup.optimizer.state_dict(),
            average=None if average is None else average.state_dict(),
            epoch=state.epoch,
            step=state.step,
            partial=partial,
            best=state.best,
            best_epoch=state.best_epoch,
            seconds=state.seconds,
            rng=torch.get_rng_state(),
            signs=state.signs.record(),
        )
        content = Checkpoint(
            config=setup.model.config,  # type: ignore[arg-type]
            model=setup.model.state_dict(),
            task=setup.task.record(),
            inputs=setup.data.inputs,
            source=state.name,
            scores=state.scores,
            ema=None if average is None else average.module.state_dict(),
            progress=progress,
        )
        first, *others = [setup.out / name for name in names]
        checkpoint.save(first, content)
        for path in others:
            if not files.link(first, path):
                checkpoint.save(path, content)
    setup.fabric.barrier()
