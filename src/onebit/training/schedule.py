"""The learning rate over a training, as a multiple of the peak."""

import math

from onebit.training.recipe import Recipe


def peak_learning_rate(recipe: Recipe) -> float:
    """lr, times batch_size / lr_batch_size where the recipe names the batch size that lr was chosen for.

    The linear scaling rule: k times the images in a step, k times its length (Goyal et al. 2017, arXiv 1706.02677, sec. 2.1;
    they add a warm-up of 5 epochs, which is the key warmup_epochs).
    """
    return recipe.lr * recipe.batch_size / recipe.lr_batch_size if recipe.lr_batch_size else recipe.lr


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
