"""The optimizer of a recipe, with its parameter groups."""

from typing import Any

import torch
from torch import nn

from onebit.training.recipe import Recipe
from onebit.training.schedule import peak_learning_rate


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Two groups: with weight decay and without (biases, norms, scales: anything with one value a channel)."""
    decayed: list[nn.Parameter] = []
    exempt: list[nn.Parameter] = []
    for parameter in model.parameters():
        per_channel = parameter.numel() <= max(parameter.shape[:2], default=1)
        (exempt if per_channel and not recipe.decay_norm_and_scalars else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": exempt, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer at its peak learning rate; sgd is PyTorch's, without Nesterov's momentum."""
    groups, lr = parameter_groups(model, recipe), peak_learning_rate(recipe)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr, recipe.momentum)
    return (torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW)(groups, lr)
