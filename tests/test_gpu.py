"""Training on a GPU: what the CPU computes, step by step; graphs that are replayed; steps that wait for nothing.

`make test-gpu` runs these alone. ONEBIT_TEST_DEVICE=cpu tries the tests themselves where there is no GPU.
"""

import copy
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

import onebit
import runs
from onebit import models
from onebit.checkpoints import checkpoint
from onebit.data.dataset import Batch
from onebit.methods import METHODS
from onebit.training import environment
from onebit.training.compilation import replays
from onebit.training.devices import make_fabric
from onebit.training.setup import Setup, set_up

DEVICE = os.environ.get("ONEBIT_TEST_DEVICE", "cuda")
if DEVICE == "cuda" and not torch.cuda.is_available():
    pytest.skip("needs a GPU: PyTorch finds none", allow_module_level=True)
pytestmark = pytest.mark.gpu
STEPS = 5  # the first compiles, the second warms up, the third records; then graphs are replayed
KINDS = ["xnor", "bireal", "rbnn", "adabin", "rebnn", "reactnet"]  # one of each way to binarize


@pytest.fixture(autouse=True)
def exact():
    """Products of float32 in float32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    """Where the CPU waits for the GPU, CUDA raises RuntimeError."""
    if DEVICE == "cpu":
        yield
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the mode is a prototype
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def made(out: Any, device: str = DEVICE, **changes: Any) -> Setup:
    recipe = runs.digits(
        out,
        **{"accelerator": device, "deterministic": False, "threads": 0, "precision": "32-true", "lr": 1e-3, **changes},
    )
    environment.prepare(recipe, recipe.seed)
    return set_up(make_fabric(recipe, recipe.precision), recipe, out, False, True)


def batches(setup: Setup) -> list[Batch]:
    found = setup.train.training_batches(setup.share, 0, 0)
    return [batch.laid_out(setup.layout) for _, batch in zip(range(STEPS), found)]


def losses(setup: Setup) -> list[float]:
    """Of STEPS steps, read when all are taken."""
    setup.model.train()
    setup.objective.set_progress(0.0, begins=True)
    taken = batches(setup)
    found = [setup.step(batch, checks=False)[0] for batch in taken]
    return [loss.item() for loss in found]


def close(ours: list[float], theirs: list[float], share: float) -> None:
    assert np.isfinite(ours).all() and ours[0] > 0.5
    np.testing.assert_allclose(ours, theirs, rtol=share)


@pytest.mark.parametrize("method", METHODS)
def test_losses_are_the_cpus(method, tmp_path):
    """A sum in another order turns a sign here and there, after steps more: the first loss to 1e-3, all of them to 5 %."""
    ours, theirs = (losses(made(tmp_path / device, device, method=method)) for device in (DEVICE, "cpu"))
    close(ours[:1], theirs[:1], 1e-3)
    close(ours, theirs, 0.05)


@pytest.mark.parametrize("method", ["float", *KINDS])
@pytest.mark.parametrize("parts", (1, 2))
def test_graphs_compute_what_the_compiled_step_does(method, parts, tmp_path):
    """And what they return stays as it was while the next step runs."""
    torch._dynamo.reset()
    changes = {"method": method, "accumulate": parts, "compile": "true", "clip_grad_norm": 1.0, "ema_decay": 0.9}
    with_graphs = made(tmp_path / "graphs", **changes)
    assert with_graphs.step.graphs == (DEVICE == "cuda")
    without = made(tmp_path / "plain", **{**changes, "cuda_graphs": False})
    assert not without.step.graphs
    close(losses(with_graphs), losses(without), 0.02)
    for (name, one), other in zip(
        with_graphs.evaluated.named_parameters(), without.evaluated.parameters(), strict=True
    ):
        difference = (one - other).norm() / other.norm().clamp(min=1e-3)
        assert difference < 0.1, name


def test_graphs_are_replayed(tmp_path):
    """From the fourth step on, hardly a kernel of a step is launched by itself."""
    if DEVICE == "cpu":
        pytest.skip("a CPU has no graphs")
    torch._dynamo.reset()
    setup = made(tmp_path, method="adabin", compile="true", model="resnet20")
    losses(setup)
    batch = batches(setup)[0]
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities):
        setup.step(batch, checks=False)  # the first profile of a process may lack events
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(3):
            setup.step(batch, checks=False)
    called = {event.key: event.count for event in profile.key_averages()}
    assert called.get("cudaGraphLaunch", 0) == 6, called  # a forward and a backward pass of three steps
    assert called.get("cudaLaunchKernel", 0) < 3 * 60, called


@pytest.mark.parametrize("compiled", ("false", "true"))
@pytest.mark.parametrize("method", ["float", *KINDS])
def test_steps_wait_for_nothing(method, compiled, tmp_path):
    torch._dynamo.reset()
    setup = made(tmp_path, method=method, compile=compiled, clip_grad_norm=1.0, ema_decay=0.9)
    losses(setup)
    taken = batches(setup)
    with waiting_is_an_error():
        for batch in taken:
            setup.step(batch, checks=False)


@pytest.mark.parametrize("precision", ("32-true", "bf16-mixed"))
def test_a_run_learns_resumes_and_packs(precision, tmp_path):
    """The interrupted run goes on; the packed file answers as the network does."""
    recipe = runs.digits(
        tmp_path / "run", accelerator=DEVICE, method="adabin", deterministic=False, precision=precision, compile="true"
    )
    recipe.epochs, recipe.checkpoint_steps = 12, 5
    half = copy.deepcopy(recipe)
    half.epochs = 6
    runs.run(half)
    result = onebit.training.train.train(recipe, extend=True, quiet=True)
    assert result["epochs"] == 12 and result["accuracy"] > 70, result
    kept = checkpoint.load(tmp_path / "run/last.ckpt").network()
    images = torch.randn(64, 1, 8, 8)
    onebit.pack(kept, tmp_path / "packed")
    answers, expected = onebit.load(tmp_path / "packed")(images.numpy()), kept.eval()(images).detach().numpy()
    assert (answers.argmax(1) == expected.argmax(1)).mean() > 0.95


def test_networks_on_the_gpu_are_packed_where_they_are(tmp_path):
    network = models.create("resnet8", "rebnn", classes=10).to(DEVICE).eval()
    onebit.pack(network, tmp_path / "gpu.safetensors")
    onebit.pack(network.cpu(), tmp_path / "cpu.safetensors")
    assert (tmp_path / "gpu.safetensors").read_bytes() == (tmp_path / "cpu.safetensors").read_bytes()


def test_who_gets_graphs():
    options = runs.digits("unused")
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert replays(options, gpu, 1) and not replays(options, gpu, 2) and not replays(options, cpu, 1)
    options.cuda_graphs = False
    assert not replays(options, gpu, 1)
