"""A run folder: one training at a time, nothing left behind by one that never began, one file for two names, longer runs."""

import dataclasses
import errno
import json
import multiprocessing
import os
import resource
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from onebit import data, files
from onebit.cli import main as cli
from onebit.errors import UserError
from onebit.nn import layers
from onebit.training import folder_lock, train
from onebit.training.folder_lock import FolderLock
from runs import arguments, digits, last, metrics, run

# ---- one at a time


def hold(folder: Path, ready: Any) -> None:
    FolderLock(folder).acquire()
    ready.set()
    time.sleep(60)


@pytest.fixture
def held(tmp_path):
    """A folder whose lock another process holds, and that process."""
    context = multiprocessing.get_context("forkserver")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path / "run", ready))
    (tmp_path / "run").mkdir()
    process.start()
    assert ready.wait(60)
    yield tmp_path / "run", process
    process.kill()
    process.join()


def test_a_folder_in_use_is_refused_until_its_process_dies(held, tmp_path, capsys):
    """By every name of it, and whether or not the run is to be continued."""
    folder, process = held
    (tmp_path / "link").symlink_to(folder)
    for out in (folder, tmp_path / "link", tmp_path / "link" / ".." / "run"):
        for more in ([], ["--resume"]):
            assert cli.main(["train", *arguments(out, method="xnor", epochs=1), "--json", *more]) == 2
            error = capsys.readouterr().err
            assert error.count("\n") == 1 and f"is in use by process {process.pid} on " in error
    process.kill()
    process.join()
    run(digits(tmp_path / "link", method="xnor", epochs=1))
    assert not (folder / folder_lock.NAME).exists()


