"""Recipes that no step can be taken with, threads that the machine does not have, names that are in no table: one line, at once."""

import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from onebit import models
from onebit.cli import main as cli
from onebit.data.inputs import Images, Normalization
from onebit.errors import UserError
from onebit.machine import processor
from onebit.training import dry_run, environment
from onebit.training.recipe import Recipe
from runs import ENVIRONMENT, arguments, digits, run

# ---- networks and the shapes of their inputs


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batch_size": 1}, "batch_size = 1 on 1 devices with accumulate = 1 leaves 1 example of inputs of 1 x 8 x 8"),
        ({"batch_size": 16, "accumulate": 16}, "batch_size = 16 on 1 devices with accumulate = 16 leaves 1 example"),
        ({"batch_size": 1, "model": "imagenet_resnet18", "method": "float"}, "leaves 1 example"),
    ],
    ids=["a batch of one", "parts of one", "a small map"],
)
def test_one_example_for_a_batch_norm_is_one_line(changes, says, tmp_path, capsys):
    assert cli.main(["train", *arguments(tmp_path / "run", **changes), "--json"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and says in error and "larger batch_size or a smaller accumulate" in error


def test_a_batch_of_one_trains_where_no_norm_needs_more(tmp_path):
    """The full-precision parent has no norm behind its pooling, and maps of 2 x 2 pixels."""
    run(digits(tmp_path / "run", method="float", batch_size=4, accumulate=4, epochs=1))


def pictures(channels, size):
    return Images(channels, size, Normalization((0.0,) * channels, (1.0,) * channels))


class Shrinking(nn.Module):
    """A network whose second map is empty for small inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 5), nn.BatchNorm2d(4), nn.Dropout(), nn.MaxPool2d(4), nn.Flatten())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def test_maps_that_become_empty_are_one_line():
    dry_run.check_fits(Shrinking(), pictures(3, 8), 4, "")
    for size in (3, 7):
        with pytest.raises(
            UserError, match=rf"does not take inputs of 3 x {size} x {size} \(.*choose another image_size"
        ):
            dry_run.check_fits(Shrinking(), pictures(3, size), 4, "")
    with pytest.raises(UserError, match="does not take inputs of 1 x 8 x 8"):
        dry_run.check_fits(Shrinking(), pictures(1, 8), 1, "")


@pytest.mark.parametrize("size", [7, 33])
def test_sizes_of_vgg_small(size):
    with pytest.raises(UserError, match="multiple of 8; choose"):
        models.create("vgg_small", "xnor", image_size=size)


@pytest.mark.parametrize("training", [True, False])
def test_the_trial_leaves_everything_as_it_was(training):
    """Buffers, mode and random numbers, where it fails, too."""
    for net, shape in (
        (models.create("resnet8", "rbnn"), (2, 3, 32, 32)),
        (Shrinking(), (2, 3, 8, 8)),
        (Shrinking(), (2, 3, 7, 7)),
    ):
        net.train(training)
        before = {name: value.clone() for name, value in net.state_dict().items()}
        random = torch.get_rng_state()
        dry_run.failure(net, torch.zeros(shape))
        assert torch.equal(torch.get_rng_state(), random) and all(m.training == training for m in net.modules())
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


# ---- threads


def test_threads_beyond_the_processors_are_fewer(capsys):
    threads = torch.get_num_threads()
    try:
        for speaks in (True, False):
            environment.prepare(Recipe(threads=1000), 0, speaks)
            assert torch.get_num_threads() == processor.count()
            error = capsys.readouterr().err
            assert error.count("\n") == speaks and ("threads = 1000" in error) == speaks
    finally:
        torch.set_num_threads(threads)


# ---- names, numbers and help, before anything is imported


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--data", "digit"], "data set 'digit' is unknown (did you mean 'digits'?)"),
        (["--model", "resnet9"], "model 'resnet9' is unknown (did you mean "),
        (["--method", "adabins"], "method 'adabins' is unknown (did you mean 'adabin'?)"),
        (["--epochs", "1e3"], "argument --epochs: invalid int value: '1e3'"),
        (["--seed", "-1"], "seed = -1 must be at least 0"),
        (["--timeout", "0"], "timeout = 0.0 must be greater than 0"),
        (["digits-resnet8-adabni"], "did you mean 'digits-resnet8-adabin'?"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_unknown_names_are_refused_at_once(given, says):
    """In seconds, without PyTorch, which a module of that name stands for that cannot be imported."""
    code = "import sys; sys.modules['torch'] = None; from onebit.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "train", *given], env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and says in done.stderr


@pytest.mark.parametrize("given", [["train"], ["train", "--help"], ["--help"]], ids=" ".join)
def test_help_comes_at_once(given):
    """A fifth of a second on a machine of its own; ten times as much here."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "onebit", *given], env=ENVIRONMENT, capture_output=True, text=True)
        times.append(time.perf_counter() - began)
        assert (done.returncode == 0 and "--batch_size" in done.stdout) or given == ["--help"]
    assert min(times) < 2, times
