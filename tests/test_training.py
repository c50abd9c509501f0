"""The training loop, on the digits that come with scikit-learn: it learns, resumes to the bit, and fails without loss."""

import errno
import itertools
import multiprocessing
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from onebit import data, files, models
from onebit.checkpoints import checkpoint
from onebit.errors import UserError
from onebit.nn import layers
from onebit.packing.from_checkpoint import pack_checkpoint
from onebit.training import environment, optimizer, recipe
from onebit.training.non_finite import first_non_finite
from onebit.training.recipe import Recipe
from runs import STEPS, digits, last, run, same, same_end


def test_a_run_learns(tmp_path):
    result = run(digits(tmp_path / "run", method="adabin", epochs=6, batch_size=32, lr=0.01))
    assert result["accuracy"] > 80
    content = checkpoint.load(tmp_path / "run" / "best.ckpt")
    assert content.score == result["best"] >= result["accuracy"]
    model = content.network()
    source = data.load("digits")
    with torch.inference_mode():
        correct = sum(
            (model(b.inputs).argmax(1) == b.targets).sum().item() for b in source.test.evaluation_batches(100)
        )
    assert 100 * correct / len(source.test) == pytest.approx(result["best"])


def test_the_packed_run_predicts_as_trained(tmp_path):
    """Training, checkpoint, pack and engine agree on the accuracy, but for an image or two on the edge."""
    from onebit.runtime import load

    result = run(digits(tmp_path / "run", method="rbnn", epochs=2, batch_size=64))
    content = checkpoint.load(tmp_path / "run" / "last.ckpt")
    pack_checkpoint(content, tmp_path / "net.onebit")
    source = data.load("digits")
    pixels = source.test.images.numpy()
    predicted = load(tmp_path / "net.onebit")(np.ascontiguousarray(pixels)).argmax(1)
    accuracy = 100 * (predicted == source.test.targets.numpy()).mean()
    assert accuracy == pytest.approx(result["accuracy"], abs=0.6)


# ---- kill and resume

KILLED = {
    "rbnn": {"ema_decay": 0.9, "optimizer": "sgd", "lr": 0.05, "warmup_epochs": 0.5},
    "adabin": {"channels_last": False, "clip_grad_norm": 5.0},
    "rebnn": {"weight_decay": 1e-4, "schedule": "step"},
    "ovsw": {"accumulate": 2},
    "distilled": {
        "method": "xnor",
        "distillation": "soft",
        "distillation_weight": 0.9,
        "distillation_last_weight": 0.1,
        "reestimate_norms": 3,
    },
}


def run_until_killed(recipe: Recipe, resume: bool, steps: int) -> None:
    """Train, and kill -9 this process when `steps` optimizer steps are done."""
    after_step, counter = layers.after_step, itertools.count(1)

    def counted(model: torch.nn.Module, *clipping: torch.Tensor | None) -> None:
        after_step(model, *clipping)
        if next(counter) == steps:
            os.kill(os.getpid(), signal.SIGKILL)

    layers.after_step = counted
    torch.set_num_threads(1)
    run(recipe, resume)


@pytest.mark.parametrize("method", KILLED)
def test_a_killed_run_resumes_to_the_same_bits(method, tmp_path):
    """Killed twice in the middle of an epoch, some steps after a checkpoint: the end is that of an unbroken run."""
    keys = {"method": method, "checkpoint_steps": 4, **KILLED[method]}
    if "distillation" in keys:
        run(digits(tmp_path / "teacher", method="float", epochs=1))
        keys["teacher"] = str(tmp_path / "teacher" / "last.ckpt")
    broken = digits(tmp_path / "broken", **keys)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["onebit.training.train"])
    for resume, steps, left in ((False, STEPS + 6, (1, 4)), (True, 5, (1, 8))):
        process = processes.Process(target=run_until_killed, args=(broken, resume, steps))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        content = checkpoint.load(tmp_path / "broken" / "last.ckpt")
        assert (content.progress.epoch, content.progress.step) == left
    resumed = run(broken, resume=True)
    unbroken = run(digits(tmp_path / "unbroken", **keys))
    assert resumed["accuracy"] == unbroken["accuracy"]
    same_end(tmp_path / "broken", tmp_path / "unbroken")


def test_norms_are_estimated_anew_at_the_end(tmp_path):
    """The plain means over the batches, of the trained weights; weights and all else as without it."""
    for name, number in (("plain", 0), ("anew", 5)):
        run(digits(tmp_path / name, epochs=1, reestimate_norms=number))
    plain, anew = last(tmp_path / "plain"), last(tmp_path / "anew")
    changed = {key for key in plain.model if not torch.equal(plain.model[key], anew.model[key])}
    assert changed and all(key.endswith(("running_mean", "running_var", "num_batches_tracked")) for key in changed)
    network = anew.network().train()
    source = data.load("digits")
    batches = list(itertools.islice(source.train.training_batches(128, 0, 1), 5))
    sums = {}
    network.conv1.register_forward_hook(
        lambda layer, inputs, outputs: sums.setdefault("mean", []).append(outputs.mean((0, 2, 3)))
    )
    with torch.no_grad():
        for batch in batches:
            network(batch.inputs)
    torch.testing.assert_close(anew.model["bn1.running_mean"], torch.stack(sums["mean"]).mean(0), rtol=1e-4, atol=1e-5)


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    first = digits(tmp_path / "run", epochs=1, method="xnor")
    result = run(first)
    before = checkpoint.load(tmp_path / "run" / "last.ckpt")
    assert run(first, resume=True)["accuracy"] == result["accuracy"] > 0
    same(checkpoint.load(tmp_path / "run" / "last.ckpt").model, before.model)


