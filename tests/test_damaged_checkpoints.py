"""Checkpoints that were tampered with, or are of another version: one line each, before memory is allocated."""

import numpy as np
import pytest
import torch

from onebit import models
from onebit.checkpoints import checkpoint
from onebit.cli.main import main
from runs import saved

OTHER = models.create("resnet20", "adabin", image_size=8).state_dict()


def content(tmp_path) -> dict:
    checkpoint.save(tmp_path / "net.ckpt", saved(models.create("resnet8", "adabin", image_size=8), list("abcdefghij")))
    return torch.load(tmp_path / "net.ckpt", weights_only=True)


def changed(key: str, value: object):
    return lambda content: content.__setitem__(key, value)


def inside(key: str, entry: str, value: object):
    return lambda content: content[key].__setitem__(entry, value)


CASES = {
    "a later version": (changed("version", 99), "version 99"),
    "a version that is text": (changed("version", "2"), "version '2'"),
    "a field missing": (lambda c: c.pop("task"), "task"),
    "a field too many": (changed("surprise", 1), "surprise"),
    "weights that are text": (inside("model", "linear.bias", "x"), "model['linear.bias']"),
    "a list of weights": (changed("model", [1]), "model is of the type list"),
    "a task without a name": (changed("task", {"labels": None}), "task"),
    "a task that nobody knows": (changed("task", {"name": "chess", "labels": None}), "chess"),
    "labels that are numbers": (changed("task", {"name": "classification", "labels": [1]}), "labels"),
    "scores that are text": (changed("scores", {"accuracy": "good"}), "scores"),
    "a network that nobody knows": (inside("config", "name", "resnet9"), "resnet9"),
    "a size that is text": (inside("config", "classes", "many"), "does not fit"),
    "a negative size": (inside("config", "classes", -1), "does not fit"),
    "a huge size": (inside("config", "classes", 10**12), "classes = 1000000000000"),
    "a huge tensor": (inside("model", "linear.bias", torch.zeros(1).expand(10**12)), "linear.bias"),
    "an average of another network": (changed("ema", OTHER), "averaged weights"),
    "weights of another network": (changed("model", OTHER), "does not fit"),
    "inputs without a size": (changed("inputs", {"kind": "image"}), "inputs"),
    "progress of another kind": (changed("progress", {"epoch": 1}), "progress"),
}


@pytest.mark.parametrize("verb", ["info", "pack", "eval"])
@pytest.mark.parametrize("what", CASES)
def test_one_line(what, verb, tmp_path, capsys):
    change, says = CASES[what]
    tampered = content(tmp_path)
    change(tampered)
    torch.save(tampered, tmp_path / "net.ckpt")
    data = ["--data", "digits"] if verb == "eval" else []
    assert main([verb, str(tmp_path / "net.ckpt"), *data]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and len(line) < 600, line
    assert verb == "eval" or says in line or "inputs are normalised" in line, line
    assert not list(tmp_path.glob("*.safetensors"))


def test_weights_that_are_not_finite_are_not_packed(tmp_path, capsys):
    tampered = content(tmp_path)
    tampered["model"]["conv1.weight"][0] = np.nan
    tampered["inputs"] = {"kind": "image", "channels": 3, "size": 8, "resize": None}
    tampered["inputs"]["normalization"] = {"mean": [0.5] * 3, "std": [0.5] * 3}
    torch.save(tampered, tmp_path / "net.ckpt")
    assert main(["pack", str(tmp_path / "net.ckpt")]) == 2
    assert "conv1" in capsys.readouterr().err
