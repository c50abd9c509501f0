"""Values that nothing can be done with: each is one line that names it."""

import csv
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import onebit
from onebit import models, runtime
from onebit.cli.main import main
from onebit.errors import UserError
from onebit.training.recipe import Recipe


@pytest.mark.parametrize("value", [float("inf"), 1e300, float("nan"), -1.0])
def test_learning_rates_that_no_optimizer_takes(value):
    with pytest.raises(UserError, match="lr"):
        Recipe(lr=value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("train", "digits-resnet8-adabin", "--epochs", "1", "--num_nodes", "2"), "num_nodes = 2"),
        (("train", "--resume", "--out", "run"), "recipe.json"),
        (("train", "digits-resnet8-adabin", "--out", ""), "--out"),
        (("train", ""), "no such file or recipe"),
        (("bench-train", "--rounds", "1"), "--rounds 1"),
        (("bench", "net.safetensors", "--method", "rbnn"), "--method has no effect"),
        (("bench", "net.safetensors", "--size", "64"), "--size has no effect"),
        (("run", "net.safetensors", ""), "its name is empty"),
    ],
)
def test_commands(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for variable in ("MASTER_ADDR", "NODE_RANK"):
        monkeypatch.delenv(variable, raising=False)
    onebit.pack(models.create("resnet8", "adabin", in_channels=1, image_size=8), "net.safetensors")
    assert main([*arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and says in error


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"answer": "some"}, "answer = 'some' is unknown"),
        ({"answer": "several"}, "not how a classifier is read"),
        ({"task": ""}, "task = ''"),
        ({"accuracy": 101}, "no percentage"),
        ({"accuracy": -5}, "no percentage"),
    ],
)
def test_what_pack_is_told(keys, says, tmp_path):
    with pytest.raises(UserError, match=says):
        onebit.pack(models.create("resnet8", "adabin"), tmp_path / "net.safetensors", **keys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", [None, 3, b"net", "a\0b"])
def test_what_is_no_path(path):
    with pytest.raises(UserError):
        runtime.load(path)


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(UserError, match="create its folder first"):
        onebit.pack(models.create("resnet8", "adabin"), tmp_path / "none" / "net.safetensors")


def test_an_interrupt_while_modules_load_is_one_line():
    program = (
        "import sys, builtins\nload = builtins.__import__\n"
        "def interrupted(name, *a, **k):\n"
        "    if name == 'onebit.cli.main': raise KeyboardInterrupt\n"
        "    return load(name, *a, **k)\n"
        "builtins.__import__ = interrupted\nfrom onebit.__main__ import main\nsys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130 and done.stderr == "onebit: interrupted\n"


def test_sigterm_ends_other_verbs_in_one_line(tmp_path, monkeypatch, capsys):
    onebit.pack(models.create("resnet8", "adabin", in_channels=1, image_size=8), tmp_path / "net.safetensors")
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("onebit.runtime.inspection.describe", lambda path: os.kill(os.getpid(), signal.SIGTERM))
    assert main(["info", str(tmp_path / "net.safetensors")]) == 143
    assert capsys.readouterr().err == "onebit: stopped by SIGTERM\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_info_has_a_line_a_fact(tmp_path, capsys):
    network = models.create("resnet8", "adabin", in_channels=1, image_size=8)
    onebit.pack(network, tmp_path / "net.safetensors", name="a\nb")
    assert main(["info", str(tmp_path / "net.safetensors")]) == 0
    assert "a\\x0ab" in capsys.readouterr().out


def test_names_with_line_ends_are_one_field_of_a_table(tmp_path, capsys):
    onebit.pack(models.create("resnet8", "adabin", in_channels=1, image_size=8), tmp_path / "net.safetensors")
    (tmp_path / "in").mkdir()
    for name in ("new\nline.png", "a, b.png"):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "in" / name)
    assert main(["run", str(tmp_path / "net.safetensors"), str(tmp_path / "in"), "--format", "csv"]) == 0
    rows = list(csv.reader(capsys.readouterr().out.splitlines(keepends=True)))
    assert [len(row) for row in rows] == [3, 3, 3] and rows[2][0].endswith("new\nline.png")
