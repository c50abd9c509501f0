"""Nothing is lost: signals, kill -9 in the middle of a write, full disks; what the run folder says afterwards."""

import contextlib
import errno
import itertools
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import photograph_files
from onebit import files
from onebit.checkpoints import checkpoint, description
from onebit.cli import main as cli
from onebit.data.loading import workers
from onebit.errors import Stopped, UserError
from onebit.machine import provenance
from onebit.nn import layers
from onebit.training import tensorboard as events
from onebit.training.recipe import Recipe
from runs import STEPS, arguments, digits, last, metrics, run, same_end


def at_step(monkeypatch: pytest.MonkeyPatch, number: int, action: Any) -> None:
    """Call action when `number` optimizer steps of the coming runs are done."""
    after_step, counter = layers.after_step, itertools.count(1)

    def counted(model: torch.nn.Module, *clipping: torch.Tensor | None) -> None:
        after_step(model, *clipping)
        if next(counter) == number:
            action()

    monkeypatch.setattr(layers, "after_step", counted)


# ---- signals


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs that nothing interrupts."""
    out = tmp_path_factory.mktemp("unbroken") / "run"
    torch.set_num_threads(1)
    run(digits(out, method="rebnn", ema_decay=0.9))
    return out


@pytest.mark.parametrize(
    ("number", "step", "code"),
    [(signal.SIGTERM, 5, 143), (signal.SIGINT, STEPS, 130), (signal.SIGTERM, STEPS + 1, 143)],
    ids=["in an epoch", "in its last step", "in the first step of the next"],
)
def test_a_signal_ends_the_step_and_saves_it(number, step, code, unbroken, tmp_path, monkeypatch):
    """And the resumed run ends in the bits, and the records, of one that was never stopped."""
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_step(patch, step, lambda: os.kill(os.getpid(), number))
        with pytest.raises(Stopped, match=rf"stopped by {number.name} .*continue with --resume") as caught:
            run(digits(out, method="rebnn", ema_decay=0.9))
    assert caught.value.code == code
    content = last(out)
    assert STEPS * content.progress.epoch + content.progress.step == step
    assert content.score is None, "the weights in the middle of an epoch were not evaluated"
    run(digits(out, method="rebnn", ema_decay=0.9), resume=True)
    same_end(out, unbroken)


def test_the_command_says_how_to_continue(tmp_path, monkeypatch, capsys):
    at_step(monkeypatch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["train", *arguments(tmp_path / "run", method="xnor"), "--json"]) == 143
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    assert "stopped by SIGTERM after epoch 0, step 1; continue with --resume" in output.err
    assert signal.getsignal(signal.SIGTERM) is before
    assert cli.main(["train", *arguments(tmp_path / "run", method="xnor"), "--json", "--resume"]) == 0


def test_a_second_signal_stops_at_once(tmp_path, monkeypatch):
    """Without a checkpoint of the step in progress, and with the last one whole."""
    out = tmp_path / "run"

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_step(monkeypatch, 7, twice)
    with pytest.raises(Stopped, match="at once") as caught:
        run(digits(out, method="xnor", checkpoint_steps=4))
    assert caught.value.code == 130
    assert (last(out).progress.epoch, last(out).progress.step) == (0, 4)


# ---- processes that decode images


def folder_run(root: Path, out: Path) -> list[str]:
    """Arguments of a training on photographs that two processes decode."""
    photographs = {"data": "imagefolder", "root": photograph_files.write("imagefolder", root), "image_size": 32}
    return ["train", *arguments(out, method="xnor", **photographs, batch_size=2, workers=2), "--json"]


def signal_workers(number: int) -> None:
    workers = multiprocessing.active_children()
    assert workers
    for worker in workers:
        os.kill(worker.pid, number)


def test_a_signal_to_all_processes_of_a_job_is_one_to_the_training(tmp_path, monkeypatch, capsys):
    """As SLURM sends it, workers first: they live until the step is done and saved, and a little longer at most."""

    def terminate() -> None:
        signal_workers(signal.SIGTERM)
        time.sleep(0.5)  # for those that would die
        os.kill(os.getpid(), signal.SIGTERM)

    at_step(monkeypatch, 2, terminate)
    assert cli.main(folder_run(tmp_path / "data", tmp_path / "run")) == 143
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "stopped by SIGTERM after epoch 0, step 1; continue with --resume" in error
    assert (last(tmp_path / "run").progress.epoch, last(tmp_path / "run").progress.step) == (0, 2)


def test_a_worker_that_is_told_to_end_does_so_if_nobody_else_ends_it(monkeypatch):
    """The training may never come to it: the worker's own alarm does."""
    monkeypatch.setattr(workers, "GRACE", 1)
    process = multiprocessing.get_context("fork").Process(target=sleeping_worker)
    process.start()
    try:
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGTERM)
        time.sleep(0.3)
        assert process.is_alive()
        process.join(10)
        assert process.exitcode == -signal.SIGALRM
    finally:
        process.kill()


