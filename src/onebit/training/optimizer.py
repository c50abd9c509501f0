"""The optimizer of a training, its parameter groups, and its learning rate over time."""

import difflib
import fnmatch
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from onebit.errors import UserError
from onebit.training.recipe import OptimizerOptions


def freeze(model: nn.Module, choices: Sequence[str]) -> None:
    """Train all parameters but those that a choice names: by name, by that of a module around them, or by a pattern (* ? [).

    Raises UserError for a choice that names none, and where nothing is left to train.
    """
    names = dict(model.named_parameters())
    for choice in choices:
        found = [n for n in names if fnmatch.fnmatchcase(n, choice) or fnmatch.fnmatchcase(n, f"{choice}.*")]
        if not found:
            near = difflib.get_close_matches(choice, names, 1, 0)
            raise UserError(f"recipe: freeze holds {choice!r}, which names no parameter; one is called {near[0]!r}")
        for name in found:
            names[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in names.values()):
        raise UserError(f"recipe: freeze = {list(choices)!r} names all parameters; leave some to train")


def parameter_groups(model: nn.Module, options: OptimizerOptions) -> list[dict[str, Any]]:
    """Two groups: with weight decay and without (biases, norms, scales: anything with one value a channel)."""
    decayed: list[nn.Parameter] = []
    exempt: list[nn.Parameter] = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        per_channel = parameter.numel() <= max(parameter.shape[:2], default=1)
        (exempt if per_channel and not options.decay_norm_and_scalars else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": options.weight_decay}, {"params": exempt, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def make_optimizer(model: nn.Module, options: OptimizerOptions) -> torch.optim.Optimizer:
    """The optimizer at its peak learning rate; sgd is PyTorch's, without Nesterov's momentum."""
    groups, lr = parameter_groups(model, options), peak_learning_rate(options)
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr, options.momentum)
    # fused: one pass over a parameter and its three other tensors, in place of ten
    return (torch.optim.Adam if options.optimizer == "adam" else torch.optim.AdamW)(groups, lr, fused=True)


def peak_learning_rate(options: OptimizerOptions) -> float:
    """lr, times batch_size / lr_batch_size where the recipe names the batch size that lr was chosen for.

    The linear scaling rule: k times the examples in a step, k times its length (Goyal et al. 2017, arXiv 1706.02677, sec. 2.1;
    they add a warm-up of 5 epochs, which is the key warmup_epochs).
    """
    return options.lr * options.batch_size / options.lr_batch_size if options.lr_batch_size else options.lr


def learning_rate_factor(options: OptimizerOptions, step: int, steps_per_epoch: int) -> float:
    """Factor at optimizer step `step` (from 0): linear warm-up, then the schedule over the remaining steps.

    cosine    (1 + cos(pi f)) / 2          linear    1 - f
    step      gamma^(milestones <= F)      constant  1
    f is the fraction of the steps after warm-up that are done, F the fraction of all steps.
    """
    total = options.epochs * steps_per_epoch
    warmup = options.warmup_epochs * steps_per_epoch
    if step < warmup:
        return (step + 1) / (warmup + 1)
    f = min((step - warmup) / max(total - warmup, 1), 1.0)
    match options.schedule:
        case "cosine":
            return (1 + math.cos(math.pi * f)) / 2
        case "linear":
            return 1 - f
        case "step":
            return options.step_gamma ** sum(step >= milestone * total for milestone in options.step_milestones)
        case _:
            return 1.0


def set_learning_rate(optimizer: Any, options: OptimizerOptions, step: int, steps_per_epoch: int) -> None:
    """Give all groups the learning rate of optimizer step `step` (from 0, over the whole training)."""
    rate = peak_learning_rate(options) * learning_rate_factor(options, step, steps_per_epoch)
    for group in optimizer.param_groups:
        group["lr"] = rate
