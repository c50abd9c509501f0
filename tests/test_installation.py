"""What a message says to install works from where onebit was installed."""

import json
from pathlib import Path

import pytest

from onebit.cli import main as command
from onebit.machine import installation


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Puts the package into a folder of its own, as pip does, with the record of where it came from."""

    def put(record: object) -> None:
        text = record if isinstance(record, str | None) else json.dumps(record)
        distribution = type("Distribution", (), {"read_text": lambda self, name: text})
        monkeypatch.setattr(installation, "__file__", str(tmp_path / "site" / "onebit" / "machine" / "installation.py"))
        monkeypatch.setattr(installation.metadata, "distribution", lambda name: distribution())

    return put


def test_from_a_checkout():
    """The tests run in one."""
    root = str(Path(__file__).resolve().parents[1])
    assert installation.command("train") == f"pip install '{root}[train]'"
    assert installation.command() == f"pip install '{root}'"


def test_from_elsewhere(installed, tmp_path):
    folder = tmp_path / "my checkout"
    folder.mkdir()
    for record, expected in (
        ({"url": folder.as_uri(), "dir_info": {}}, f"'{folder}[run]'"),
        ({"url": (tmp_path / "gone").as_uri(), "dir_info": {}}, "'onebit[run]'"),
        ({"url": "https://host/o.git", "vcs_info": {"vcs": "git"}}, "'onebit[run] @ git+https://host/o.git'"),
        ({"url": "https://host/o.whl", "archive_info": {}}, "'onebit[run] @ https://host/o.whl'"),
        (None, "'onebit[run]'"),
        ("damaged", "'onebit[run]'"),
    ):
        installed(record)
        assert installation.command("run") == f"pip install {expected}"


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("PIL", "pillow", "run"),
        ("PIL.Image", "pillow", "run"),
        ("torch", "torch", "train"),
        ("sklearn.datasets", "scikit-learn", "train"),
        ("shtab", "shtab", "train"),
        ("onnxruntime", "onnxruntime", "peers"),
        ("onnx", "onnx", "onnx"),
        ("datasets", "datasets", "datasets"),
    ],
)
def test_the_package_decides_the_extra(module, package, extra, monkeypatch, capsys):
    def fail(options):
        raise ModuleNotFoundError("No module", name=module)

    monkeypatch.setattr(command.info, "run", fail)
    assert command.main(["info", "x"]) == 2
    line = capsys.readouterr().err
    assert f"package {package};" in line and f"[{extra}]'" in line and line.count("\n") == 1
