"""The training loop, visible whole, on Lightning Fabric: one process or many, CPU or GPU."""

import signal
from itertools import islice
from typing import Any

import torch

from onebit.data.loading.workers import deaths_explained
from onebit.errors import Stopped, UserError
from onebit.machine.heap import give_back
from onebit.tasks.score import score_module
from onebit.training import environment, processes
from onebit.training.devices import make_fabric, share_buffers
from onebit.training.diagnostics import record_epoch
from onebit.training.memory import shortage_explained
from onebit.training.non_finite import NonFiniteLoss, first_non_finite
from onebit.training.optimizer import set_learning_rate
from onebit.training.profiling import StepProfile
from onebit.training.progress import Progress
from onebit.training.recipe import Recipe, check_names
from onebit.training.run_folder import run_folder, write_run_files
from onebit.training.setup import Setup, set_up
from onebit.training.state import State, begin, restore, save
from onebit.training.stopping import Interrupted, Stop

UNEVEN = 500  # steps after which batches of many sizes give back the memory that they left in pieces


@deaths_explained()
def train(
    recipe: Recipe,
    *,
    resume: bool = False,
    extend: bool = False,
    name: str = "train",
    quiet: bool = False,
    profile: bool = False,
) -> dict[str, Any]:
    """Train by the recipe; returns its scores in percent by name, and {"best", "best_checkpoint", "last_checkpoint",
    "epochs", "out", "seconds", "corrupt"}.

    The run folder receives recipe.json (resolved), last.ckpt, best.ckpt, metrics.csv, diagnostics.jsonl and TensorBoard
    events. With `resume`,
    last.ckpt is continued: in deterministic mode on a CPU, to the same bits as a run that was never interrupted. With
    `extend`, it must be there, and epochs, learning rate and the like may be others than before. With
    `profile`, profile.txt and profile.json.gz say where the time of a step goes.
    Raises UserError for unusable values, for a loss that is not finite, with step and layer, and where another rank or a
    worker dies; Stopped after SIGTERM or SIGINT, when the step in progress is done and saved.
    """
    check_names(recipe)
    resume = resume or extend
    fabric = make_fabric(recipe, environment.precision(recipe))
    with processes.launch(fabric, recipe.timeout) as group:
        environment.prepare(recipe, recipe.seed, speaks=fabric.is_global_zero)
        with (
            shortage_explained(recipe),
            run_folder(recipe.out or f"runs/{name}-{recipe.seed}", resume, fabric) as out,
        ):
            group.out = out
            resumes = resume and (out / "last.ckpt").exists()
            if extend and not resumes:
                raise UserError(
                    f"--extend: {out} holds no run; leave --extend out, or name the run's folder with --out"
                )
            setup = set_up(fabric, recipe, out, resumes, quiet)
            state = restore(setup, name, extend) if resumes else begin(setup, name)
            return train_rank(setup, state, resume, quiet, profile)


def train_rank(setup: Setup, state: State, resume: bool, quiet: bool, profile: bool) -> dict[str, Any]:
    """One rank of `train`, from the state on."""
    fabric, recipe, out = setup.fabric, setup.recipe, setup.out
    write_run_files(out, recipe, fabric, resume, state.epoch, state.step, state.changed)
    progress = Progress(
        fabric, setup.task, out, recipe.epochs, setup.steps, recipe.batch_size, state.epoch, shows=not quiet
    )
    with progress, Stop() as stop, StepProfile(out, profile and fabric.is_global_zero) as profiled:
        while state.epoch < recipe.epochs and not state.stalled(recipe.early_stop):
            train_epoch(setup, state, progress, stop, profiled)
            if state.epoch + 1 == recipe.epochs:
                reestimate_norms(setup)
            if (state.epoch + 1) % recipe.eval_every == 0 or state.epoch + 1 == recipe.epochs:
                state.scores = test_scores(setup, state, progress, stop)
            state.epoch, state.step, state.partial = state.epoch + 1, 0, None
            progress.end_epoch(state.epoch - 1, setup.optimizer.param_groups[0]["lr"], state.scores)
            record_epoch(out, state.epoch, state.signs, setup.model, progress.events)
            save(setup, state, ("best.ckpt", "last.ckpt") if state.improved() else ("last.ckpt",))
    scores = state.scores or {}
    return {
        **scores,
        "scores": list(scores),
        "best": state.best,
        "best_checkpoint": str(out / "best.ckpt") if state.best is not None else None,
        "last_checkpoint": str(out / "last.ckpt"),
        "epochs": state.epoch,
        "out": str(out),
        "seconds": round(state.seconds, 1),
        "corrupt": len(setup.train.corrupt),
    }


def train_epoch(setup: Setup, state: State, progress: Progress, stop: Stop, profiled: StepProfile) -> None:
    """The rest of the state's epoch, from its step on. Raises Stopped where a signal came, with the last step saved."""
    fabric, recipe, model = setup.fabric, setup.recipe, setup.model
    model.train()
    setup.objective.set_progress(state.epoch / recipe.epochs, begins=state.step == 0)
    if state.step == 0:
        share_buffers(model, fabric)
        state.signs.start_epoch()
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
        state.signs.after_step(number)
        profiled.step()
        if not setup.data.inputs.even and (number + 1) % UNEVEN == 0:
            give_back()
        state.step = number + 1
        stopped_by = stop.agreed(fabric, checks)
        if saves or stopped_by:
            save(setup, state, ("last.ckpt",), progress.state())
        if stopped_by:
            raise stopped(setup, stopped_by, state)


def reestimate_norms(setup: Setup) -> None:
    """Batch norms' means and variances over the recipe's number of training batches, in place of moving averages.

    The last steps flip signs, after which a moving average still holds what the norms saw before.
    """
    batches = setup.train.training_batches(setup.share, setup.recipe.seed, setup.recipe.epochs)  # as of an epoch more
    inputs = (batch.laid_out(setup.layout).inputs for batch in islice(batches, setup.recipe.reestimate_norms))
    if setup.recipe.reestimate_norms:
        torch.optim.swa_utils.update_bn(inputs, setup.evaluated)


def test_scores(setup: Setup, state: State, progress: Progress, stop: Stop) -> dict[str, float]:
    """Scores of the test examples, over all ranks, in percent by name.

    Raises Stopped where a signal came, with the state saved in which the epoch's last step is done and the evaluation not
    begun: a run that continues begins with it.
    """
    fabric, random = setup.fabric, torch.get_rng_state()
    share_buffers(setup.evaluated, fabric)
    size = 100 if fabric.device.type == "cpu" else 1000
    batches = setup.test.evaluation_batches(size, fabric.global_rank, fabric.world_size)
    try:
        scores, _ = score_module(setup.evaluated, stop.between(batches, fabric), setup.task)
    except Interrupted as error:
        torch.set_rng_state(random)
        save(setup, state, ("last.ckpt",), progress.state())
        raise stopped(setup, error.number, state) from None
    return scores


def stopped(setup: Setup, number: int, state: State) -> Stopped:
    """What a training that a signal ended raises; one rank speaks for all."""
    done = f"epoch {state.epoch}, step {state.step - 1}"
    where = f"stopped by {signal.Signals(number).name} after {done}; continue with --resume"
    path = setup.out / "last.ckpt"
    return Stopped(f"{where} ({path} is saved)" if setup.fabric.is_global_zero else "", number)
