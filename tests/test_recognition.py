"""Files that are something else than what was asked for: one line that says what they are and what to do with them."""

import io
import json
import os
import pickle
import re
import struct
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from onebit import models, pack
from onebit.checkpoints import checkpoint
from onebit.cli.main import main
from onebit.runtime.recognition import explained, recognized
from runs import saved


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, kind)
    return file.getvalue()


def torch_file(content: object, **options: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def zipped(**files: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def script() -> bytes:
    return zipped(**{"net/data.pkl": b"", "net/constants.pkl": b"", "net/code/x.py": b""})


STATE = {"conv1.weight": torch.zeros(4, 3, 3, 3), "fc.bias": torch.zeros(4)}
CKPT_VERBS, PACKED_VERBS = ("pack",), ("run", "bench")
OTHERS = {  # content, ending of the name, what every verb says
    "a picture": (picture("png"), ".png", "picture .PNG."),
    "a photograph": (picture("jpeg"), ".safetensors", "picture .JPEG."),
    "a web page": (b"\n<!DOCTYPE html><html><title>404</title>", ".safetensors", "web page .*fetch it again"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", ".ckpt", "git lfs pull"),
    "a pickle": (pickle.dumps({"a": 1}), ".pkl", "pickle"),
    "a zip archive": (zipped(a=b"x"), ".zip", "zip archive; take the file out"),
    "a gzip archive": (b"\x1f\x8b\x08" + bytes(40), ".tar.gz", "gzip archive; take the file out"),
    "a script": (script(), ".pt", "TorchScript"),
    "a numpy array": (b"\x93NUMPY\x01\x00", ".npy", "numpy"),
    "safetensors of others": (
        safetensors.torch.save(STATE),
        ".safetensors",
        "not written by onebit .2 tensors.*onebit",
    ),
}


def line(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(a) for a in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and len(captured.err) < 600, captured.err
    return captured.err


def arguments_of(verb: str, path: object) -> list[object]:
    return {
        "run": ["run", path, path],
        "eval": ["eval", path, "--data", "digits"],
        "import": ["import", "float-resnet20", path],
    }.get(verb, [verb, path])


@pytest.mark.parametrize("verb", ["info", "eval", "pack", "run", "bench", "import"])
@pytest.mark.parametrize("what", OTHERS)
def test_other_files(what, verb, tmp_path, capsys):
    content, suffix, says = OTHERS[what]
    path = tmp_path / f"other{suffix}"
    path.write_bytes(content)
    said = line(capsys, *arguments_of(verb, path))
    if what == "safetensors of others" and verb == "import":
        assert "conv1.weight" in said
    else:
        assert re.search(says, said), said
    assert str(path) in said


@pytest.fixture
def files(tmp_path):
    network = models.create("resnet8", "adabin", image_size=8)
    checkpoint.save(tmp_path / "net.ckpt", saved(network))
    pack(network, tmp_path / "net.safetensors")
    return tmp_path


def test_ours_in_the_wrong_place(files, capsys):
    assert "onebit pack" in line(capsys, "run", files / "net.ckpt", "x.png")
    assert "onebit pack" in line(capsys, "bench", files / "net.ckpt")
    assert "needs no packing" in line(capsys, "pack", files / "net.safetensors", "--out", files / "out")
    assert "bits" in line(capsys, "import", "float-resnet20", files / "net.safetensors")
    assert recognized(files / "net.ckpt").name == "torch" and recognized(files / "net.safetensors").name == "packed"
    assert explained(files / "net.ckpt", "model") is explained(files / "net.safetensors", "model") is None


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "old"])
@pytest.mark.parametrize("verb", ["info", "eval", "pack"])
def test_weights_alone_and_checkpoints_of_others(options, verb, tmp_path, capsys):
    for content, says in (
        (STATE, "weights alone .a state dict of 2 tensors"),
        ({"state_dict": STATE, "epoch": 3}, "another program: epoch, state_dict"),
        ([1, 2], "a list"),
    ):
        path = tmp_path / "other.pth"
        path.write_bytes(torch_file(content, **options))
        said = line(capsys, *arguments_of(verb, path))
        assert re.search(says, said) and "onebit.pack(model" in said, said


def test_a_whole_module_is_not_read(tmp_path, capsys):
    path = tmp_path / "model.pt"
    path.write_bytes(torch_file(nn.Linear(2, 2)))
    assert "Python objects" in line(capsys, "info", path)


def test_nothing_is_waited_for_and_nothing_is_guessed(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("BMW and PK and GIF")
    (tmp_path / "nested").write_bytes(struct.pack("<Q", 10**5) + b"{" + b"[" * 10**5)
    (tmp_path / "number").write_bytes(struct.pack("<Q", 5) + b"{}   " + json.dumps(5).encode())
    for name in ("pipe", "text", "nested", "absent", "."):
        assert recognized(tmp_path / name).words == ""