def sleeping_worker() -> None:
    workers.outlive_signals(0)
    while True:
        time.sleep(1)


@pytest.mark.parametrize("where", ["in a step", "while it is waited for"])
def test_a_worker_that_dies_is_one_line_and_exit_code_2(where, tmp_path):
    """In a process of its own: PyTorch raises where the signal of a death arrives, and a second one may arrive late."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["onebit.training.train"])
    process = processes.Process(target=train_until_workers_die, args=(where, tmp_path))
    process.start()
    process.join(120)
    assert process.exitcode == 2
    error = (tmp_path / "error.txt").read_text()
    assert error.count("\n") == 1 and "a process that decodes images died" in error and "--resume" in error


def train_until_workers_die(where: str, folder: Path) -> None:
    """The command line, whose workers are killed when two steps are done; leaves its message and exit code."""
    after_step, counter = layers.after_step, itertools.count(1)

    def watched(model: torch.nn.Module, *clipping: torch.Tensor | None) -> None:
        after_step(model, *clipping)
        if next(counter) == 2:
            signal_workers(signal.SIGKILL)
            if where == "in a step":
                time.sleep(5)  # PyTorch raises here

    layers.after_step = watched
    torch.set_num_threads(1)
    with (folder / "error.txt").open("w") as file, contextlib.redirect_stderr(file):
        code = cli.main(folder_run(folder / "data", folder / "run"))
    os._exit(code)


# ---- kill -9 in the middle of a write


def killed_while_writing(recipe: Recipe, name: str, number: int) -> None:
    """Train, and kill -9 this process when the file `name` is half written for the `number`-th time."""
    replace, counter = os.replace, itertools.count(1)

    def half(temporary: Path, path: Path) -> None:
        if path.name == name and next(counter) == number:
            os.truncate(temporary, temporary.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        replace(temporary, path)

    os.replace = half  # type: ignore[assignment]
    torch.set_num_threads(1)
    run(recipe)


@pytest.mark.parametrize(("name", "number", "left"), [("last.ckpt", 3, (0, 8)), ("metrics.csv", 2, (1, 8))])
def test_a_process_killed_while_writing_leaves_the_last_checkpoint(name, number, left, tmp_path):
    out = tmp_path / "run"
    recipe = digits(out, method="xnor", checkpoint_steps=4)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["onebit.training.train"])
    process = processes.Process(target=killed_while_writing, args=(recipe, name, number))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert [path.name for path in out.glob(".*")] == [f".{name}.{process.pid}.tmp"]
    assert (last(out).progress.epoch, last(out).progress.step) == left
    run(recipe, resume=True)
    assert not list(out.glob(".*"))
    run(digits(tmp_path / "unbroken", method="xnor", checkpoint_steps=4))
    same_end(out, tmp_path / "unbroken")


def test_only_half_written_files_are_removed(tmp_path):
    for name in (".last.ckpt.123.tmp", ".note.tmp", "last.ckpt", "x.1.tmp"):
        (tmp_path / name).touch()
    files.clean(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".note.tmp", "last.ckpt", "x.1.tmp"]


# ---- full disks


@pytest.mark.parametrize("name", ["metrics.csv", "recipe.json", "last.ckpt"])
def test_a_full_disk_is_one_line_and_exit_code_2(name, tmp_path, monkeypatch, capsys):
    replace = os.replace

    def full(temporary: Path, path: Path) -> None:
        if Path(path).name == name:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(temporary, path)

    monkeypatch.setattr(os, "replace", full)
    assert cli.main(["train", *arguments(tmp_path / "run", method="xnor", epochs=1), "--json"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{name}: No space left on device; free space" in error
    assert not list((tmp_path / "run").glob(".*"))


def test_events_that_cannot_be_written_are_an_error(tmp_path):
    """By the limit of the process on the size of files, which a write into the event file then exceeds."""
    written = events.Events(tmp_path, 1)
    written.scalars({"train_loss": 1.0}, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (written.path.stat().st_size + 10, hard))
    try:
        with pytest.raises(UserError, match=r"events\.out.*File too large; free space"):
            written.scalars({"train_loss": 0.5}, 2)
        with pytest.raises(UserError, match=r"events\.out"):
            written.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(UserError, match=r"events\.out"):
        events.Events(tmp_path / "missing", 1)


def test_tensorboard_reads_the_events(tmp_path):
    """Those of the second process take the place of what the first wrote for the same epochs."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, epochs, value in ((1, 4, 1.0), (3, 2, 2.0)):
        file = events.Events(tmp_path, first)
        for epoch in range(first, first + epochs):
            file.scalars({"train_loss": value}, epoch)
        file.close()
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("train_loss")] == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]


