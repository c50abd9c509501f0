"""`onebit reproduce`: what is missing is run, and no more; stopped, killed, changed and failing rows; records and pages."""

import csv
import dataclasses
import io
import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import onebit
from onebit import runtime
from onebit.checkpoints import checkpoint
from onebit.cli.main import main
from onebit.errors import UserError
from onebit.reproduction import job, measurements, records, render, table
from onebit.reproduction.jobs import Jobs
from onebit.reproduction.runs import Run, wanted
from onebit.training.recipe import Recipe
from runs import digits, metrics
from runs import run as train

RECIPE = """
title = "Small"
[recipe]
data = "digits"
model = "resnet8"
epochs = 1
batch_size = 256
optimizer = "adam"
lr = {lr}
weight_decay = 0.0
deterministic = true
[paper]
source = "a paper"
"""
ROWS = """
[[rows]]
name = "second"
keys = { method = "xnor", initial = "row:first" }
[[rows]]
name = "first"
keys = { method = "xnor", binarize = "activations" }
paper = { accuracy = 99.5, epochs = 100 }
[[rows]]
name = "cited"
paper = { accuracy = 12.3 }
[[rows]]
name = "impossible"
keys = { method = "xnor", batch_size = 100000 }
"""


def written(path: Path, rows: str = ROWS, lr: float = 5e-3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(RECIPE.format(lr=lr) + rows)
    return path


def reproduce(capsys: Any, *words: object) -> tuple[int, str, str]:
    """(exit code, standard output, standard error)."""
    capsys.readouterr()
    code = main(["reproduce", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(capsys: Any, *words: object) -> str:
    code, _, err = reproduce(capsys, *words)
    (line,) = [line for line in err.splitlines() if line.startswith("onebit: error: ")]
    assert code == 2, err
    return line


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """The table `small`, run: its rows in folder / "runs", its results in folder / "out"."""
    folder = tmp_path_factory.mktemp("reproduce")
    words = [
        "reproduce",
        str(written(folder / "small.toml")),
        "--runs",
        str(folder / "runs"),
        "--out",
        str(folder / "out"),
    ]
    assert main([*words, "--jobs", "2", "--json"]) == 2  # one row cannot be trained
    return folder


def options(place: Path) -> list[object]:
    return [place / "small.toml", "--runs", place / "runs", "--out", place / "out"]


def test_rows_are_trained_packed_and_scored(place):
    found = {record["row"]: record for record in records.read(place / "out" / "small.json")}
    assert set(found) == {"first", "second"}
    runs = place / "runs" / "small"
    for name, record in found.items():
        saved = checkpoint.load(runs / f"{name}-0" / "last.ckpt")
        assert record["trained"]["scores"] == pytest.approx(saved.scores, abs=1e-4) and record["epochs"] == 1
        assert record["trained"]["seconds"] > 0 and record["trained"]["threads"] == 1 and record["machine"]["cpu"]
        assert record["settings"]["lr"] == 5e-3 and record["structure"]["block"] == "plain"
    assert found["first"]["measured"] == {}  # its weights are real
    packed = runs / "second-0" / "model.safetensors"
    measured = found["second"]["measured"]
    assert measured["packed"]["bytes"] == packed.stat().st_size < measured["packed"]["float32_bytes"] / 10
    test = onebit.data.load("digits").test
    right = runtime.load(packed)(test.images.numpy()).argmax(1) == test.targets.numpy()
    assert measured["engine"]["accuracy"] == pytest.approx(100 * right.mean(), abs=1e-3)
    own = onebit.evaluate(str(packed), "digits", "data", checkpoint=False)
    assert measured["engine"]["ece"] == own["calibration"]["ece"] > 0
    assert measured["engine"]["examples"] == 360 and 0 < measured["speed"]["ms"] < measured["speed"]["ms_pytorch"]
    assert found["second"]["structure"]["pretraining"] == "first"
    initial = checkpoint.load(runs / "second-0" / "last.ckpt").progress.recipe["initial"]
    assert initial == str(runs / "first-0" / "last.ckpt")


def test_what_is_done_is_not_run_again(place, capsys, monkeypatch):
    """Wherever it was run: the records tell. The row that fails is tried again, and says why."""
    monkeypatch.setattr(Jobs, "start", lambda jobs, run: pytest.fail(f"{run.name} was started"))
    before = (place / "out" / "small.json").read_bytes()
    for runs in (place / "runs", place / "nothing"):
        words = (place / "small.toml", "--runs", runs, "--out", place / "out", "--only", "first", "--only", "second")
        code, out, _ = reproduce(capsys, *words)
        assert code == 0 and "99.5 after 100 epochs" in out and "after 1 epoch" in out
    assert (place / "out" / "small.json").read_bytes() == before
    code, out, _ = reproduce(capsys, *options(place), "--dry-run", "--seeds", "0,1", "--json")
    states = {(run["row"], run["seed"]): run["state"] for run in json.loads(out)["runs"]}
    assert code == 0 and states["first", 0] == states["second", 0] == "done"
    assert states["impossible", 0] == states["first", 1] == "to run"


def test_a_measurement_is_repeated(place, capsys, monkeypatch):
    """As a later version may measure more: of what was trained, in place and alone."""
    monkeypatch.setattr(Jobs, "start", lambda jobs, run: pytest.fail(f"{run.name} was started"))
    monkeypatch.setitem(
        measurements.MEASUREMENTS, "speed", measurements.Measurement(lambda *where: {"ms": 123.0}, True)
    )
    words = (*options(place), "--only", "second")
    assert reproduce(capsys, *words)[0] == 0 and "123.000" not in (place / "out" / "small.md").read_text()
    assert reproduce(capsys, *words, "--again", "speed")[0] == 0
    assert "| 123.000 |" in (place / "out" / "small.md").read_text()
    assert "choose one of packed, engine, speed" in refused(capsys, *words, "--again", "sped")


def test_a_row_that_fails_does_not_lose_the_others(place, capsys):
    line = refused(capsys, *options(place))
    assert line.count("impossible-0: batch_size = 100000 exceeds the 1437 training examples") == 1
    page = (place / "out" / "small.md").read_text()
    assert page.count("not run") == 2  # the explanation, and the row
    assert "| cited | 12.3 (epochs not stated) | cited only |" in page


def test_a_changed_row_is_another_training(place, capsys):
    changed = place / "changed"
    written(changed / "small.toml", lr=1e-2)
    words = (changed / "small.toml", "--runs", place / "runs", "--out", place / "out", "--only", "first")
    _, out, _ = reproduce(capsys, *words, "--dry-run")
    assert "to run" in out and out.rstrip().endswith("first-0.2")
    assert reproduce(capsys, *words)[0] == 0
    found = [record for record in records.read(place / "out" / "small.json") if record["row"] == "first"]
    assert [record["settings"]["lr"] for record in found] == [5e-3, 1e-2]
    assert (place / "runs" / "small" / "first-0" / "last.ckpt").exists()
    page = (place / "out" / "small.md").read_text()
    now, earlier = page.split("## Earlier settings")
    assert "| first | 99.5 after 100 epochs |" in now and "| first | lr 0.005 instead of 0.01 |" in earlier
    rows = list(csv.DictReader(io.StringIO((place / "out" / "small.csv").read_text())))
    assert [row["settings"] for row in rows if row["row"] == "first"] == ["", "earlier"]
    assert reproduce(capsys, *options(place), "--render")[0] == 0  # and the table as it was has its record again
    now, earlier = (place / "out" / "small.md").read_text().split("## Earlier settings")
    assert "| first | lr 0.01 instead of 0.005 |" in earlier


LONG = """
[[rows]]
name = "long"
keys = { method = "xnor", epochs = 12, eval_every = 12, checkpoint_steps = 1 }
"""


def wait_for_checkpoint(folder: Path) -> None:
    end = time.monotonic() + 200
    while not (folder / "last.ckpt").exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_stopped_command_goes_on(tmp_path, capsys):
    """SIGTERM to the command, then the loss of the process that started the training; the third start ends it."""
    written(tmp_path / "small.toml", LONG)
    folder = tmp_path / "runs" / "small" / "long-0"

    def terminate() -> None:
        wait_for_checkpoint(folder)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=terminate)
    thread.start()
    code, _, err = reproduce(capsys, *options(tmp_path))
    thread.join()
    assert code == 143 and "stopped by SIGTERM while long-0 trained; the same command goes on" in err
    assert "epoch" in (folder.with_name("long-0.log")).read_text() and not (folder / "running.lock").exists()
    first = checkpoint.load(folder / "last.ckpt").progress
    assert (0, 0) < (first.epoch, first.step) < (12, 0)
    assert "to go on" in reproduce(capsys, *options(tmp_path), "--dry-run")[1]

    (run,) = wanted(table.read(str(tmp_path / "small.toml")), [], [0], None, tmp_path / "runs")
    orphan(run)
    second = checkpoint.load(folder / "last.ckpt").progress
    assert (first.epoch, first.step) < (second.epoch, second.step) and second.epoch < 12

    assert reproduce(capsys, *options(tmp_path))[0] == 0
    (record,) = records.read(tmp_path / "out" / "small.json")
    assert record["epochs"] == 12 and record["trained"]["starts"] == 3 and len(metrics(folder)) == 12


def start_and_wait(recipe: Recipe, log: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=job.main, args=(recipe, "long", log))
    process.start()
    process.join()


def orphan(run: Run) -> None:
    """Let a process start the run, kill it, and wait until the run has saved and ended."""
    before = (run.folder / "last.ckpt").stat().st_mtime_ns
    recipe = dataclasses.replace(run.recipe, threads=1)
    context = Jobs(1, True, lambda *words: None).processes
    starter = context.Process(target=start_and_wait, args=(recipe, run.folder.with_name("long-0.log")))
    starter.start()
    end = time.monotonic() + 200
    while (run.folder / "last.ckpt").stat().st_mtime_ns == before:
        assert starter.is_alive() and time.monotonic() < end
        time.sleep(0.02)
    starter.kill()
    starter.join()
    while (run.folder / "running.lock").exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_run_of_onebit_train_is_adopted(tmp_path, capsys):
    """A finished one with the row's recipe, whatever its free keys are; no other."""
    row = '[[rows]]\nname = "first"\nkeys = { method = "xnor", epochs = 2 }\n'
    written(tmp_path / "small.toml", row)
    values = {"method": "xnor", "batch_size": 256, "seed": 3, "lr": 5e-3}
    train(digits(tmp_path / "elsewhere", **values, eval_every=2, checkpoint_steps=3))
    adopt = (*options(tmp_path), "--adopt", "first")
    assert "seed 3 instead of 1" in refused(capsys, *adopt, 1, tmp_path / "elsewhere")
    assert "epochs 2 instead of 9; --epochs 2" in refused(capsys, *adopt, 3, tmp_path / "elsewhere", "--epochs", 9)
    assert "there is no" in refused(capsys, *adopt, 3, tmp_path / "nowhere")
    assert "no row 'frist' (did you mean 'first'?)" in refused(
        capsys, *options(tmp_path), "--adopt", "frist", 3, tmp_path
    )
    assert "'x' is no list of seeds" in refused(capsys, *adopt, "x", tmp_path)
    assert not (tmp_path / "runs").exists()
    assert reproduce(capsys, *adopt, 3, tmp_path / "elsewhere")[0] == 0
    (record,) = records.read(tmp_path / "out" / "small.json")
    assert (record["row"], record["seed"], record["epochs"]) == ("first", 3, 2) and set(record["measured"]) >= {
        "engine",
        "speed",
    }
    copied = tmp_path / "runs" / "small" / "first-3"
    assert (copied / "last.ckpt").read_bytes() == (tmp_path / "elsewhere" / "last.ckpt").read_bytes()
    assert (copied / "metrics.csv").exists() and record["trained"]["starts"] == 1
    assert "holds a run of this row" in refused(capsys, *adopt, 3, tmp_path / "elsewhere")


# ---- records and pages


def record(row: str, seed: int, accuracy: float, epochs: int = 1, load: float = 0.0, **settings: Any) -> dict[str, Any]:
    values = {"data": "digits", "model": "resnet8", "method": "xnor", "epochs": epochs, "seed": seed, "batch_size": 256}
    values |= {"optimizer": "adam", "lr": 5e-3, "weight_decay": 0.0, "deterministic": True, **settings}
    trained = {
        "scores": {"accuracy": accuracy},
        "best": accuracy,
        "seconds": 100.0 + seed,
        "date": f"2026-01-0{seed + 1}",
    }
    return {
        "row": row,
        "seed": seed,
        "epochs": epochs,
        "settings": values,
        "trained": trained | {"threads": 1, "device": "cpu", "precision": "32-true", "starts": 1},
        "machine": {"cpu": "A", "cores": 2, "gpus": []},
        "versions": {"onebit": "1", "torch": "2", "python": "3"},
        "source": {"revision": "0123456789abcdef", "dirty": False},
        "structure": {
            "block": "plain",
            "shortcut": "option A",
            "nonlinearity": "hardtanh",
            "pretraining": "-",
            "distillation": "-",
        },
        "measured": {
            "packed": {"bytes": 1000, "float32_bytes": 20000},
            "engine": {"accuracy": accuracy - 1, "ece": 3.0, "examples": 360},
            "speed": {"ms": 0.5 + seed, "ms_pytorch": 2.0, "isa": "avx2", "other_load": load},
        },
    }


PLAIN = (
    '[[rows]]\nname = "plain"\nlabel = "Plain"\nkeys = { method = "xnor" }\npaper = { accuracy = 90, epochs = 200 }\n'
)


def test_a_page_has_mean_and_spread_and_never_hides_epochs(tmp_path):
    one = table.read(str(written(tmp_path / "small.toml", PLAIN)))
    found = [record("plain", 0, 70.0), record("plain", 1, 72.0, load=50.0), record("plain", 0, 80.0, epochs=7)]
    page = render.markdown(one, found)
    assert (
        "| Plain | 90.0 after 200 epochs | 71.00 ± 1.41 (n = 2) after 1 epoch | 70.00 ± 1.41 (n = 2) | 3.00 ± 0.00 (n = 2) | 1 / 200 | resnet8 | plain |"
        in page
    )
    assert (
        "| Plain | 90.0 after 200 epochs | 80.00 (n = 1) after 7 epochs | 79.00 (n = 1) | 3.00 (n = 1) | 7 / 200 | resnet8 | plain |"
        in page
    )
    assert "| 100 s | 20,000 | 1,000 | 2.000* | 1.000* |" in page and "| 2.000 | 0.500 |" in page
    assert "A, 1 thread, 32-true, PyTorch 2, source 0123456789: 3 runs, 2026-01-01 to 2026-01-02" in page
    assert "--seeds 0,1" in page and "distillation" not in page  # a column that is empty everywhere
    again = [*found, {**record("plain", 0, 76.0), "machine": {"cpu": "B", "cores": 1, "gpus": []}}]
    assert "72.50 ± 0.71 (n = 2) after 1 epoch" in render.markdown(one, again)  # a seed twice is one seed
    rows = list(csv.DictReader(io.StringIO(render.comma_separated(one, found))))
    assert [(row["epochs"], row["seeds"], row["paper_epochs"]) for row in rows] == [
        ("1", "0 1", "200"),
        ("7", "0", "200"),
    ]
    assert float(rows[0]["accuracy_mean"]) == 71 and float(rows[0]["accuracy_std"]) == pytest.approx(2**0.5, abs=1e-4)
    assert rows[1]["accuracy_std"] == "" and rows[0]["packed_bytes"] == "1000.0"


def test_records_are_added_by_training_and_machine(tmp_path):
    path = tmp_path / "out" / "small.json"
    for one in (record("plain", 0, 70.0), record("plain", 1, 71.0), record("plain", 0, 75.0)):
        records.add(path, "small", one)
    assert [r["trained"]["scores"]["accuracy"] for r in records.read(path)] == [75.0, 71.0]
    other = record("plain", 0, 60.0) | {"machine": {"cpu": "B", "cores": 1, "gpus": []}}
    records.add(path, "small", other)
    assert len(records.read(path)) == 3 and len(path.read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "no list of records"),
        ('{"version": 9, "records": []}', "version 9"),
        ('{"version": 1, "records": [{"row": "a"}]}', "record 0 has no usable 'seed'"),
        (
            json.dumps({"version": 1, "records": [record("a", 0, 1.0) | {"trained": {"scores": {"accuracy": "x"}}}]}),
            "scores",
        ),
        (json.dumps({"version": 1, "records": [record("a", 0, 1.0) | {"measured": {"speed": 1}}]}), "measurement"),
    ],
)
def test_a_damaged_file_of_results_is_refused(tmp_path, capsys, text, says):
    (tmp_path / "digits.json").write_text(text)
    for words in (("--render",), ("--dry-run",), ("--only", "float")):
        line = refused(capsys, "digits", "--out", tmp_path, "--runs", tmp_path / "runs", *words)
        assert says in line and "digits.json" in line
    assert (tmp_path / "digits.json").read_text() == text and not (tmp_path / "runs").exists()