def test_another_seed_gives_other_weights(tmp_path):
    """What the equalities above are worth."""
    runs = []
    for seed in (0, 1):
        run(digits(tmp_path / str(seed), epochs=1, method="xnor", seed=seed))
        runs.append(checkpoint.load(tmp_path / str(seed) / "last.ckpt").model["conv1.weight"])
    assert not torch.equal(*runs)


# ---- failures


@pytest.fixture
def finished(tmp_path):
    """A run of one epoch, and the bytes of its last checkpoint."""
    run(digits(tmp_path / "run", epochs=1, method="xnor"))
    return tmp_path / "run", (tmp_path / "run" / "last.ckpt").read_bytes()


def longer(out: Path, **changes: Any) -> Recipe:
    """The recipe of `finished` with a second epoch, as if the first run had stopped after one."""
    content = checkpoint.load(out / "last.ckpt")
    content.progress.recipe["epochs"] = 2
    checkpoint.save(out / "last.ckpt", content)
    return digits(out, **{"method": "xnor", "epochs": 2, **changes})


def test_the_first_layer_that_is_not_finite_is_named():
    """A binary layer too, whose children are its binarizers."""
    model = models.create("resnet8", "rebnn", in_channels=1, image_size=8)
    nn.init.constant_(model.stages[1][0].conv1.weight_binarizer.scale, 1e38)  # the products of a window sum to infinity
    assert first_non_finite(model, torch.randn(2, 1, 8, 8)) == "the output of layer stages.1.0.conv1"


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, finished, monkeypatch):
    """With step and layer, and with the checkpoint of before left as it was, though later ones were due."""
    out, _ = finished
    second = longer(out, checkpoint_steps=2)
    factor = optimizer.learning_rate_factor
    monkeypatch.setattr(
        optimizer, "learning_rate_factor", lambda r, step, n: 1e38 if step > STEPS + 2 else factor(r, step, n)
    )
    with pytest.raises(UserError, match=r"epoch 1, step \d+; first not finite: .*(parameter|layer) \w+") as caught:
        run(second, resume=True)
    assert "\n" not in str(caught.value)
    content = checkpoint.load(out / "last.ckpt")
    assert content.progress.epoch == 1 and content.progress.step > 0, "steps before the failure were saved"
    assert all(v.isfinite().all() for v in content.model.values())


@pytest.mark.parametrize("step", [1, STEPS - 1], ids=["in an epoch", "at its end"])
def test_weights_that_are_not_finite_are_not_saved(step, finished, monkeypatch):
    """The loss is finite, the update that follows is not, and a checkpoint is due."""
    out, _ = finished
    second = longer(out, checkpoint_steps=2)
    before = (out / "last.ckpt").read_bytes()
    update, counter = torch.optim.Adam.step, itertools.count()

    def poisoned(optimizer: torch.optim.Optimizer, *arguments: Any) -> Any:
        result = update(optimizer, *arguments)
        if next(counter) == step:
            with torch.no_grad():
                optimizer.param_groups[0]["params"][0].view(-1)[0] = torch.nan
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", poisoned)
    with pytest.raises(UserError, match=r"parameter conv1\.weight not finite"):
        run(second, resume=True)
    content = checkpoint.load(out / "last.ckpt")
    assert all(v.isfinite().all() for v in content.model.values())
    assert content.progress.step == STEPS - 1 if step == STEPS - 1 else (out / "last.ckpt").read_bytes() == before


