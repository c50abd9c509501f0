"""Detectors through the whole of training: recipes that step, a run that resumes to the same bits, evaluation, checkpoints."""

import csv
import json

import pytest
import torch
from torchvision.ops import box_iou

import object_files
from onebit import runtime, tasks
from onebit.checkpoints import checkpoint
from onebit.cli import main as cli
from onebit.errors import Stopped, UserError
from onebit.training.recipe import Recipe, read
from onebit.training.train import train

SPLITS = {"train": object_files.pictures("train", 6), "test": object_files.pictures("test", 3)}
SMALL = {  # of the networks, too
    "model": "ssd300_vgg16",
    "arguments": {"width": 0.0625},
    "batch_size": 2,
    "epochs": 2,
    "workers": 0,
    "compile": "false",
    "precision": "32-true",
    "threads": 1,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return object_files.write_voc(tmp_path_factory.mktemp("voc"), SPLITS)


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    splits = {"train": SPLITS["train"], "val": SPLITS["test"]}
    return object_files.write_coco(tmp_path_factory.mktemp("coco"), splits)


def recipe_of(name, root, out, **values):
    return Recipe(**{**read(name), **SMALL, "root": str(root), "out": str(out), **values})


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    recipe = recipe_of("bccd-ssd300_resnet18-adabin", root, out, deterministic=True, eval_every=1)
    return train(recipe, quiet=True), out, recipe


def test_a_run_has_the_scores_of_detection(run):
    result, out, _ = run
    assert result["scores"] == ["map_50", "map", "voc07_map_50", "voc_map_50"]
    assert all(0 <= result[name] <= 100 for name in result["scores"]) and result["best"] >= result["map_50"]
    with open(out / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and float(rows[1]["train_loss"]) < float(rows[0]["train_loss"])
    assert float(rows[1]["test_map_50"]) == round(result["map_50"], 2) and "train_map_50" not in rows[0]
    saved = checkpoint.load(out / "last.ckpt")
    assert saved.task["name"] == "detection" and saved.task["settings"]["size"] == [300, 300]
    assert list(saved.task["labels"]) and saved.inputs.resize is None


def test_it_resumes_to_the_same_bits(run, root, tmp_path, monkeypatch):
    from onebit.training import train as loop

    result, out, _ = run
    stopped = recipe_of("bccd-ssd300_resnet18-adabin", root, tmp_path / "again", deterministic=True, eval_every=1)
    monkeypatch.setattr(loop.Stop, "agreed", after(4))
    with pytest.raises(Stopped):
        train(stopped, quiet=True)
    monkeypatch.undo()
    again = train(stopped, resume=True, quiet=True)
    assert [again[name] for name in again["scores"]] == [result[name] for name in result["scores"]]
    ours, theirs = (checkpoint.load(folder / "last.ckpt").model for folder in (tmp_path / "again", out))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def after(steps):
    """A stop after so many steps."""
    calls = []

    def agreed(self, fabric, checks):
        calls.append(checks)
        return 15 if len(calls) == steps else None

    return agreed


def test_evaluation_of_the_checkpoint(run, root, capsys):
    result, out, _ = run
    assert cli.main(["eval", str(out / "last.ckpt"), "--data", "voc", "--root", str(root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scores"] == result["scores"] and found["examples"] == 3
    for name in found["scores"]:
        assert found[name] == pytest.approx(result[name], abs=1e-3)
    assert "calibration" not in found


def test_a_data_set_of_another_task_is_refused(run, capsys):
    _, out, _ = run
    assert cli.main(["eval", str(out / "last.ckpt"), "--data", "digits"]) == 2
    assert "was made for the task detection" in capsys.readouterr().err


NARROW = {
    **{"model": "fasterrcnn_resnet18_fpn", "image_size": 64},
    "arguments": {"channels": 16, "hidden": 32, "samples": 16, "candidates": 50, "loss_scale": 5.0},
}
STEPPED = {
    "voc0712-ssd300_vgg16-adabin": ("voc", {}),
    "coco2017-ssd300_resnet18-adabin": ("coco", {"model": "ssd300_resnet18", "arguments": {}}),
    "bccd-fasterrcnn_resnet18_fpn-rebnn": ("voc", NARROW),
    "voc0712-fasterrcnn_resnet18_fpn-rebnn": ("voc", NARROW | {"batch_size": 2}),
    "coco2014-fasterrcnn_resnet18_fpn-rebnn": ("coco", NARROW | {"batch_size": 2}),
}


@pytest.mark.parametrize("name", STEPPED)
def test_recipes_step(name, root, coco, tmp_path):
    """The papers' settings, on pictures that are here and narrower networks."""
    kind, changes = STEPPED[name]
    folder = {"voc": root, "coco": coco}[kind]
    recipe = recipe_of(name, folder, tmp_path / "run", data=kind, epochs=1, warmup_epochs=0.0, **changes)
    result = train(recipe, quiet=True)
    assert result["epochs"] == 1 and result["scores"][0] == "map_50"


def test_a_detector_starts_from_a_classifier(root, tmp_path, capsys):
    """The body's tensors are the classifier's; binarizers that it lacks start from the weights."""
    from onebit import models
    from onebit.checkpoints.checkpoint import Checkpoint
    from onebit.checkpoints.initial import initialize_from

    classifier = models.create("imagenet_resnet18", "float", image_size=32)
    path = tmp_path / "classifier.ckpt"
    task = {"name": "classification", "labels": [str(n) for n in range(10)]}
    checkpoint.save(path, Checkpoint(config=classifier.config, model=classifier.state_dict(), task=task))
    detector = models.create("ssd300_resnet18", "rebnn", classes=3, image_size=300)
    start = initialize_from(detector, path)
    assert start.lines(path, 3) == [
        f"{path} is of a classifier: {start.body} tensors of its body are taken, all others start anew"
    ]
    assert torch.equal(detector.stages[1][0].conv1.weight, classifier.stages[1][0].conv1.weight)
    assert torch.equal(detector.bn1.running_var, classifier.bn1.running_var)
    narrow = models.create("ssd300_vgg16", "adabin", classes=3, image_size=300, width=0.0625)
    with pytest.raises(UserError, match="initial = "):
        initialize_from(narrow, path)


def test_arguments_of_the_data_are_refused(root, tmp_path):
    recipe = recipe_of("bccd-ssd300_resnet18-adabin", root, tmp_path / "run", arguments={"classes": 5})
    with pytest.raises(UserError, match="arguments holds 'classes', which the data set decides"):
        train(recipe, quiet=True)


def test_distillation_is_refused(root, tmp_path, run):
    recipe = recipe_of("bccd-ssd300_resnet18-adabin", root, tmp_path / "run", teacher=str(run[1] / "last.ckpt"))
    with pytest.raises(UserError, match="cannot learn from a teacher"):
        train(recipe, quiet=True)


@pytest.fixture(scope="module")
def packed(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "cells.safetensors"
    assert cli.main(["pack", str(run[1] / "last.ckpt"), "--out", str(path)]) == 0
    return path


def test_the_packed_file_finds_what_pytorch_finds(run, packed):
    """On 100 images: as many boxes above 0.05, each where PyTorch has it, with its score; and the same bits by any engine."""
    saved = checkpoint.load(run[1] / "last.ckpt")
    model = saved.network()
    task = tasks.create("detection", saved.task["labels"], settings=saved.task["settings"])
    engine = task.outputs_of(runtime.load(packed, threads=1))
    images = noise(100)
    others = [task.outputs_of(runtime.load(packed, threads=2))]
    others += [task.outputs_of(runtime.load(packed, threads=1, isa=isa)) for isa in runtime.native.supported()]
    total = matched = 0
    for start in range(0, 100, 25):
        batch = images[start : start + 25]
        with torch.no_grad():
            expected = task.read(model(batch))
        answers = engine(batch)
        for one, theirs in zip(answers, expected, strict=True):
            ours, wanted = one.scores > 0.05, theirs.scores > 0.05
            assert int(ours.sum()) == int(wanted.sum())
            best = box_iou(one.boxes[ours], theirs.boxes[wanted])
            alike = (one.labels[ours][:, None] == theirs.labels[wanted]) & (
                (one.scores[ours][:, None] - theirs.scores[wanted]).abs() <= 1e-3
            )
            matched += int((best.where(alike, torch.zeros(())).amax(1) >= 0.99).sum()) if ours.any() else 0
            total += int(ours.sum())
        if start == 0:
            for other in others:
                for one, same in zip(other(batch[:5]), answers[:5], strict=True):
                    assert torch.equal(one.boxes, same.boxes) and torch.equal(one.scores, same.scores)
    # After a few steps many scores are nearly the same, and rounding decides which of two boxes suppresses the other.
    assert total > 100 and matched >= 0.99 * total


def noise(count):
    """Images (count, 3, 300, 300) with coarse spots, normalised."""
    coarse = torch.randn(count, 3, 20, 20, generator=torch.Generator().manual_seed(5))
    return torch.nn.functional.interpolate(coarse, size=300, mode="bilinear")


def test_the_packed_file_scores_what_the_checkpoint_scores(run, packed, root, capsys):
    capsys.readouterr()
    assert cli.main(["eval", str(packed), "--data", "voc", "--root", str(root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["map_50"] == pytest.approx(run[0]["map_50"], abs=0.2)