# ---- tables and words


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ('[[rows]]\nname = "a"\n', "row 'a' has no recipe, no keys and no paper"),
        ('[[rows]]\nname = "a"\nkeys = { lr = "fast" }\n', "lr = 'fast' must be a finite number"),
        ('[[rows]]\nname = "a"\nkeys = { learning = 1 }\n', "learning"),
        ('[[rows]]\nname = "a"\nkeys = { method = "adabim" }\n', "did you mean 'adabin'?"),
        ('[[rows]]\nname = "a"\nkeys = { seed = 1 }\n', "seed is an option of onebit reproduce"),
        ('[[rows]]\nname = "a"\nrecipe = "cifar10-resnet20-adabim"\n', "did you mean"),
        ('[[rows]]\nname = "a/b"\npaper = { accuracy = 1 }\n', "name is also that of a folder"),
        ('[[rows]]\nname = "a"\npaper = { accuracy = 1, top = 2 }\n', "'top' is unknown"),
        ('[[rows]]\nname = "a"\npaper = { epochs = 2 }\n', "paper has no score"),
        ('[[rows]]\nname = "a"\ncolour = 1\npaper = { accuracy = 1 }\n', "'colour' is unknown"),
        ('[[rows]]\nname = "a"\nkeys = { initial = "row:b" }\n', "no row 'b'"),
        ('[[rows]]\nname = "a"\nkeys = { initial = "row:a" }\n', "needs 'a', which no training stands for"),
        ('[[rows]]\nname = "a"\nkeys = {}\n[[rows]]\nname = "a"\nkeys = {}\n', "two rows are called 'a'"),
        ("[method.xnor]\nlabel = 'X'\n", 'is for methods = "all"'),
    ],
)
def test_a_malformed_table_is_refused(tmp_path, capsys, rows, says):
    line = refused(capsys, written(tmp_path / "small.toml", rows), "--list")
    assert says in line and ("small.toml" in line or "table small" in line)


