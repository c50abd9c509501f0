"""The expected calibration error and the reliability diagram: against torchmetrics, by hand, and of `onebit eval`."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchmetrics.functional.classification import multiclass_calibration_error

import onebit
from onebit import data
from onebit.analysis.calibration import BINS, Calibration, calibration
from onebit.cli.main import main
from onebit.runtime.answers import one


def some(count: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (count, 7) and targets, whose agreement does not depend on the sharpness."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, 7))
    targets = np.where(random.random(count) < 0.6, logits.argmax(1), random.integers(0, 7, count))
    return one((sharpness * logits).astype(np.float32)), targets


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 4.0])
def test_as_torchmetrics(sharpness):
    probabilities, targets = some(1000, sharpness)
    theirs = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(targets), 7, n_bins=BINS, norm="l1"
    )
    assert calibration(probabilities, targets)["ece"] == pytest.approx(100 * float(theirs), abs=1e-3)


def test_by_hand():
    """Four answers: two of 0.9, one right; two of 0.55, both right; |0.5 - 0.9| / 2 + |1 - 0.55| / 2."""
    probabilities = np.float32([[0.9, 0.1], [0.1, 0.9], [0.55, 0.45], [0.45, 0.55]])
    found = calibration(probabilities, np.array([0, 0, 0, 1]))
    assert found["ece"] == pytest.approx(42.5)
    filled = {place: entry for place, entry in enumerate(found["bins"]) if entry["examples"]}
    assert sorted(filled) == [int(0.55 * BINS), int(0.9 * BINS)]
    assert [(entry["examples"], entry["accuracy"]) for entry in filled.values()] == [(2, 100), (2, 50)]
    assert [entry["confidence"] for entry in filled.values()] == pytest.approx([55, 90])
    assert all(entry["accuracy"] is None for place, entry in enumerate(found["bins"]) if place not in filled)


def test_certainty_is_in_the_last_bin_and_batches_add_up():
    sure = np.float32([[1, 0], [0, 1]])
    assert calibration(sure, np.array([0, 0]))["bins"][-1]["examples"] == 2
    probabilities, targets = some(101, 2.0)
    sums = Calibration()
    for start in range(0, 101, 13):
        sums.update(probabilities[start : start + 13], targets[start : start + 13])
    assert sums.record() == calibration(probabilities, targets)
    assert Calibration().record()["ece"] is None


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A float network for digits, trained a little."""
    torch.manual_seed(0)
    source = data.load("digits")
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    batches = [batch for epoch in range(4) for batch in source.train.training_batches(128, 0, epoch)]
    for batch in batches:
        loss = nn.functional.cross_entropy(model(batch.inputs), batch.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("packed") / "net.safetensors"
    onebit.pack(model, path, input_shape=(1, 8, 8), mean=[0.306], std=[0.377], labels=list("0123456789"))
    return path


def test_eval_prints_it_and_draws_it(packed, tmp_path, capsys):
    """Of what the network answers to the test images; the picture has its bars."""
    figure = tmp_path / "reliability.png"
    assert main(["eval", str(packed), "--data", "digits", "--reliability", str(figure), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    test = data.load("digits").test
    answers = one(onebit.load(packed)(test.images.numpy()))
    assert found["calibration"]["ece"] == pytest.approx(calibration(answers, test.targets.numpy())["ece"], abs=0.2)
    assert sum(entry["examples"] for entry in found["calibration"]["bins"]) == found["examples"] == 360
    drawn = np.asarray(Image.open(figure).convert("RGB")).reshape(-1, 3)
    assert (drawn == (0x34, 0x54, 0xD1)).all(1).sum() > 10_000 and (drawn == (0xE0, 0x70, 0x3A)).all(1).sum() > 100
    assert main(["eval", str(packed), "--data", "digits", "--reliability", str(tmp_path / "a.svg")]) == 0
    assert f"calibration error {found['calibration']['ece']:.2f} % on 360 examples" in capsys.readouterr().out
    assert (tmp_path / "a.svg").read_text().lstrip().startswith("<?xml")


def test_some_of_the_examples(packed, capsys):
    """Evenly spaced, and said so."""
    assert main(["eval", str(packed), "--data", "digits", "--limit", "90"]) == 0
    assert "on 90 of 360 examples" in capsys.readouterr().out
    test = data.load("digits").test
    chosen = test.some(90)
    assert len(chosen) == 90 and chosen.images.equal(test.images[::4]) and chosen.targets.equal(test.targets[::4])
    assert len(test.some(1000)) == 360


@pytest.mark.parametrize(
    ("name", "says"), [("net.safetensors", "replace its own input"), ("a.txt", ".png, .svg, .pdf")]
)
def test_bad_names_of_pictures(packed, name, says, capsys):
    before = packed.read_bytes()
    command = ["eval", str(packed), "--data", "digits", "--reliability", str(packed.parent / name)]
    assert main(command) == 2
    assert says in capsys.readouterr().err and packed.read_bytes() == before
