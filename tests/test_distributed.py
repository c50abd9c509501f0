"""Several processes, and parts of a batch: the same numbers as one; one process that dies, or is told to stop, ends all."""

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from commands import Command, ranks
from onebit import data, tasks
from onebit.cli import main as cli
from onebit.data.dataset import Batch
from onebit.errors import UserError
from onebit.nn import layers
from onebit.tasks.score import score_module
from onebit.training import devices, optimizer
from onebit.training.recipe import Recipe
from onebit.training.step import backward
from runs import ENVIRONMENT, arguments, diagnostics, digits, last, metrics, run, same

# ---- several processes compute what one computes

METHODS = {
    "rbnn": {"method": "rbnn", "optimizer": "sgd", "lr": 0.05},
    "rbnn-paper": {"method": "rbnn", "options": {"variant": "paper", "t_max": 2.0}, "ema_decay": 0.9},
    "adabin": {"method": "adabin", "clip_grad_norm": 5.0},
    "adabin-paper": {"method": "adabin", "options": {"variant": "paper"}},
    "rebnn": {"method": "rebnn", "weight_decay": 1e-4},
    "rebnn-released": {"method": "rebnn", "options": {"variant": "released"}},
}
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def learned(state: dict[str, Any]) -> dict[str, Any]:
    """Weights and the methods' state; the statistics of batch norms are each rank's own within a step."""
    return {name: value for name, value in state.items() if not name.endswith(STATISTICS)}


