"""What the writer writes: deterministic, readable by any safetensors library, never half a file."""

import errno
import json
import os
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from nets import Builder, random_net, resnet20
from onebit.errors import FormatError, UserError
from onebit.runtime import format as file_format
from onebit.runtime.graph import to_dict
from onebit.runtime.operators import OPERATORS


def small() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    net = Builder(0, (3, 4, 4))
    return net.graph(net.binary_conv("input", 3, 2)), net.tensors


def test_any_safetensors_library_opens_it(tmp_path: Path) -> None:
    graph, tensors = resnet20()
    file_format.write(tmp_path / "a.onebit", graph, tensors)
    with safetensors.safe_open(tmp_path / "a.onebit", framework="numpy") as file:
        metadata = file.metadata()
        assert (metadata["format"], metadata["version"]) == ("onebit", "2")
        assert json.loads(metadata["graph"])["outputs"] == graph["outputs"]
        assert set(file.keys()) == tensors.keys()


def test_weights_take_one_bit(tmp_path: Path) -> None:
    _, tensors = resnet20()
    weights = 9 * (6 * 16 * 16 + 16 * 32 + 5 * 32 * 32 + 32 * 64 + 5 * 64 * 64)
    assert 8 * sum(array.size for name, array in tensors.items() if name.endswith(".bits")) == weights


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_read_inverts_write(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    path = tmp_path_factory.mktemp("x") / "a.onebit"
    graph, tensors = random_net(seed)
    file_format.write(path, graph, tensors)
    read, arrays = file_format.read(path)
    assert arrays.keys() == tensors.keys()
    assert all(np.array_equal(arrays[name], array) for name, array in tensors.items())
    again = to_dict(read, OPERATORS)
    first = path.read_bytes()
    file_format.write(path, again, dict(reversed(arrays.items())))
    assert path.read_bytes() == first


def test_defaults_are_left_out(tmp_path: Path) -> None:
    net = Builder(0, (3, 4, 4))
    explicit = {"stride": (1, 1), "padding": [0, 0], "dilation": [1, 1], "groups": 1, "shift": 0, "threshold": 0.0}
    graph = net.graph(net.binary_conv("input", 3, 2, **explicit))
    file_format.write(tmp_path / "a.onebit", graph, net.tensors)
    plain, tensors = small()
    file_format.write(tmp_path / "b.onebit", plain, tensors)
    assert (tmp_path / "a.onebit").read_bytes() == (tmp_path / "b.onebit").read_bytes()


@pytest.mark.parametrize("where", ["replace", "fsync"])
def test_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    path = tmp_path / "a.onebit"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, where, full)
    with pytest.raises(UserError, match="No space left on device"):
        file_format.write(path, *small())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*nowhere"):
        file_format.write(tmp_path / "nowhere" / "a.onebit", *small())


def test_the_writer_validates(tmp_path: Path) -> None:
    graph, tensors = small()
    name = graph["outputs"][0]["node"]
    tensors[f"{name}.channels"] = tensors[f"{name}.channels"].astype(np.float64)
    with pytest.raises(FormatError, match="must be F32, got float64"):
        file_format.write(tmp_path / "a.onebit", graph, tensors)
    assert not list(tmp_path.iterdir())


def test_escaped_quotes_without_an_end_take_no_time() -> None:
    text = b'{"' + b'\\"' * 200_000
    start = time.process_time()
    with pytest.raises(FormatError, match="not valid JSON"):
        file_format.decode(struct.pack("<Q", len(text)) + text)
    assert time.process_time() - start < 1