def full_disk(*arguments: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", ["torch.save", "os.replace", "os.fsync"])
def test_a_full_disk_leaves_the_old_checkpoint(call, finished, monkeypatch):
    out, before = finished
    content = checkpoint.load(out / "last.ckpt")
    left = sorted(p.name for p in out.iterdir())
    module, name = call.split(".")
    monkeypatch.setattr(sys.modules[module], name, full_disk)
    with pytest.raises(UserError, match="No space left"):
        checkpoint.save(out / "last.ckpt", content)
    assert (out / "last.ckpt").read_bytes() == before
    assert sorted(p.name for p in out.iterdir()) == left


def test_a_file_that_may_not_grow_leaves_the_old_checkpoint(finished):
    """A write that fails half way, inside PyTorch's own writer, by the limit of the process on the size of files."""
    out, before = finished
    content = checkpoint.load(out / "last.ckpt")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(UserError, match=r"last\.ckpt"):
            checkpoint.save(out / "last.ckpt", content)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (out / "last.ckpt").read_bytes() == before
    assert not [p for p in out.iterdir() if "tmp" in p.name or "part" in p.name]


def test_checkpoints_that_do_not_fit_are_refused(finished, tmp_path):
    out, before = finished
    for changes, named in (
        ({"method": "bnn"}, "xnor"),
        ({"model": "resnet20"}, "resnet8"),
        ({"structure": {"block": "bireal"}}, "structure"),
        ({"lr": 0.1}, "lr"),
        ({"seed": 3}, "seed"),
    ):
        with pytest.raises(UserError, match=named):
            run(longer(out, **changes), resume=True)
    with pytest.raises(UserError, match="already holds a run"):
        run(digits(out))
    content = checkpoint.load(out / "last.ckpt")
    content.config["name"] = "resnet20"
    with pytest.raises(UserError, match="architecture"):
        content.network()
    (out / "last.ckpt").write_bytes(before[: len(before) // 2])
    with pytest.raises(UserError, match=r"last\.ckpt"):
        checkpoint.load(out / "last.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    for path in (tmp_path / "other.pt", tmp_path / "nothing", tmp_path):
        with pytest.raises(UserError):
            checkpoint.load(path)


def test_a_checkpoint_executes_nothing(tmp_path):
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    torch.save({"model": Bomb(), "config": {}}, tmp_path / "bomb.ckpt")
    with pytest.raises(UserError):
        checkpoint.load(tmp_path / "bomb.ckpt")
    assert not (tmp_path / "exploded").exists()


# ---- recipes


def test_unknown_keys_and_wrong_values_are_refused(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text("epohcs = 3\n")
    with pytest.raises(UserError, match=r"epohcs.*did you mean 'epochs'"):
        recipe.read(file)
    file.write_text("epochs = \n")
    with pytest.raises(UserError, match="TOML"):
        recipe.read(file)
    with pytest.raises(UserError, match="missing"):
        recipe.read(tmp_path / "missing.toml")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("epochs", "3"),
        ("epochs", True),
        ("lr", -0.1),
        ("lr", float("nan")),
        ("lr", "high"),
        ("optimizer", "sdg"),
        ("schedule", "cosin"),
        ("compile", "yes"),
        ("precision", "fp16"),
        ("label_smoothing", 1.0),
        ("checkpoint_steps", -1),
        ("deterministic", "no"),
        ("options", "paper"),
        ("step_milestones", 0.5),
        ("out", 3),
    ],
)
def test_wrong_values_are_refused(key, value):
    with pytest.raises(UserError, match=key):
        Recipe(**{key: value})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"data": "digit"}, "digit"),
        ({"model": "resnet9"}, "resnet9"),
        ({"method": "adabim"}, "adabim"),
        ({"options": {"variante": "paper"}}, "variante"),
        ({"options": {"variant": "papers"}}, "papers"),
        ({"structure": {"blok": "plain"}}, "blok"),
        ({"batch_size": 2000}, "2000"),
        ({"data": "cifar10", "root": "/nowhere"}, "/nowhere"),
    ],
)
def test_recipes_that_cannot_run_are_refused(changes, named, tmp_path):
    with pytest.raises(UserError, match=named):
        run(digits(tmp_path / "run", **changes))


def test_learning_rate_schedules():
    """Warm-up rises linearly; each schedule at its start, middle and end."""
    for name, middle, end in (("cosine", 0.5, 0.0), ("linear", 0.5, 0.0), ("constant", 1.0, 1.0), ("step", 0.1, 0.01)):
        r = Recipe(epochs=10, schedule=name)
        factors = [optimizer.learning_rate_factor(r, step, 20) for step in range(201)]
        assert factors[0] == 1.0 and factors[100] == pytest.approx(middle) and factors[200] == pytest.approx(end)
        assert all(later <= earlier for earlier, later in itertools.pairwise(factors))
    warm = Recipe(epochs=10, warmup_epochs=2)
    factors = [optimizer.learning_rate_factor(warm, step, 20) for step in range(200)]
    assert np.allclose(np.diff(factors[:41]), 1 / 41) and factors[40] == max(factors) == 1.0
    assert factors[120] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "keys", "expected"),
    [
        (False, False, {}, "32-true"),
        (True, False, {}, "bf16-mixed"),
        (False, True, {}, "bf16-mixed"),
        (True, True, {"deterministic": True}, "32-true"),
        (True, True, {"precision": "32-true"}, "32-true"),
        (False, False, {"precision": "bf16-mixed"}, "bf16-mixed"),
    ],
)
def test_precision_auto_is_bf16_where_the_processor_multiplies_it(amx, avx512_bf16, keys, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    assert environment.precision(Recipe(accelerator="cpu", **keys)) == expected


def test_files_are_whole_or_old(tmp_path):
    path = tmp_path / "file.txt"
    files.write_text(path, "old")

    def fail(file: Any) -> None:
        file.write(b"half of the n")
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(UserError, match="Input/output error"):
        files.write(path, fail)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