def test_a_file_system_without_locks_has_none(tmp_path, monkeypatch):
    def unable(*what: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(folder_lock.fcntl, "lockf", unable)
    lock = FolderLock(tmp_path)
    lock.acquire()
    lock.release()
    assert not list(tmp_path.iterdir())


# ---- nothing left behind


@pytest.mark.parametrize(
    "changes",
    [
        {"data": "nosuch"},
        {"model": "nosuch"},
        {"method": "nosuch"},
        {"options": '{"nosuch": 1}'},
        {"data": "cifar10", "root": "/nowhere"},
        {"batch_size": 4000},
        {"batch_size": 1},
        {"initial": "/nowhere.ckpt"},
        {"teacher": "/nowhere.ckpt"},
        {"model": "vgg_small", "data": "digits", "structure": '{"nosuch": 1}'},
    ],
    ids=str,
)
def test_an_error_before_training_leaves_no_folder(changes, tmp_path, capsys):
    out = tmp_path / "some" / "run"
    assert cli.main(["train", *arguments(out, **changes), "--json"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_there_stays(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError):
        run(digits(tmp_path / "run", batch_size=4000))
    assert (tmp_path / "run").is_dir() and not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written(number, tmp_path, monkeypatch, capsys):
    def refuse(self: FolderLock) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(FolderLock, "acquire", refuse)
    assert cli.main(["train", *arguments(tmp_path / "run"), "--json"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"run cannot be written ({os.strerror(number)}); name another folder" in error


# ---- what runs out


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory: you tried to allocate"
        ),
        MemoryError(),
    ],
    ids=["device", "host", "Python"],
)
def test_too_little_memory_is_one_line(error, tmp_path, monkeypatch, capsys):
    def fail(*what: Any) -> None:
        raise error

    monkeypatch.setattr(layers, "after_step", fail)
    assert cli.main(["train", *arguments(tmp_path / "run", method="xnor", accumulate=2), "--json"]) == 2
    said = capsys.readouterr().err
    assert (
        said.count("\n") == 1
        and "not enough memory for batch_size = 128 in 2 parts; choose a larger accumulate" in said
    )


def test_a_full_disk_is_called_one(tmp_path):
    """PyTorch's writer says something else, and keeps the reason. By the limit of the process on the size of files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10000, hard))
    try:
        with pytest.raises(UserError, match="File too large; free space"):
            files.write(tmp_path / "x.ckpt", lambda file: torch.save({"a": torch.zeros(100000)}, file))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


# ---- names of checkpoints


def test_the_end_names_both_checkpoints(tmp_path, capsys, monkeypatch):
    """Here the first epoch is the better one, so they are two files."""
    evaluate, bonus = train.score_module, iter([200.0, 0.0])

    def scored(*what: Any) -> Any:
        scores, examples = evaluate(*what)
        return {name: value + next(bonus) for name, value in scores.items()}, examples

    monkeypatch.setattr(train, "score_module", scored)
    out = tmp_path / "run"
    result = run(digits(out, method="xnor"))
    assert result["best"] > 200 > result["accuracy"]
    assert result["best_checkpoint"] == str(out / "best.ckpt") and result["last_checkpoint"] == str(out / "last.ckpt")
    assert not os.path.samefile(out / "best.ckpt", out / "last.ckpt")
    assert cli.main(["train", *arguments(out, method="xnor"), "--resume"]) == 0
    text = capsys.readouterr().out
    assert f"after epoch 2 ({out}/last.ckpt); best {result['best']:.2f} % ({out}/best.ckpt)" in text


def test_two_names_of_one_epoch_are_one_file(tmp_path):
    out = tmp_path / "run"
    run(digits(out, method="xnor", epochs=1))
    assert os.path.samefile(out / "best.ckpt", out / "last.ckpt")
    best = (out / "best.ckpt").read_bytes()
    files.write(out / "last.ckpt", lambda file: file.write(b"new"))
    assert (out / "best.ckpt").read_bytes() == best


def test_without_links_there_are_two_files(tmp_path, monkeypatch):
    def unable(*what: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", unable)
    out = tmp_path / "run"
    run(digits(out, method="xnor", epochs=1))
    assert not os.path.samefile(out / "best.ckpt", out / "last.ckpt")
    assert last(out).progress.epoch == 1 and not list(out.glob(".*"))


# ---- longer runs


def test_a_run_is_extended(tmp_path):
    """What changed is recorded, the next start needs no option, and what the optimizer keeps follows too."""
    out = tmp_path / "run"
    before = digits(out, method="xnor", epochs=1, optimizer="sgd", weight_decay=1e-4)
    changes = {"epochs": 3, "lr": 1e-2, "schedule": "linear", "weight_decay": 1e-3, "momentum": 0.8}
    after = digits(out, method="xnor", **{"optimizer": "sgd", **changes})
    run(before)
    with pytest.raises(UserError, match=r"epochs = 1, not 3; .*--extend"):
        run(after, resume=True)
    result = train.train(after, extend=True, quiet=True)
    assert result["epochs"] == 3 and [row["epoch"] for row in metrics(out)] == ["1", "2", "3"]
    starts = json.loads((out / "recipe.json").read_text())["starts"]
    changed = {key: [getattr(before, key), value] for key, value in changes.items()}
    assert "changed" not in starts[0] and starts[1]["changed"] == changed
    groups = last(out).progress.optimizer["param_groups"]
    assert [group["momentum"] for group in groups] == [0.8] * len(groups)
    assert max(group["weight_decay"] for group in groups) == 1e-3
    run(after, resume=True)
    assert "changed" not in json.loads((out / "recipe.json").read_text())["starts"][2]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": 1}, "seed"),
        ({"method": "bnn"}, "model"),
        ({"batch_size": 64}, "batch_size"),
        ({"epochs": 1}, "has begun 2 epochs"),
    ],
)
def test_not_everything_can_be_extended(changes, says, tmp_path):
    out = tmp_path / "run"
    run(digits(out, method="xnor"))
    with pytest.raises(UserError, match=says):
        train.train(digits(out, **{"method": "xnor", **changes}), extend=True, quiet=True)
    with pytest.raises(UserError, match="holds no run"):
        train.train(digits(tmp_path / "other", method="xnor"), extend=True, quiet=True)
    assert not (tmp_path / "other").exists()


def test_classes_that_have_changed_are_refused(tmp_path, monkeypatch):
    out = tmp_path / "run"
    run(digits(out, method="xnor", epochs=1))
    load = data.load

    def renamed(*what: Any) -> Any:
        source = load(*what)
        return dataclasses.replace(source, labels=("zero", *source.labels[1:]))

    monkeypatch.setattr(data, "load", renamed)
    with pytest.raises(UserError, match=r"first that differs is 'zero' \(before: '0'\)"):
        run(digits(out, method="xnor", epochs=1), resume=True)
