"""Where a training stands: what changes from step to step beside the weights, and its way into checkpoints and back."""

import dataclasses
import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch

from onebit.checkpoints import checkpoint
from onebit.checkpoints.checkpoint import Checkpoint, Progress
from onebit.errors import UserError
from onebit.training.non_finite import non_finite_parameter
from onebit.training.run_folder import check_same_recipe
from onebit.training.setup import Setup


@dataclass
class State:
    """epoch, step   what is done
    partial       sums over the epoch in progress, from before this process; None at its start
    scores        of the weights as they are, None if they were not evaluated
    best          best first score so far
    before        seconds of training before this process
    """

    name: str
    epoch: int = 0
    step: int = 0
    partial: dict[str, Any] | None = None
    scores: dict[str, float] | None = None
    best: float | None = None
    before: float = 0.0
    began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.began

    def improved(self) -> bool:
        """Whether the scores are the best so far, which they then are remembered to be."""
        first = next(iter(self.scores.values())) if self.scores else None
        if first is None or not first > (-math.inf if self.best is None else self.best):  # nor is NaN the best
            return False
        self.best = first
        return True


def restore(setup: Setup, name: str) -> State:
    """The state of the run folder's last checkpoint, whose weights setup's network and optimizer get.

    Raises UserError for a checkpoint of another recipe, network or version.
    """
    path = setup.out / "last.ckpt"
    saved = checkpoint.load(path)
    progress = saved.progress
    if progress is None:
        raise UserError(f"{path} was not written by a training and cannot be resumed; name another folder")
    if saved.config != setup.model.config:
        raise UserError(f"{path} holds {saved.config}, not this recipe's model; use the recipe of the run")
    check_same_recipe(setup.out, setup.recipe, progress.recipe)
    try:
        setup.model.load_state_dict(saved.model)
        setup.optimizer.load_state_dict(progress.optimizer)
        if setup.average is not None:
            setup.average.load_state_dict(progress.average)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path} does not fit: {reason}; it may be of another version; name another folder") from error
    torch.set_rng_state(progress.rng)
    return State(
        name, progress.epoch, progress.step, progress.partial, saved.scores, progress.best, before=progress.seconds
    )


def save(setup: Setup, state: State, file: str, partial: dict[str, Any] | None = None) -> None:
    """Write the run folder's `file`, on the first rank (a collective operation). Raises UserError for weights that are not
    finite: what is in the folder stays as it is."""
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
            seconds=state.seconds,
            rng=torch.get_rng_state(),
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
        checkpoint.save(setup.out / file, content)
    setup.fabric.barrier()
