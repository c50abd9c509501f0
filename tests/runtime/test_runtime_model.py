"""load and Model: what they accept, what they refuse, and that PyTorch is not needed."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from nets import Builder
from onebit.errors import FormatError, UserError
from onebit.runtime import extension, load, native
from onebit.runtime import format as file_format


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
    monkeypatch.setattr(extension, "MODULE", "onebit.runtime._absent")
    assert load(path).isa == "reference"
    with pytest.raises(UserError, match="the engine is not built"):
        load(path, backend="engine")


def test_labels_must_fit(tmp_path: Path) -> None:
    net = Builder(0, (3, 6, 5))
    graph = net.graph(net.node("global_avg_pool", ["input"]))
    graph["task"]["labels"] = ["only one"]
    with pytest.raises(FormatError, match="1 labels for the 3 channels"):
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
    model = load(tmp_path / "net", backend="engine")
    with pytest.raises(UserError, match=r"cannot run this: .*2\^26"):
        model(np.zeros((1, 100, 100, 1), np.uint8))


@pytest.mark.skipif(not native.available(), reason="the engine is not built")
@pytest.mark.parametrize("op", ["affine", "prelu", "rprelu", "maxout"])
def test_parameters_behind_flatten_fit_one_size_alone(tmp_path: Path, op: str) -> None:
    """Another size of the image has another number of channels there."""
    net = Builder(0, (1, 4, 4))
    shape = (16,) if op == "prelu" else ({"rprelu": 3}.get(op, 2), 16)
    what = "slope" if op == "prelu" else "channels"
    x = net.node(op, [net.node("flatten", ["input"])], {what: net.floats(*shape)})
    file_format.write(tmp_path / "net", net.graph(x), net.tensors)
    for backend in ("reference", "engine"):
        model = load(tmp_path / "net", backend=backend)
        with pytest.raises(UserError, match="8 × 8 do not fit"):
            model(np.zeros((1, 8, 8, 1), np.uint8))
        assert model(np.zeros((1, 4, 4, 1), np.uint8)).shape == (1, 16)


@pytest.mark.skipif(not native.available(), reason="the engine is not built")
@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="AddressSanitizer reserves terabytes")
def test_a_network_outlives_a_call_that_memory_is_too_small_for(tmp_path: Path) -> None:
    """In a process of its own: what was freed must not be used again."""
    net = Builder(0, (3, 8, 8))
    x = net.conv("input", 3, 32, padding=[1, 1])
    for _ in range(3):
        x = net.node("add", [net.conv(x, 32, 32, padding=[1, 1]), x])
    file_format.write(tmp_path / "net", net.graph(net.node("global_avg_pool", [x])), net.tensors)
    code = f"""
import resource
import numpy as np
from onebit.runtime import load
model = load({str(tmp_path / "net")!r}, threads=2)
small, big = (np.ones((1, size, size, 3), np.uint8) for size in (8, 2000))
expected = [model(small), model(np.repeat(small, 4, 0))]
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
for round in range(3):
    resource.setrlimit(resource.RLIMIT_AS, (held + 2**28, -1))
    for batch in (1, 4):
        try:
            model(np.repeat(big, batch, 0))
        except MemoryError:
            pass
        else:
            raise AssertionError("there was memory enough")
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    for value, images in zip(expected, (small, np.repeat(small, 4, 0))):
        np.testing.assert_array_equal(model(images), value)
print("passed")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "passed\n", (done.returncode, done.stderr[-2000:])


@pytest.mark.skipif(not native.available(), reason="the engine is not built")
def test_loading_plans_nothing(tmp_path: Path) -> None:
    """A small file of tall maps is loaded at once; what it takes to run is asked for by a run."""
    net, x = Builder(0, (1, 1, 1)), "input"
    for _ in range(200):
        x = net.binary_conv(x, 1, 1, 1, padding=[2**15, 0])
        x = net.node("max_pool", [x], kernel=[2**15, 1], stride=[2**15, 1])
    file_format.write(tmp_path / "net", net.graph(net.node("global_avg_pool", [x])), net.tensors)
    start = time.process_time()
    load(tmp_path / "net", backend="engine")
    assert time.process_time() - start < 1


@pytest.mark.skipif(not native.available(), reason="the engine is not built")
def test_other_threads_go_on_while_one_runs(path: Path) -> None:
    """A question about a size does not wait for a run, and holds no lock that Python needs."""
    model, ticks, stop = load(path, threads=1), [0.0], threading.Event()
    images = np.zeros((3000, 3, 60, 60), np.float32)

    def heart() -> None:
        last = time.monotonic()
        while not stop.wait(0.005):
            ticks[0], last = max(ticks[0], time.monotonic() - last), time.monotonic()

    threads = [threading.Thread(target=heart), threading.Thread(target=model, args=(images,))]
    for thread in threads:
        thread.start()
    start = time.monotonic()
    assert isinstance(model.backend, native.Engine)
    while threads[1].is_alive():
        model.backend.check({"input": (40, 41, 3)})
        model.backend.memory({"input": (40, 40, 3)})
    took = time.monotonic() - start
    stop.set()
    threads[0].join()
    assert took > 0.1 and ticks[0] < took / 2, (took, ticks)


@pytest.mark.parametrize("make", ["grad", "bfloat16", "meta", "sparse"])
def test_tensors_are_taken_or_refused_in_one_line(path: Path, make: str) -> None:
    torch = pytest.importorskip("torch")
    model, images = load(path, backend="reference"), torch.zeros(1, 3, 6, 5)
    if make == "grad":
        assert model(images.requires_grad_()).shape == (1, 4)
        return
    odd = {"bfloat16": images.bfloat16(), "meta": images.to("meta"), "sparse": images.to_sparse()}[make]
    with pytest.raises(UserError, match="images cannot be made a numpy array") as caught:
        model(odd)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="isa must be"):
        load(path, isa=3)  # type: ignore[arg-type]