# ---- what the run folder says


def test_epochs_without_evaluation_are_recorded_too(tmp_path):
    run(digits(tmp_path / "run", method="xnor", epochs=3, eval_every=2))
    rows = metrics(tmp_path / "run")
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [bool(row["test_accuracy"]) for row in rows] == [False, True, True]
    assert all(float(row["train_loss"]) > 0 for row in rows)


def test_the_run_folder_describes_every_start(tmp_path, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_step(patch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Stopped):
            run(digits(out, method="xnor", seed=4))
    run(digits(out, method="xnor", seed=4, eval_every=2), resume=True)
    described = json.loads((out / "recipe.json").read_text())
    assert described["seed"] == 4 and described["recipe"]["eval_every"] == 2
    assert [(start["epoch"], start["step"]) for start in described["starts"]] == [(0, 0), (0, 3)]
    for start in described["starts"]:
        assert start["versions"]["torch"] == torch.__version__ and start["versions"]["onebit"]
        assert {"python", "numpy", "timm", "torchvision", "lightning-fabric"} <= start["versions"].keys()
        assert start["machine"]["cpu"] and start["machine"]["cores"] > 0
        assert start["devices"] == 1 and start["device"] == "cpu" and start["command"] and start["time"]
    assert Recipe(**described["recipe"]) == digits(out, method="xnor", seed=4, eval_every=2)
    assert description.describe(out / "last.ckpt")["epoch"] == 2


def test_the_revision_of_a_checkout_and_of_nothing_else(tmp_path):
    """A package inside a checkout's virtual environment, or beside its sources, has no revision."""

    def git(*arguments: str) -> str:
        names = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        command = ["git", "-C", str(tmp_path), *arguments]
        environment = {**os.environ, **names, **settings}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()

    package, installed = tmp_path / "src" / "onebit", tmp_path / "lib" / "onebit"
    for folder in (package, installed):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
    assert provenance.source(package) is None
    git("init", "-q")
    (tmp_path / "results.json").write_text("{}")
    git("add", "src", "results.json")
    git("commit", "-q", "-m", "first")
    (tmp_path / "results.json").write_text("what a run adds to changes nothing of what it ran")
    assert provenance.source(package) == {"revision": git("rev-parse", "HEAD"), "dirty": False}
    assert provenance.source(installed) is None
    (package / "__init__.py").write_text("changed = True\n")
    assert provenance.source(package) == {"revision": git("rev-parse", "HEAD"), "dirty": True}


def test_keys_that_an_earlier_version_did_not_have_are_at_their_defaults(tmp_path):
    out = tmp_path / "run"
    run(digits(out, method="xnor", epochs=1))
    content = last(out)
    del content.progress.recipe["mixup"]
    checkpoint.save(out / "last.ckpt", content)
    run(digits(out, method="xnor", epochs=1, accumulate=2), resume=True)
    with pytest.raises(UserError, match=r"mixup = 0\.0, not 0\.2"):
        run(digits(out, method="xnor", epochs=1, mixup=0.2), resume=True)


def test_a_loss_that_is_not_finite_is_exit_code_2(tmp_path, monkeypatch, capsys):
    def poison() -> None:
        def nan(model: torch.nn.Module) -> torch.Tensor:
            return torch.tensor(torch.nan)

        monkeypatch.setattr(layers, "regularization", nan)

    at_step(monkeypatch, 2, poison)
    assert cli.main(["train", *arguments(tmp_path / "run", method="xnor"), "--json"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "the loss is nan at epoch 0, step 2" in error
