"""All that a training needs before its first step, built from the recipe in one order."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from onebit import data, models, tasks
from onebit.checkpoints.initial import initialize_from
from onebit.data.dataset import Data, Examples
from onebit.errors import UserError
from onebit.models.conversion import Conversion, one_sided
from onebit.models.thresholds import start_thresholds
from onebit.tasks.task import Task
from onebit.training.average import Average
from onebit.training.compilation import compile_step, compiles, replays
from onebit.training.devices import first_alone, share_of_batch, synchronize_norms
from onebit.training.distillation import distillation
from onebit.training.dry_run import check_fits
from onebit.training.environment import layout
from onebit.training.objective import Objective
from onebit.training.optimizer import freeze, make_optimizer
from onebit.training.recipe import ModelOptions, Recipe
from onebit.training.step import Step

CALIBRATION = 32  # examples


@dataclass
class Setup:
    """What a training works with.

    steps        optimizer steps an epoch
    share        examples of a step on one device
    model        the network; `average` its moving average, or None
    objective    of the training, not wrapped by fabric
    step         takes an optimizer step
    """

    fabric: Fabric
    recipe: Recipe
    out: Path
    data: Data
    task: Task
    train: Examples
    test: Examples
    steps: int
    share: int
    layout: torch.memory_format
    model: nn.Module
    average: Average | None
    optimizer: Any
    objective: Objective
    step: Step

    @property
    def evaluated(self) -> nn.Module:
        """The network whose score counts: the average, where there is one."""
        return self.model if self.average is None else self.average.module


def set_up(fabric: Fabric, recipe: Recipe, out: Path, resumes: bool, quiet: bool) -> Setup:
    """Load the data, build the network, its objective and its optimizer, on this rank's device.

    resumes: a checkpoint of this run will give the weights. Raises UserError for values that do not fit together.
    """
    source = first_alone(fabric, lambda: data.load(recipe.data, recipe.root, recipe))
    task = tasks.of_data(source, recipe)
    train, test = source.train.to(fabric.device), source.test.to(fabric.device)
    share = share_of_batch(recipe.batch_size, recipe.accumulate, fabric.world_size)
    steps = train.training_steps(share, fabric.world_size)
    if not steps:
        raise UserError(f"batch_size = {recipe.batch_size} exceeds the {len(train)} training examples")
    model = network(recipe, source, task)
    task.adopt(model)
    counted = f"batch_size = {recipe.batch_size} on {fabric.world_size} devices with accumulate = {recipe.accumulate}"
    together = fabric.world_size if recipe.sync_batch_norm else 1
    check_fits(model, source.inputs, together * share // recipe.accumulate, counted)
    fresh = True  # whether no file gives what activations learn
    if recipe.initial and not resumes:
        start = initialize_from(model, recipe.initial)
        fresh = any("weight_binarizer." not in name for name in start.fresh)
        for text in [] if quiet else start.lines(recipe.initial, len(task.labels)):
            fabric.print(text, file=sys.stderr)
    if not resumes and isinstance(table := getattr(model, "conversion", None), Conversion):
        start_thresholds(model, examples_of(train, model))  # a library's nonlinearities stand before its convolutions
        if not quiet:
            fabric.print(f"{recipe.model}: {table.totals}", file=sys.stderr)
        if not quiet and (warning := one_sided(model, table)):
            fabric.print(f"onebit: warning: {warning}", file=sys.stderr)
    if not resumes and fresh and getattr(model, "calibrates", False):
        start_thresholds(model, examples_of(train, model))
    if not quiet and (warning := getattr(model, "warning", "")):
        fabric.print(f"onebit: warning: {warning}", file=sys.stderr)
    freeze(model, recipe.freeze)
    if recipe.sync_batch_norm:
        model = synchronize_norms(model, fabric)
    maps = layout(recipe)
    model.to(memory_format=maps)
    objective = Objective(model, task, first_alone(fabric, lambda: distillation(recipe, source, task, maps, model)))
    average = Average(model, recipe.ema_decay) if recipe.ema_decay else None
    if average is not None:
        average.to(fabric.device)
    optimizer = make_optimizer(model, recipe)
    wrapped, optimizer = fabric.setup(objective, optimizer)
    step = Step(
        fabric,
        wrapped,
        optimizer,
        model,
        parts=recipe.accumulate,
        clip_grad_norm=recipe.clip_grad_norm,
        average=average,
    )
    if compiles(recipe, recipe.epochs * steps):
        compile_step(step, objective, replays(recipe, fabric.device, fabric.world_size))
    return Setup(
        fabric, recipe, out, source, task, train, test, steps, share, maps, model, average, optimizer, objective, step
    )


def examples_of(train: Examples, model: nn.Module) -> Tensor:
    """A batch of training examples, unaugmented, by which thresholds start; the same on all ranks."""
    batch = next(iter(train.some(CALIBRATION).evaluation_batches(CALIBRATION)))
    return batch.inputs.to(next(model.parameters()).device)


def network(options: ModelOptions, source: Data, task: Task) -> nn.Module:
    """The network of these options for the data's inputs and the task's outputs."""
    known = {**source.inputs.arguments(), **task.arguments()}
    if twice := sorted(set(known) & set(options.arguments)):
        raise UserError(f"recipe: arguments holds {twice[0]!r}, which the data set decides; leave it out")
    return models.create(
        options.model,
        options.method,
        options=options.options,
        structure=options.structure,
        binarize=options.binarize,
        **known,
        **options.arguments,
    )
