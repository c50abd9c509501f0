"""What a verb writes is never what it reads, nor a file of another kind: refused before any work, nothing written."""

import os
import stat

import numpy as np
import pytest
from PIL import Image

from onebit import files, models
from onebit.checkpoints import checkpoint
from onebit.cli.main import main
from onebit.data.inputs import Images, Normalization
from onebit.errors import UserError
from runs import saved


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = models.create("resnet8", "adabin", in_channels=1, image_size=8)
    inputs = Images(1, 8, Normalization((0.3,), (0.4,)))
    checkpoint.save("net.ckpt", saved(network, [str(n) for n in range(10)], inputs=inputs))
    assert main(["pack", "net.ckpt", "--out", "net.safetensors", "--json"]) == 0
    os.mkdir("pictures")
    for place in ("a.png", "pictures/b.png"):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(place)
    os.symlink("net.ckpt", "link")
    os.link("net.safetensors", "hard")
    os.symlink("a.png", "soft.json")
    (tmp_path / "authors.th").write_bytes((tmp_path / "net.ckpt").read_bytes())
    os.rename("net.ckpt", "renamed.safetensors")
    os.symlink("renamed.safetensors", "net.ckpt")
    return tmp_path


CASES = {
    "pack": ["pack", "net.ckpt", "--out", "net.ckpt"],
    "pack by another spelling": ["pack", "net.ckpt", "--out", "pictures/../link"],
    "pack by default": ["pack", "renamed.safetensors"],
    "pack over its labels": ["pack", "net.ckpt", "--labels", "a.png", "--out", "soft.json"],
    "info": ["info", "net.safetensors", "--out", "net.safetensors"],
    "info through a hard link": ["info", "net.safetensors", "--out", "hard"],
    "eval": ["eval", "net.safetensors", "--data", "digits", "--out", "hard"],
    "bench": ["bench", "net.safetensors", "--out", "hard"],
    "run over its model": ["run", "net.safetensors", "a.png", "--out", "hard"],
    "run over a picture": ["run", "net.safetensors", "pictures", "a.png", "--out", "soft.json"],
    "run over a picture in a folder": ["run", "net.safetensors", "pictures", "--out", "pictures/b.png"],
    "import": ["import", "float-resnet20", "authors.th", "--out", "authors.th"],
}


def snapshot(folder):
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("what", CASES)
def test_inputs_are_not_replaced(what, folder, capsys):
    before = snapshot(folder)
    assert main(CASES[what]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "give" in captured.err, captured.err
    assert snapshot(folder) == before


NAMES = {
    "pack": (["pack", "net.ckpt", "--out", "x.onnx"], ".safetensors"),
    "pack to a checkpoint": (["pack", "net.ckpt", "--out", "x.ckpt"], ".safetensors"),
    "pack to a folder": (["pack", "net.ckpt", "--out", "folder/"], "give the name of one"),
    "pack to a folder that exists": (["pack", "net.ckpt", "--out", "pictures"], "give the name of one"),
    "import": (["import", "float-resnet20", "authors.th", "--out", "x.onnx"], ".ckpt"),
    "report": (["info", "net.safetensors", "--out", "x.safetensors"], ".json"),
    "report over a packed file": (["info", "net.ckpt", "--out", "hard"], "another name"),
    "report to a folder": (["info", "net.safetensors", "--out", "folder/"], "give the name of one"),
}


@pytest.mark.parametrize("what", NAMES)
def test_names_of_another_kind(what, folder, capsys):
    arguments, says = NAMES[what]
    before = snapshot(folder)
    assert main(arguments) == 2 and says in capsys.readouterr().err
    assert snapshot(folder) == before


def test_what_may_be_replaced(folder):
    for _ in range(2):
        assert main(["info", "net.safetensors", "--out", "report"]) == 0
        assert main(["pack", "net.ckpt", "--out", "again.safetensors"]) == 0
        assert main(["run", "net.safetensors", "pictures", "--out", "pictures/answers.json"]) == 0


def test_labels_of_a_file(folder, capsys):
    """What the format forbids in the checkpoint's names has a remedy on the command line."""
    content = checkpoint.load("net.ckpt")
    content.task["labels"][3] = "caf\udce9"
    checkpoint.save("latin.ckpt", content)
    assert main(["pack", "latin.ckpt"]) == 2 and "--labels FILE" in capsys.readouterr().err
    (folder / "names.txt").write_text("".join(f"é{n}\n" for n in range(10)), encoding="utf-8")
    assert main(["pack", "latin.ckpt", "--labels", "names.txt"]) == 0
    assert main(["pack", "latin.ckpt", "--labels", "absent.txt"]) == 2 and "absent.txt" in capsys.readouterr().err


def test_permissions(tmp_path):
    """A new file has those of the process, a replaced one keeps its own; what lies in the way of the temporary is not followed."""
    path, before = tmp_path / "file", os.umask(0o027)
    try:
        files.write_text(path, "one")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o600)
        (tmp_path / "precious").write_text("precious")
        (tmp_path / f".file.{os.getpid()}.tmp").symlink_to(tmp_path / "precious")
        files.write_text(path, "two")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.read_text() == "two"
    finally:
        os.umask(before)
    assert (tmp_path / "precious").read_text() == "precious" and len(list(tmp_path.iterdir())) == 2
    for name in ("", f"{tmp_path}/folder/", "a\0b"):
        with pytest.raises(UserError, match="give the name"):
            files.write_text(name, "x")
