"""The training loop, visible whole, on Lightning Fabric: one process or many, CPU or GPU."""

import signal
from typing import Any

from lightning_fabric import Fabric

from onebit.data.loading.workers import deaths_explained
from onebit.errors import Stopped, UserError
from onebit.nn import layers
from onebit.tasks.score import score_module
from onebit.training import environment, processes
from onebit.training.devices import make_fabric, share_buffers
from onebit.training.non_finite import NonFiniteLoss, first_non_finite
from onebit.training.optimizer import set_learning_rate
from onebit.training.profiling import StepProfile
from onebit.training.progress import Progress
from onebit.training.recipe import Recipe
from onebit.training.run_folder import run_folder, write_run_files
from onebit.training.setup import Setup, set_up
from onebit.training.state import State, restore, save
from onebit.training.stopping import Stop


@deaths_explained()
def train(
    recipe: Recipe, *, resume: bool = False, name: str = "train", quiet: bool = False, profile: bool = False
) -> dict[str, Any]:
    """Train by the recipe; returns its scores in percent by name, and {"best", "epochs", "out", "seconds", "corrupt"}.

    The run folder receives recipe.json (resolved), last.ckpt, best.ckpt, metrics.csv and TensorBoard events. With `resume`,
    last.ckpt is continued: in deterministic mode on a CPU, to the same bits as a run that was never interrupted. With
    `profile`, profile.txt and profile.json.gz say where the time of a step goes.
    Raises UserError for unusable values, for a loss that is not finite, with step and layer, and where another rank or a
    worker dies; Stopped after SIGTERM or SIGINT, when the step in progress is done and saved.
    """
    fabric = make_fabric(recipe, environment.precision(recipe))
    with processes.launch(fabric):
        return train_rank(fabric, recipe, resume, name, quiet, profile)


def train_rank(fabric: Fabric, recipe: Recipe, resume: bool, name: str, quiet: bool, profile: bool) -> dict[str, Any]:
    """One rank of `train`."""
    environment.prepare(recipe, recipe.seed)
    out = run_folder(recipe.out or f"runs/{name}-{recipe.seed}", resume, fabric.is_global_zero)
    resumes = resume and (out / "last.ckpt").exists()
    setup = set_up(fabric, recipe, out, resumes, quiet)
    state = restore(setup, name) if resumes else State(name)
    write_run_files(out, recipe, fabric, resume, state.epoch, state.step)
    progress = Progress(
        fabric, setup.task, out, recipe.epochs, setup.steps, recipe.batch_size, state.epoch, shows=not quiet
    )
    with progress, Stop() as stop, StepProfile(out, profile and fabric.is_global_zero) as profiled:
        while state.epoch < recipe.epochs:
            train_epoch(setup, state, progress, stop, profiled)
            state.epoch, state.step, state.partial = state.epoch + 1, 0, None
            if state.epoch % recipe.eval_every == 0 or state.epoch == recipe.epochs:
                state.scores = test_scores(setup)
            progress.end_epoch(state.epoch - 1, setup.optimizer.param_groups[0]["lr"], state.scores)
            if state.improved():
                save(setup, state, "best.ckpt")
            save(setup, state, "last.ckpt")
    scores = state.scores or {}
    return {
        **scores,
        "scores": list(scores),
        "best": state.best,
        "epochs": recipe.epochs,
        "out": str(out),
        "seconds": round(state.seconds, 1),
        "corrupt": len(setup.train.corrupt),
    }


def train_epoch(setup: Setup, state: State, progress: Progress, stop: Stop, profiled: StepProfile) -> None:
    """The rest of the state's epoch, from its step on. Raises Stopped where a signal came, with the last step saved."""
    fabric, recipe, model = setup.fabric, setup.recipe, setup.model
    model.train()
    if state.step == 0:
        layers.set_progress(model, state.epoch / recipe.epochs)
        share_buffers(model, fabric)
    progress.start_epoch(state.epoch, state.partial)
    state.scores = None  # the weights change
    batches = setup.train.training_batches(
        setup.share, recipe.seed, state.epoch, state.step, fabric.global_rank, fabric.world_size
    )
    for number, batch in enumerate(batches, state.step):
        set_learning_rate(setup.optimizer, recipe, state.epoch * setup.steps + number, setup.steps)
        last = number + 1 == setup.steps
        saves = recipe.checkpoint_steps and (number + 1) % recipe.checkpoint_steps == 0 and not last
        # reading the loss waits for the device: at every step on a CPU, else where it is shown or saved
        checks = bool(fabric.device.type == "cpu" or saves or progress.due(number))
        try:
            loss, outputs = setup.step(batch.laid_out(setup.layout), checks)
        except NonFiniteLoss as error:
            raise UserError(
                f"the loss is {error.loss} at epoch {state.epoch}, step {number}; first not finite: "
                f"{first_non_finite(model, error.batch.inputs)}. Checkpoints in {setup.out} are from before; "
                "lower lr or set clip_grad_norm"
            ) from error
        progress.step(number, loss, outputs, batch)
        profiled.step()
        state.step = number + 1
        stopped_by = stop.agreed(fabric, checks)
        if saves or stopped_by:
            save(setup, state, "last.ckpt", progress.state())
        if stopped_by:
            raise stopped(setup, stopped_by, state.epoch, number)


def test_scores(setup: Setup) -> dict[str, float]:
    """Scores of the test examples, over all ranks, in percent by name."""
    fabric = setup.fabric
    share_buffers(setup.evaluated, fabric)
    size = 100 if fabric.device.type == "cpu" else 1000
    batches = setup.test.evaluation_batches(size, fabric.global_rank, fabric.world_size)
    scores, _ = score_module(setup.evaluated, batches, setup.task)
    return scores


def stopped(setup: Setup, number: int, epoch: int, step: int) -> Stopped:
    """What a training that a signal ended raises; one rank speaks for all."""
    where = f"stopped by {signal.Signals(number).name} after epoch {epoch}, step {step}; continue with --resume"
    path = setup.out / "last.ckpt"
    return Stopped(f"{where} ({path} is saved)" if setup.fabric.is_global_zero else "", number)
