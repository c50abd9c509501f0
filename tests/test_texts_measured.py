"""A packed file of texts in `onebit info`, `bench` and `export`: what it holds, how fast it is, and the same network in ONNX Runtime."""

import json

import numpy as np
import pytest

import glue_files
from onebit.cli.main import main
from onebit.runtime import examples, load, native
from test_run_texts import LENGTH, packed

engine = pytest.mark.skipif(not native.available(), reason="the engine was not built")
COUNT = len(glue_files.VOCABULARY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("net")
    packed(folder / "net.safetensors")
    return folder


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


def succeed(capsys, *arguments):
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments):
    assert main([*arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and not captured.out
    return captured.err


def test_info(capsys):
    """Rows of words are weights and no products."""
    result = succeed(capsys, "info", "net.safetensors", "--layers")
    assert [source["holds"] for source in result["inputs"]] == ["pieces", "types", "mask"]
    assert result["inputs"][0] | {"name": "ids"} == {
        **{"name": "ids", "type": "tokens", "length": LENGTH, "count": COUNT, "holds": "pieces", "lowercase": True}
    }
    assert (result["classes"], result["task"]) == (2, "text") and "input_shape" not in result
    per_layer = 4 * 24 * 24 + 2 * 24 * 48
    assert result["binary_weights"] == COUNT * 24 + 2 * per_layer + 24 * 24
    rows = {row["name"]: row for row in result["layers"]}
    words = rows["embeddings.word_embeddings"]
    assert (words["kind"], words["bits"], words["binary_macs"]) == ("binary_embedding", "", 0)
    assert words["packed_bytes"] == COUNT * (3 + 4)  # 24 bits and a scale a word
    places = next(row for row in rows.values() if row["kind"] == "positions")
    assert (places["float_macs"], places["packed_bytes"]) == (0, 4 * 16 * 24)
    assert result["totals"]["binary_macs"] == LENGTH * 2 * per_layer + 24 * 24
    assert main(["info", "net.safetensors"]) == 0
    assert f"count {COUNT}, holds pieces, lowercase True" in capsys.readouterr().out


@engine
def test_bench(capsys):
    result = succeed(capsys, "bench", "net.safetensors", "--length", "7", "--batch", "3", "--rounds", "1")
    (row,) = result["rows"]
    assert result["input"] == "text of 7 tokens" and row["batch"] == 3
    assert row["per_second"] == pytest.approx(3000 / row["median_ms"], rel=1e-2)
    assert main(["bench", "net.safetensors", "--rounds", "1"]) == 0
    head, *_, columns, line = capsys.readouterr().out.splitlines()
    assert head.endswith(f"text of {LENGTH} tokens") and columns.endswith("ratio  texts/s") and len(line.split()) == 11
    (table,) = succeed(capsys, "bench", "net.safetensors", "--layers", "--length", "5", "--rounds", "1")["tables"]
    assert [row["output"] for row in table["rows"] if row["op"] == "binary_attention"] == [[5, 1, 24]] * 2
    longer, shorter = (
        succeed(capsys, "bench", "net.safetensors", "--memory", "--length", length)["rows"][0]["maps_mb"]
        for length in "93"
    )
    assert longer > shorter


@engine
def test_bench_of_a_name(capsys):
    """With random weights, beside PyTorch."""
    model = ("bench", "bert", "--method", "bnn", "--length", "4", "--rounds", "1")
    result = succeed(capsys, *model)
    assert [row["engine"] for row in result["rows"]] == ["onebit", "pytorch", "pytorch"]
    assert all(row["per_second"] > 0 for row in result["rows"])


@engine
def test_what_bench_refuses(capsys):
    assert "16 positions, got 17" in refused(capsys, "bench", "net.safetensors", "--length", "17")
    assert "--int8 is of images, or of a model given by name" in refused(capsys, "bench", "net.safetensors", "--int8")
    assert "--peers is for networks of images" in refused(capsys, "bench", "net.safetensors", "--peers", "onnxruntime")
    assert "resnet8 takes images; leave it out" in refused(capsys, "bench", "resnet8", "--size", "8", "--length", "5")
    assert "'0' is not a number from 1" in refused(capsys, "bench", "net.safetensors", "--length", "0")


def test_made_up_inputs():
    network = load("net.safetensors", backend="reference")
    ids, types, mask = examples.made_up(network.inputs, 2, np.random.default_rng(0), 5)
    assert ids.shape == (2, 5) and 0 <= ids.min() < ids.max() < COUNT and not types.any() and mask.all()
    assert examples.made_up(network.inputs, 1, np.random.default_rng(0))[0].shape == (1, LENGTH)


def test_export(capsys):
    """ONNX Runtime on texts that are filled up says what they answer alone."""
    pytest.importorskip("onnx", reason="the package onnx is not installed: pip install '.[onnx]'")
    onnxruntime = pytest.importorskip(
        "onnxruntime", reason="the package onnxruntime is not installed: pip install '.[peers]'"
    )
    result = succeed(capsys, "export", "net.safetensors", "--out", "net.onnx")
    assert result["inputs"] == dict.fromkeys(("ids", "types", "mask"), f"int64 (batch, {LENGTH})")
    network = load("net.safetensors", backend="reference")
    texts = ["a good film", ("the sea was bad", "a dog"), "the"]
    found = [
        network.texts.pieces.encode(*(text if isinstance(text, tuple) else (text, None)), LENGTH) for text in texts
    ]
    inputs = {name: np.zeros((3, LENGTH), np.int64) for name in ("ids", "types", "mask")}
    for i, text in enumerate(found):
        inputs["ids"][i, : len(text.ids)] = text.ids
        inputs["types"][i, text.second : len(text.ids)] = 1
        inputs["mask"][i, : len(text.ids)] = 1
    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(["output"], inputs)
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    scores = exponents / exponents.sum(1, keepdims=True)
    for row, (best,) in zip(scores, network.predict(texts), strict=True):
        assert best["label"] == ("bad", "good")[row.argmax()] and best["score"] == pytest.approx(row.max(), abs=1e-5)
    assert "pixels are of images" in refused(capsys, "export", "net.safetensors", "--pixels")
