"""`onebit analyze`: its files, the report that needs nothing else, what is said to be missing, and what is refused."""

import base64
import csv
import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from onebit import data, runtime, tasks
from onebit.analysis import analyze as analysis
from onebit.analysis import report, runs, sensitivity
from onebit.analysis.deployment import Answers
from onebit.analysis.examples import Source
from onebit.analysis.figures import course
from onebit.analysis.surrogates import curves
from onebit.checkpoints import checkpoint
from onebit.cli import main as cli
from onebit.nn.binarizer import ActivationForm, WeightForm
from onebit.nn.layers import binary_layers
from onebit.nn.sign import sign
from onebit.packing.from_checkpoint import pack_checkpoint
from onebit.tasks.score import score_module
from onebit.tasks.task import outputs_of
from runs import digits, run

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that elements nest and close; keeps what the page refers to, and its text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.references, self.ids, self.words, self.tags = [], [], [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        self.references += [found[key] for key in ("src", "href", "srcset", "action", "data") if key in found]
        self.ids += [found["id"]] if "id" in found else []
        if tag == "img":
            assert found["alt"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


HOSTILE = '<script>alert("1")</script> $x_1$ & more'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three small runs: XNOR-Net under a hostile name, RBNN, and AdaBin without diagnostics; each analyzed with the others."""
    out = tmp_path_factory.mktemp("analyze")
    torch.set_num_threads(1)
    run(digits(out / HOSTILE.replace("/", "_"), method="xnor", epochs=2))
    run(digits(out / "rbnn", method="rbnn", epochs=2))
    run(digits(out / "adabin", method="adabin", epochs=1, diagnostics=False))
    return out


def everything(folder):
    return [str(folder / name) for name in (HOSTILE.replace("/", "_"), "rbnn", "adabin")]


@pytest.fixture(scope="module")
def compared(folder):
    result = analysis.analyze(everything(folder), folder / "all", sensitivity=60, images=200)
    return result, folder / "all"


def test_the_report_stands_alone_and_holds_what_it_must(compared):
    result, out = compared
    text = (out / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags and text.startswith("<!DOCTYPE html>")
    for reference in page.references:
        assert reference.startswith(("data:image/png;base64,", "data:image/svg+xml;base64,", "#")), reference[:60]
        if reference.startswith("#"):
            assert reference[1:] in page.ids
    assert not re.search(r"url\(|@import|https?://", text)
    words = " ".join(page.words)
    assert HOSTILE.replace("/", "_") in words
    for part in (
        "Course of training",
        "Confusion matrix",
        "The hardest images",
        "Sensitivity",
        "Reliability",
        "bytes, packed",
        "ms an image",
    ):
        assert part in words, part
    assert "diagnostics.jsonl is missing" in words and "batch_size" in words
    images = [reference for reference in page.references if reference.startswith("data:")]
    hardest = 3 * report.HARDEST
    assert len(images) == hardest + len(result["figures"]) // 2
    for image in images:
        content = base64.b64decode(image.partition(",")[2])
        if "png" in image[:20]:
            assert Image.open(BytesIO(content)).size == (8, 8)
        else:
            assert b"</svg>" in content and b"<script" not in content


def test_figures_are_not_empty(compared):
    result, out = compared
    assert {"scores.png", "oscillation.svg", "histogram-weights.png", "confusion-3.png", "sensitivity.png"} <= set(
        result["figures"]
    )
    assert sorted(path.name for path in (out / "figures").iterdir()) == sorted(result["figures"])
    for name in result["figures"]:
        if name.endswith(".png"):
            pixels = np.asarray(Image.open(out / "figures" / name).convert("L"))
            assert pixels.shape[1] > 600 and (pixels < 200).mean() > 0.005, name


def test_measures_as_json_and_csv(compared, folder):
    result, out = compared
    assert json.loads((out / "measures.json").read_text()) == {"runs": result["runs"]}
    xnor, rbnn, adabin = result["runs"]
    layers = rbnn["layers"]["layers"]
    with open(out / "layers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["layer"]) for row in rows] == [
        (r["name"], name) for r in result["runs"] for name in layers
    ]
    for place, row in enumerate(rows[len(layers) : 2 * len(layers)]):
        assert float(row["angle"]) == rbnn["layers"]["measures"]["angle"][place]
        assert float(row["activation.entropy"]) == rbnn["activations"][place]["entropy"]
        assert float(row["gain_weights"]) == rbnn["sensitivity"]["weights"][place]
    # RBNN, Fig. 7: rotations turn about half of the signs, gradients few
    assert 0.4 < np.mean(rbnn["layers"]["measures"]["flips_latent"]) < 0.6
    assert np.mean(xnor["layers"]["measures"]["flips_latent"]) < 0.2
    assert "flips_latent" not in adabin["layers"]["measures"] and adabin["missing"]
    assert rbnn["missing"] == xnor["missing"] == []


def test_answers_are_those_of_the_engine(compared, folder, tmp_path):
    found = compared[0]["runs"][1]
    path = tmp_path / "net.safetensors"
    pack_checkpoint(checkpoint.load(folder / "rbnn" / "last.ckpt"), path)
    source = data.load("digits").test
    (batch,) = source.some(200).evaluation_batches(200)
    predicted = outputs_of(runtime.load(path))(batch.inputs).argmax(1)
    confusion = np.zeros((10, 10), int)
    for label, answer in zip(batch.targets, predicted, strict=True):
        confusion[label, answer] += 1
    assert found["confusion"] == confusion.tolist()
    assert found["accuracy"] == {
        "percent": pytest.approx(100 * np.trace(confusion) / 200),
        "examples": 200,
        "by": "engine",
    }
    assert found["sizes"]["packed_bytes"] == path.stat().st_size and found["sizes"]["ms"] > 0


def test_the_hardest_are_the_least_probable():
    logits = np.array([[5, 0, 0], [0, 5, 0], [0, 1, 0], [3, 0, 0]], np.float32)
    answers = Answers(logits, np.array([0, 0, 1, 2]), ("a", "b", "c"), "engine", None)
    assert answers.hardest(2).tolist() == [1, 3] and answers.accuracy == 50
    assert answers.confusion().tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    np.testing.assert_allclose(answers.probabilities[2], np.exp([0, 1, 0]) / np.exp([0, 1, 0]).sum())


def test_real_operands_are_the_signs_scaled():
    """The mean magnitude of a filter is the binary scale, its signs are the binary ones, and the offset stays."""
    x = torch.randn(4, 3, 3, 3)
    form = WeightForm(sign(x), torch.tensor([0.5, 1.0, 2.0, 3.0]), torch.full((4,), 0.1))
    real = sensitivity.scaled(x, form) - 0.1
    torch.testing.assert_close(real.abs().mean((1, 2, 3)), form.scale)
    assert torch.equal(sign(real), form.signs)
    u = torch.tensor([[-4.0, -1.0, 0.5, 1.5]])
    found = sensitivity.clamped(u, (ActivationForm(0.0, 0.5, 0.25),))
    expected = torch.tensor([[-0.75, 0.25 - 0.5 / 1.75, 0.25 + 0.25 / 1.75, 0.25 + 0.75 / 1.75]])
    torch.testing.assert_close(found, expected)


def test_sensitivity_replaces_one_operand_of_one_layer(folder):
    saved = checkpoint.load(folder / "rbnn" / "last.ckpt")
    digits_ = data.load("digits")
    source = Source(digits_, saved.inputs, tasks.create("classification", digits_.labels), digits_.test)
    model = saved.network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = sensitivity.sensitivity(model, source, 100)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert found["images"] == 100 and len(found["weights"]) == len(found["activations"]) == len(binary_layers(model))
    other = saved.network()
    layer = binary_layers(other)[2][1]
    assert sensitivity.real_weights(layer) and not sensitivity.real_weights(layer)
    training = [batch.inputs for batch in source.train(sensitivity.TRAINING_EXAMPLES)]
    scores = []
    for network in (other, model):
        torch.optim.swa_utils.update_bn(training, network)
        scores.append(score_module(network, source.test(100), source.task)[0]["accuracy"])
    assert found["weights"][2] == pytest.approx(scores[0] - scores[1]) and found["score"] == pytest.approx(scores[1])


def test_surrogate_curves_move_with_the_training(folder):
    model = checkpoint.load(folder / "rbnn" / "last.ckpt").network()
    found = curves(model)
    middle = len(found["x"]) // 2
    first, *_, last_ = [curve[middle] for curve in found["weights"]]
    assert found["x"][middle] == 0 and first == pytest.approx(2**0.5, rel=1e-4) and last_ == pytest.approx(10 * 2**0.5)
    again = curves(model)
    assert again == found


def test_one_run_alone_by_its_command(folder, tmp_path, capsys):
    """A checkpoint without its folder, whose data nobody finds: the report says what is missing."""
    path = tmp_path / "alone.ckpt"
    saved = checkpoint.load(folder / "rbnn" / "last.ckpt")
    recipe = saved.progress.recipe | {"data": "cifar10", "root": str(tmp_path / "nowhere")}
    checkpoint.save(path, dataclasses.replace(saved, progress=dataclasses.replace(saved.progress, recipe=recipe)))
    assert cli.main(["analyze", str(path), "--out", str(tmp_path / "report"), "--json"]) == 0
    captured = capsys.readouterr()
    (found,) = json.loads(captured.out)["runs"]
    assert len(found["missing"]) == 2 and captured.err.count("onebit: warning:") == 2
    assert found["activations"] is None and found["accuracy"] is None and found["layers"]["measures"]["flips_latent"]
    words = " ".join(Page((tmp_path / "report" / "report.html").read_text()).words)
    assert "is a checkpoint alone" in words and "Nothing that needs examples is shown" in words


def test_layers_that_are_shown():
    class Layers:
        def __init__(self, count):
            self.layers = {"layers": list(range(count))}

    assert course.chosen([Layers(18), Layers(20)]) == [0, 7, 15]
    assert course.chosen([Layers(6), Layers(18)]) == [0, 2, 5]
    assert course.chosen([Layers(1)]) == [0] and course.chosen([Layers(0), Layers(9)]) == []


def test_names_tell_runs_apart(tmp_path):
    paths = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "a" / "run", tmp_path / ("x" * 60 + "\n")]
    found = runs.names(paths)
    assert found[:2] == ["run", "b/run"] and len(set(found)) == 4
    assert len(found[3]) == runs.LONGEST and found[3].endswith("xx?")


def broken(folder, tmp_path, name, text):
    copy = tmp_path / "copy"
    shutil.copytree(folder / "rbnn", copy)
    (copy / name).write_text(text)
    return str(copy)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere does not exist; name a run folder"),
        (["."], "holds no last.ckpt"),
        (["rbnn", "adabin"], "name one for their report with --out"),
        (["rbnn"] * 9 + ["--out", "x"], "9 runs are more than figures can tell apart"),
        (["rbnn", "--out", ""], "--out '' names no folder"),
        (["rbnn", "--out", "rbnn/last.ckpt"], "rbnn/last.ckpt cannot be made"),
        (["rbnn", "--out", "x", "--data", "cifar10"], "cifar10"),
        (["rbnn", "--out", "x", "--data", "digitz"], "did you mean 'digits'?"),
        (["rbnn", "--sensitivity", "-1"], "is not a number from 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_analyzed_is_refused_in_one_line(folder, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(folder)
    assert cli.main(["analyze", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("diagnostics.jsonl", '{"epoch":1}\n', "diagnostics.jsonl, line 1: it is not a line that"),
        ("diagnostics.jsonl", "{", "diagnostics.jsonl cannot be read"),
        ("metrics.csv", "epoch,train_loss\n1,many\n", "metrics.csv cannot be read: could not convert"),
        ("recipe.json", "[]", "recipe.json is not what `onebit train` wrote"),
    ],
)
def test_damaged_files_are_refused_by_name(folder, tmp_path, capsys, name, text, words):
    assert cli.main(["analyze", broken(folder, tmp_path, name, text), "--out", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error