def test_later_keys_win_and_options_are_merged(tmp_path):
    rows = '[[rows]]\nname = "a"\nrecipe = "digits-resnet8-rbnn"\nkeys = { options = { t_max = 3.0 }, lr = 0.5 }\n'
    (row,) = table.read(str(written(tmp_path / "small.toml", rows))).rows
    assert row.values["options"] == {"t_max": 3.0, "rotate_until": 0.5} and row.values["lr"] == 0.5
    assert row.values["batch_size"] == 256 and row.values["structure"] == {"block": "bireal", "norm_weight": 0.3}
    cycle = '[[rows]]\nname = "a"\nkeys = { initial = "row:b" }\n[[rows]]\nname = "b"\nkeys = { initial = "row:a" }\n'
    with pytest.raises(UserError, match="needs itself"):
        wanted(table.read(str(written(tmp_path / "small.toml", cycle))), ["a"], [0], None, tmp_path)


def test_words_that_cannot_be_used(capsys, tmp_path):
    written(tmp_path / "small.toml")
    for words, says in (
        (("digit",), "did you mean 'digits'?"),
        (("nothing",), "choose one of adabin-cifar10, "),
        (("digits", "--only", "adabim"), "did you mean 'adabin'?"),
        ((tmp_path / "small.toml", "--only", "cited"), "row 'cited' only cites a number of a paper"),
        (("digits", "--seeds", "0,-1"), "no list of seeds"),
        (("digits", "--seeds", str(2**32)), "no list of seeds"),
        (("digits", "--epochs", "0"), "not a number from 1"),
        (("digits", "--jobs", "none"), "not a number from 1"),
        (("digits", "--list", "--render"), "has no effect beside --list"),
        (("digits", "--render", "--seeds", "1"), "--seeds has no effect"),
        (("digits", "--out", tmp_path / "small.toml"), "is a file"),
        (("digits", "--out", "/proc/none", "--runs", tmp_path / "runs"), "cannot write /proc/none"),
        ((tmp_path / "none.toml",), "there is no such file"),
    ):
        assert says in refused(capsys, *words), words


def test_tables_and_rows_are_listed(capsys):
    code, out, _ = reproduce(capsys, "rbnn-ablation", "--list")
    assert code == 0 and "B+T+R+A" in out and "87.8 % (RBNN's paper, ablations)" in out
    assert main(["list", "tables", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["tables"]) == set(table.shipped())
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in table.shipped())
