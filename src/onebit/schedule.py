"""The learning rate over a training, as a multiple of the peak."""

import math

from onebit.recipe import Recipe


def learning_rate_factor(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Factor at optimizer step `step` (from 0): linear warm-up, then the recipe's schedule over the remaining steps.

    cosine    (1 + cos(pi f)) / 2          linear    1 - f
    step      gamma^(milestones <= F)      constant  1
    f is the fraction of the steps after warm-up that are done, F the fraction of all steps.
    """
    total = recipe.epochs * steps_per_epoch
    warmup = recipe.warmup_epochs * steps_per_epoch
    if step < warmup:
        return (step + 1) / (warmup + 1)
    f = min((step - warmup) / max(total - warmup, 1), 1.0)
    match recipe.schedule:
        case "cosine":
            return (1 + math.cos(math.pi * f)) / 2
        case "linear":
            return 1 - f
        case "step":
            return recipe.step_gamma ** sum(step >= milestone * total for milestone in recipe.step_milestones)
        case _:
            return 1.0