def train_all(folder: Path, recipes: dict[str, Recipe]) -> None:
    """Train by each recipe; keep the rank's state after the third step of the second epoch, before ranks exchange more."""
    after_step = layers.after_step
    for name, recipe in recipes.items():
        counter = itertools.count(1)

        def watched(
            model: nn.Module, *clipping: Tensor | None, name: str = name, counter: Iterator[int] = counter
        ) -> None:
            after_step(model, *clipping)
            if next(counter) == 8:
                torch.save(model.state_dict(), folder / f"{name}-{torch.distributed.get_rank()}.pt")

        layers.after_step = watched
        run(recipe)


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two processes, two epochs of 5 steps of 2 x 128 images each, in folders named as in METHODS."""
    folder = tmp_path_factory.mktemp("ranks")
    recipes = {name: digits(folder / name, batch_size=256, devices="2", **keys) for name, keys in METHODS.items()}
    for process in ranks(train_all, folder, recipes):
        process.join(200)
        assert process.exitcode == 0
    return folder


@pytest.mark.parametrize("name", METHODS)
def test_the_state_of_a_method_is_the_same_on_every_rank(name, two_ranks):
    """Rotations, gamma, remembered weights, schedules, and the weights, to the bit, in the middle of an epoch."""
    states = [learned(torch.load(two_ranks / f"{name}-{rank}.pt", weights_only=True)) for rank in range(2)]
    same(*states, name)
    if name.startswith("rbnn"):
        assert any(key.endswith("weight_binarizer.r1") for key in states[0])
    if name == "rebnn":
        gammas = torch.cat([v.flatten() for k, v in states[0].items() if k.endswith("gamma")])
        assert len(gammas.unique()) > 1, "gamma follows the flips"


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_train_as_one_that_takes_the_batch_in_two_parts(name, two_ranks, tmp_path):
    """The batch norms of both see the same halves: weights, losses and accuracies while training agree."""
    run(digits(tmp_path / "one", batch_size=256, accumulate=2, **METHODS[name]))
    ours, theirs = learned(last(tmp_path / "one").model), learned(last(two_ranks / name).model)
    for key, value in ours.items():
        torch.testing.assert_close(theirs[key], value, rtol=1e-4, atol=1e-5, msg=key)
    rows = [metrics(tmp_path / "one"), metrics(two_ranks / name)]
    for one, two in zip(*rows, strict=True):
        assert float(two["train_loss"]) == pytest.approx(float(one["train_loss"]), abs=2e-4)
        assert float(two["train_accuracy"]) == pytest.approx(float(one["train_accuracy"]), abs=0.1)
    recorded = [diagnostics(tmp_path / "one"), diagnostics(two_ranks / name)]  # the first rank alone watches and writes
    assert [len(lines) for lines in recorded] == [2, 2]
    for one, two in zip(*recorded, strict=True):
        assert one["epoch"] == two["epoch"] and one["observed"] == two["observed"]
        for measure, tolerance in (
            ("angle", 0.02),
            ("flips_step", 0.005),
            ("flips_initial", 0.005),
            ("oscillation", 0.005),
        ):
            assert two["measures"][measure] == pytest.approx(one["measures"][measure], abs=tolerance)


@pytest.mark.parametrize("name", METHODS)
def test_the_accuracy_of_two_processes_is_that_of_the_saved_network(name, two_ranks):
    """Each rank evaluates a half of the test set, with the saved statistics, averaged weights too."""
    content = last(two_ranks / name)
    source = data.load("digits")
    task = tasks.create(source.task, source.labels)
    scores, examples = score_module(content.network(), source.test.evaluation_batches(100), task)
    assert scores == pytest.approx(content.scores) and examples == len(source.test)


def test_ranks_share_each_batch():
    """The slices of two ranks are the batch of one, with the same crops."""
    train = data.load("digits").train
    whole = train.training_batches(64, 5, 3)
    halves = [train.training_batches(32, 5, 3, 0, rank, 2) for rank in range(2)]
    for one, *parts in itertools.islice(zip(whole, *halves, strict=False), 4):
        assert torch.equal(one.inputs, torch.cat([p.inputs for p in parts]))
        assert torch.equal(one.targets, torch.cat([p.targets for p in parts]))


# ---- parts of a batch


@pytest.mark.parametrize("parts", [1, 2, 3, 12])
def test_parts_of_a_batch_give_its_gradient(parts):
    """In double precision; the weight penalty counts once, whatever the number of parts."""

    class Penalized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(7, 5, dtype=torch.float64)

        def forward(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits = self.layer(images)
            return nn.functional.cross_entropy(logits, labels) + self.layer.weight.square().sum(), logits

    fabric = Fabric(accelerator="cpu", devices=1)
    objective = Penalized()
    wrapped = fabric.setup_module(objective)
    images, labels = torch.randn(12, 7, dtype=torch.float64), torch.randint(5, (12,))
    loss, logits = backward(fabric, wrapped, Batch(images, labels), parts)
    found = [p.grad for p in objective.parameters()]
    objective.zero_grad()
    expected, outputs = objective(images, labels)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(logits, outputs.detach())
    torch.testing.assert_close(found, [p.grad for p in objective.parameters()])


def test_parts_are_one_step(tmp_path, monkeypatch):
    """Learning rate, methods and records count optimizer steps."""
    after_step, counter = layers.after_step, itertools.count()
    monkeypatch.setattr(layers, "after_step", lambda *what: (next(counter), after_step(*what)))
    run(digits(tmp_path / "run", method="rebnn", epochs=1, accumulate=4))
    assert next(counter) == 11
    assert float(metrics(tmp_path / "run")[0]["lr"]) == pytest.approx(
        5e-3 * optimizer.learning_rate_factor(Recipe(epochs=1), 10, 11)
    )


def test_the_learning_rate_follows_the_batch_size(tmp_path):
    assert optimizer.peak_learning_rate(Recipe(lr=0.1, batch_size=1024, lr_batch_size=256)) == pytest.approx(0.4)
    assert optimizer.peak_learning_rate(Recipe(lr=0.1, batch_size=1024)) == 0.1
    run(digits(tmp_path / "scaled", method="xnor", epochs=1, lr=1e-2, lr_batch_size=256))
    run(digits(tmp_path / "plain", method="xnor", epochs=1, lr=5e-3))
    same(last(tmp_path / "scaled").model, last(tmp_path / "plain").model)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"accumulate": 3}, "accumulate = 3 does not divide the 128 examples"),
        ({"sync_batch_norm": True}, "sync_batch_norm = true needs GPUs, not cpu"),
        ({"accelerator": "gpus"}, "accelerator = 'gpus'"),
        ({"devices": "0"}, "devices = '0'"),
        ({"strategy": "dpp"}, "strategy = 'dpp'"),
    ],
)
def test_devices_that_cannot_be_used_are_refused(changes, named, tmp_path):
    with pytest.raises(UserError, match=named):
        run(digits(tmp_path / "run", **changes))


def test_synchronized_norms_replace_all_others():
    """On one rank; the statistics of several need GPUs."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Sequential(nn.BatchNorm1d(3)))

    class Gpu:
        device = torch.device("cuda")

    converted = devices.synchronize_norms(model, Gpu())  # type: ignore[arg-type]
    norms = [m for m in converted.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 2 and all(isinstance(m, nn.SyncBatchNorm) for m in norms)


# ---- who starts the processes

TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}
SLURM = {"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "train"}


@pytest.mark.parametrize("launcher", [TORCHRUN, SLURM], ids=["torchrun", "SLURM"])
def test_the_launcher_says_how_many_processes_there_are(launcher, monkeypatch):
    for key, value in launcher.items():
        monkeypatch.setenv(key, value)
    for recipe in (Recipe(), Recipe(devices="4"), Recipe(devices="4", num_nodes=2)):
        assert devices.device_counts(recipe) == (4, 2)
    with pytest.raises(UserError, match=r"devices = 2 but \w+ started 4 processes on each machine; leave devices out"):
        devices.device_counts(Recipe(devices="2"))
    with pytest.raises(UserError, match=r"num_nodes = 3 but \w+ started 2 machines"):
        devices.device_counts(Recipe(num_nodes=3))


def test_without_a_launcher_the_recipe_says_it(monkeypatch):
    """Of several machines, if the environment says where they are: else each would wait for the others in silence."""
    assert devices.device_counts(Recipe()) == ("auto", 1)
    for variable in ("MASTER_ADDR", "NODE_RANK"):
        with pytest.raises(UserError, match="num_nodes = 2"):
            devices.device_counts(Recipe(devices="3", num_nodes=2))
        monkeypatch.setenv(variable, "0")
    assert devices.device_counts(Recipe(devices="3", num_nodes=2)) == (3, 2)


def test_torchrun(tmp_path):
    """One result on standard output, and every rank's share of the batch."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "onebit"]
    values = arguments(tmp_path / "run", method="adabin", epochs=1, batch_size=256, devices="auto")
    done = subprocess.run(
        [*command, "train", *values, "--json"], env=ENVIRONMENT, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accuracy"] > 0
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["starts"][0]["devices"] == 2
    run(digits(tmp_path / "one", method="adabin", epochs=1, batch_size=256, accumulate=2))
    ours, theirs = learned(last(tmp_path / "one").model), learned(last(tmp_path / "run").model)
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


# ---- one process dies, or is told to stop


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
def test_a_process_that_is_killed_ends_the_run(tmp_path):
    """kill -9 of one rank, then of the other; each time the run then continues from its last checkpoint."""
    out = tmp_path / "run"
    command = Command(out)
    os.kill(next(pid for pid in command.members() if pid != command.process.pid), signal.SIGKILL)
    code, lines = command.end()
    assert code == 2 and len(lines) == 1
    assert re.search(r"error: the process of local rank 1 was killed by SIGKILL; .*continue with --resume", lines[0])

    command = Command(out, "--resume")
    command.process.kill()
    code, lines = command.end()
    assert code == -signal.SIGKILL and len(lines) == 1
    assert re.search(r"error: the process of local rank 0 ended; .*continue with --resume", lines[0])

    starts = json.loads((out / "recipe.json").read_text())["starts"]
    assert [start["devices"] for start in starts] == [2, 2]
    assert (starts[0]["epoch"], starts[0]["step"]) == (0, 0) < (starts[1]["epoch"], starts[1]["step"])
    run(digits(out, **Command.recipe), resume=True)
    assert [row["epoch"] for row in metrics(out)] == [str(n) for n in range(1, 13)]


def train_until_told(folder: Path, out: Path) -> None:
    """The command line, where rank 1 alone receives SIGTERM when 7 steps are done; leaves its message and exit code."""
    after_step, counter, rank = layers.after_step, itertools.count(1), os.environ["LOCAL_RANK"]

    def watched(model: nn.Module, *clipping: Tensor | None) -> None:
        after_step(model, *clipping)
        if next(counter) == 7 and rank == "1":
            os.kill(os.getpid(), signal.SIGTERM)

    layers.after_step = watched
    with (folder / f"{rank}.txt").open("w") as file, contextlib.redirect_stderr(file):
        code = cli.main(["train", *arguments(out, method="rebnn", batch_size=256, devices="2"), "--json"])
    sys.exit(code)


def test_ranks_stop_at_the_same_step(tmp_path):
    """And one of them says so; the run continues on one device with the same parts, to the same numbers as before."""
    processes = ranks(train_until_told, tmp_path, tmp_path / "run")
    for process in processes:
        process.join(100)
        assert process.exitcode == 143
    messages = [[x for x in (tmp_path / f"{n}.txt").read_text().splitlines() if x[:6] == "onebit"] for n in range(2)]
    assert len(messages[0]) == 1 and "stopped by SIGTERM after epoch 1, step 1;" in messages[0][0] and not messages[1]
    content = last(tmp_path / "run")
    assert (content.progress.epoch, content.progress.step, content.progress.partial["examples"]) == (1, 2, 512)
    run(digits(tmp_path / "run", method="rebnn", batch_size=256, accumulate=2), resume=True)
    run(digits(tmp_path / "one", method="rebnn", batch_size=256, accumulate=2))
    ours, theirs = (learned(last(tmp_path / name).model) for name in ("run", "one"))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    losses = [float(metrics(tmp_path / name)[1]["train_loss"]) for name in ("run", "one")]
    assert losses[0] == pytest.approx(losses[1], abs=2e-4)
