"""load and Model: what they accept, what they refuse, and that PyTorch is not needed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nets import Builder
from onebit.errors import FormatError, UserError
from onebit.runtime import format as file_format
from onebit.runtime import load, native


@pytest.fixture
def path(tmp_path: Path) -> Path:
    net = Builder(0, (3, 6, 5))
    pooled = net.node("global_avg_pool", [net.binary_conv("input", 3, 4)])
    task = {"name": "classification", "answer": "one", "labels": ["a", "b", "c", "d"], "scores": {"accuracy": 0.5}}
    graph = net.graph(pooled) | {"method": "bnn", "task": task}
    path = tmp_path / "net.onebit"
    file_format.write(path, graph, net.tensors)
    return path


def test_properties(path: Path) -> None:
    model = load(path, backend="reference")
    assert (model.name, model.method, model.input_shape) == ("test", "bnn", (3, 6, 5))
    assert (model.isa, model.threads, model.labels) == ("reference", 1, ("a", "b", "c", "d"))
    assert model.graph["task"]["scores"] == {"accuracy": 0.5} == model.task.scores
    assert [source.name for source in model.inputs] == ["input"] and model.outputs == ("output",)


def test_uint8_images_are_normalised(path: Path) -> None:
    model = load(path, backend="reference")
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 5, 3), dtype=np.uint8)
    floats = ((images.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.25)).transpose(0, 3, 1, 2)
    assert np.array_equal(model(images), model(np.ascontiguousarray(floats)))
    assert np.array_equal(model(images)[:1], model(images[0]))


@pytest.mark.parametrize("backend", ["reference", "engine"])
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((1, 3, 6, 5)), "got float64"),
        (np.zeros((3, 6, 5), np.float32), "must be \\(B, 3, H, W\\)"),
        (np.zeros((1, 6, 5, 3), np.float32), "must be \\(B, 3, H, W\\)"),
        (np.zeros((1, 3, 6, 5), np.uint8), "must be \\(B, H, W, 3\\)"),
        (np.full((1, 3, 6, 5), np.nan, np.float32), "NaN"),
        (np.full((1, 3, 6, 5), np.inf, np.float32), "infinity"),
        (np.zeros((0, 3, 6, 5), np.float32), "empty"),
        (np.zeros((1, 3, 2, 5), np.float32), "2 × 5 do not fit"),
        (np.zeros((1, 3, 0, 5), np.float32), "0 × 5"),
        ([[1.0]], "must be a numpy array"),
    ],
)
def test_bad_images_are_refused(path: Path, backend: str, images: np.ndarray, message: str) -> None:
    if backend == "engine" and not native.available():
        pytest.skip("the engine is not built")
    model = load(path, backend=backend)
    for call in (model, model.trace):
        with pytest.raises(UserError, match=message):
            call(images)


def test_bad_arguments_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown backend 'gpu'"):
        load(path, backend="gpu")
    with pytest.raises(UserError, match="threads must be"):
        load(path, threads=0)
    with pytest.raises(UserError, match="needs the engine"):
        load(path, isa="avx2", backend="reference")
    with pytest.raises(UserError, match="No such file"):
        load(tmp_path / "absent.onebit")
    with pytest.raises(UserError, match="not a regular file"):
        load(tmp_path)


def test_missing_engine_is_one_clear_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_MODULE", "onebit.runtime._absent")
    assert load(path).isa == "reference"
    with pytest.raises(UserError, match="the engine is not built"):
        load(path, backend="engine")


def test_labels_must_fit(tmp_path: Path) -> None:
    net = Builder(0, (3, 6, 5))
    graph = net.graph(net.node("global_avg_pool", ["input"]))
    graph["task"]["labels"] = ["only one"]
    with pytest.raises(FormatError, match="1 labels for 3 outputs"):
        file_format.write(tmp_path / "x.onebit", graph, {})


def test_runtime_needs_only_numpy(path: Path) -> None:
    code = f"""
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in allowed | sys.stdlib_module_names:
            raise ImportError(name + " is blocked")

allowed = {{"numpy", "onebit"}}
sys.meta_path.insert(0, Block())
import numpy as np
from onebit.runtime import load
load({str(path)!r})(np.zeros((1, 6, 5, 3), np.uint8))
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not native.available(), reason="the engine is not built")
def test_what_only_the_engine_refuses_is_a_clear_error(tmp_path: Path) -> None:
    """Windows that the padding cuts in 301 x 301 ways, for 1024 outputs."""
    net = Builder(0, (1, 100, 100))
    tensors = {"bits": np.zeros((1024, 5000), np.uint8), "channels": net.floats(2, 1024)}
    x = net.node("binary_conv", ["input"], tensors, in_channels=1, kernel=[200, 200], padding=[200, 200])
    file_format.write(tmp_path / "net", net.graph(net.node("global_avg_pool", [x])), net.tensors)
    with pytest.raises(UserError, match=r"cannot run this: .*2\^26"):
        load(tmp_path / "net", backend="engine")
