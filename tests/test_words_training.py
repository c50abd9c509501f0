"""Texts through the whole of training: recipes that step, a run that resumes to the same bits, evaluation, what is refused."""

import csv
import json

import pytest
import torch

import glue_files
from onebit.checkpoints import checkpoint
from onebit.cli import main as cli
from onebit.data.inputs import Words
from onebit.errors import Stopped, UserError
from onebit.training import train as train_module
from onebit.training.recipe import Recipe, read
from onebit.training.train import train

pytest.importorskip("tokenizers", reason="pip install 'onebit[text]'")
SMALL = {  # networks
    "model": "bert",
    "arguments": {"layers": 2, "width": 32, "heads": 2, "hidden": 64, "positions": 48, "dropout": 0.1},
    "length": 32,
    "batch_size": 8,
    "epochs": 2,
    "lr": 3e-3,
    "warmup_epochs": 0.0,
    "precision": "32-true",
    "threads": 1,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return glue_files.write(tmp_path_factory.mktemp("glue") / "glue")


def recipe_of(name, root, out, **values):
    return Recipe(**{**read(name), **SMALL, "root": str(root), "out": str(out), **values})


LONG = {"epochs": 12, "lr": 1e-2, "warmup_epochs": 1.0, "deterministic": True}


@pytest.fixture(scope="module")
def parent(root, tmp_path_factory):
    """A float network that tells good from bad."""
    out = tmp_path_factory.mktemp("parent")
    recipe = recipe_of("glue-minilm-float", root, out, **LONG)
    return train(recipe, quiet=True), out, recipe


def test_a_parent_learns(parent):
    result, out, _ = parent
    assert result["scores"] == ["accuracy"] and result["accuracy"] == 100
    with open(out / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and float(rows[-1]["train_loss"]) < 0.3 < float(rows[0]["train_loss"])
    saved = checkpoint.load(out / "last.ckpt")
    assert saved.task == {"name": "text", "labels": ["negative", "positive"]}
    assert saved.inputs == Words(glue_files.VOCABULARY, 32)
    assert saved.config["vocabulary"] == len(glue_files.VOCABULARY) and saved.config["classes"] == 2


def test_it_resumes_to_the_same_bits(parent, root, tmp_path, monkeypatch):
    from onebit.training import train as loop

    result, out, _ = parent
    stopped = recipe_of("glue-minilm-float", root, tmp_path / "again", **LONG)
    calls = []
    monkeypatch.setattr(loop.Stop, "agreed", lambda *_: calls.append(1) or (15 if len(calls) == 9 else None))
    with pytest.raises(Stopped):
        train(stopped, quiet=True)
    monkeypatch.undo()
    again = train(stopped, resume=True, quiet=True)
    assert again["accuracy"] == result["accuracy"]
    ours, theirs = (checkpoint.load(folder / "last.ckpt").model for folder in (tmp_path / "again", out))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    rows = [(folder / "metrics.csv").read_text().splitlines() for folder in (tmp_path / "again", out)]
    assert [row.split(",")[:4] for row in rows[0]] == [row.split(",")[:4] for row in rows[1]]


def test_what_is_frozen_stays(parent, root, tmp_path):
    _, out, _ = parent
    weights = str(out / "last.ckpt")
    recipe = recipe_of(
        "glue-minilm-bit",
        root,
        tmp_path,
        freeze=["embeddings.word*", "pooler"],
        initial=weights,
        teacher=weights,
        epochs=1,
    )
    train(recipe, quiet=True)
    before, after = (checkpoint.load(folder / "last.ckpt").model for folder in (out, tmp_path))
    same = {name for name in before if name in after and torch.equal(before[name], after[name])}
    frozen = {name for name in before if name.startswith(("embeddings.word", "pooler"))}
    assert len(frozen) == 3 and same == frozen
    again = train(Recipe(**{**vars(recipe), "epochs": 2}), resume=True, extend=True, quiet=True)
    assert again["epochs"] == 2
    after = checkpoint.load(tmp_path / "last.ckpt").model
    assert all(torch.equal(before[name], after[name]) for name in frozen)


def test_batches_of_many_sizes_give_their_memory_back(root, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(train_module, "give_back", lambda: calls.append(True))
    monkeypatch.setattr(train_module, "UNEVEN", 2)
    result = train(recipe_of("glue-minilm-float", root, tmp_path / "run", epochs=2), quiet=True)
    assert result["epochs"] == 2
    examples = len((root / "SST-2" / "train.tsv").read_text().splitlines()) - 1
    assert len(calls) == 2 * (examples // SMALL["batch_size"] // 2)


def test_evaluation_of_the_checkpoint(parent, root, capsys):
    result, out, _ = parent
    assert cli.main(["eval", str(out / "last.ckpt"), "--data", "glue", "--root", str(root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == result["accuracy"] and found["examples"] == 16 and found["calibration"]
    for verb in (["info"], ["info", "--layers"]):
        assert cli.main([*verb, str(out / "last.ckpt")]) == 0
    assert "embeddings.word_embeddings" in capsys.readouterr().out


@pytest.mark.parametrize("task", ("stsb", "cola", "mrpc", "mnli_mismatched"))
def test_scores_of_other_tasks(task, root, tmp_path, capsys):
    """The task is remembered, so that evaluation asks for the same."""
    wanted = {
        "stsb": ["pearson", "spearman"],
        "cola": ["matthews"],
        "mrpc": ["accuracy", "f1"],
        "mnli_mismatched": ["accuracy"],
    }
    result = train(recipe_of("glue-minilm-float", root, tmp_path / "run", epochs=1, glue=task), quiet=True)
    assert result["scores"] == wanted[task]
    assert cli.main(["eval", str(tmp_path / "run" / "last.ckpt"), "--data", "glue", "--root", str(root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [found[name] for name in result["scores"]] == pytest.approx(
        [result[name] for name in result["scores"]], abs=1e-3
    )
    assert ("calibration" in found) == (task != "stsb")


def test_accumulated_parts_are_the_batch(root, tmp_path):
    """Of equal parts, padded to the same length, the mean of the means is the mean."""
    keys = {"arguments": {**SMALL["arguments"], "dropout": 0.0}, "epochs": 1, "optimizer": "sgd", "lr": 0.1}
    whole = train(recipe_of("glue-minilm-float", root, tmp_path / "whole", **keys), quiet=True)
    parts = train(recipe_of("glue-minilm-float", root, tmp_path / "parts", accumulate=4, **keys), quiet=True)
    ours, theirs = (checkpoint.load(result["last_checkpoint"]).model for result in (whole, parts))
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=1e-3)


REFUSED = {
    "more tokens than positions": (
        {"length": 64},
        "64 tokens, this network has 48 positions); choose another length or model",
    ),
    "a network of images": ({"model": "resnet20", "arguments": {}}, "model 'resnet20' has no argument 'vocabulary'"),
    "words for images": ({"data": "digits", "length": 128}, "model 'bert' has no argument 'image_size'"),
    "a frozen part that there is not": (
        {"freeze": ["pooler", "embedings.*"]},
        "freeze holds 'embedings.*', which names no parameter; one is called 'embeddings.",
    ),
    "nothing left to train": ({"freeze": ["*"]}, "freeze = ['*'] names all parameters; leave some to train"),
    "an argument of the data": (
        {"arguments": {"vocabulary": 50}},
        "arguments holds 'vocabulary', which the data set decides",
    ),
    "a teacher of images": (
        {"teacher": "timm:resnet18", "glue": "sst2"},
        "this is for networks of images, not of words",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_one_line(case, root, tmp_path):
    values, says = REFUSED[case]
    with pytest.raises(UserError) as error:
        train(recipe_of("glue-minilm-float", root, tmp_path / "run", **values), quiet=True)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_another_vocabulary_is_refused(parent, tmp_path, capsys):
    _, out, _ = parent
    other = glue_files.write(tmp_path / "glue", vocabulary=glue_files.VOCABULARY[:-1])
    assert cli.main(["eval", str(out / "last.ckpt"), "--data", "glue", "--root", str(other)]) == 2
    error = capsys.readouterr().err
    assert (
        error.count("\n") == 1
        and "a vocabulary of 72 words, lowercase, the network by another one of 73 words" in error
    )
    with pytest.raises(UserError, match=r"shape \(73, 32\), that of this network \(72, 32\)"):
        train(recipe_of("glue-minilm-float", other, tmp_path / "run", initial=str(out / "last.ckpt")), quiet=True)
    assert cli.main(["eval", str(out / "last.ckpt"), "--data", "digits"]) == 2
    assert "was made for the task text, data set 'digits' is for classification" in capsys.readouterr().err


def test_a_run_is_measured(root, parent, tmp_path):
    """What `onebit analyze` makes of tokens, whose channels come last."""
    from onebit.analysis import examples, runs
    from onebit.analysis.study import measured

    recipe = recipe_of(
        "glue-minilm-float", root, tmp_path / "run", method="bit", epochs=1, initial=parent[0]["last_checkpoint"]
    )
    train(recipe, quiet=True)
    (run,) = runs.read([str(tmp_path / "run")])
    study = measured(run, examples.load(run, "glue", str(root)), 16, 4, 1)
    assert len(study.activations) == 13 and all(0 <= row["entropy"] <= 1 for row in study.activations)
    assert study.activations[5]["values"][0] < study.activations[5]["values"][1]
    assert all(gain is not None for gain in study.sensitivity["activations"])
