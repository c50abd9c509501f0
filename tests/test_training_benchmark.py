"""The check of `onebit bench train`: small networks on few images pass it, wrong ones do not."""

import pytest
import torch

from onebit.bench import training
from onebit.bench.training import Trainee, bench_training, compile_checked, means_agree
from onebit.errors import UserError
from onebit.training.recipe import Recipe


def trainee(method: str, precision: str) -> Trainee:
    recipe = Recipe(precision=precision, accelerator="cpu")  # type: ignore[arg-type]
    return Trainee("resnet8", method, 8, 10, recipe, torch.device("cpu"))


def compiled_to(change: float):  # type: ignore[no-untyped-def]
    """A compiler whose code computes the loss times 1 + change."""

    def compile(self: torch.nn.Module, **options: object) -> None:
        forward = self.forward

        def changed(*inputs: torch.Tensor) -> object:
            loss, outputs = forward(*inputs)
            return loss * (1 + change), outputs

        self.forward = changed  # type: ignore[method-assign]

    return compile


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("method", ["float", "xnor", "adabin"])
def test_a_wrong_compiler_is_noticed(method, precision, monkeypatch):
    """By a loss off by half, also where the losses of a tiny network scatter; one that is right passes."""
    monkeypatch.setattr("onebit.training.objective.Objective.compile", compiled_to(0.0))
    small = trainee(method, precision)
    compile_checked(small, small.batch(8, 8))
    for change in (0.5, torch.nan):
        monkeypatch.setattr("onebit.training.objective.Objective.compile", compiled_to(change))
        small = trainee(method, precision)
        with pytest.raises(UserError, match="no time is reported"):
            compile_checked(small, small.batch(8, 8))


def test_losses_that_scatter_agree_in_the_mean(monkeypatch):
    """What rounding does to a tiny network: one loss is far off, those over noisy images are not."""
    assert means_agree([1.0, 2.0, 3.0, 2.2], [2.1, 1.2, 2.9, 2.0])
    assert not means_agree([7.0, 8.0, 9.0, 8.2], [2.1, 1.2, 2.9, 2.0])
    assert not means_agree([torch.nan] * 4, [2.1, 1.2, 2.9, 2.0])
    assert means_agree([2.0] * 4, [2.0] * 4)


def test_shapes_that_cannot_be_trained_are_one_line():
    for model, size, batch, says in (
        ("resnet8", 8, 1, "leaves 1 example"),
        ("vgg_small", 7, 4, "multiple of 8; choose 8"),
    ):
        with pytest.raises(UserError, match=says):
            bench_training(model, ["xnor"], size=size, batch=batch, compiled=False, rounds=2)


def test_noise_flips_signs():
    """More noise than the first check's, for every precision there is."""
    assert set(training.NOISE) == {"32-true", "bf16-mixed"} and min(training.NOISE.values()) > 1e-6
