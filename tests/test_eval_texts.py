"""`onebit eval` of packed files of texts: the scores of their checkpoints, on their own task of GLUE or another one."""

import json
import shutil

import pytest
import torch

import glue_files
import pixels
from networks import BACKENDS
from onebit import models, pack
from onebit.checkpoints import checkpoint
from onebit.checkpoints.checkpoint import Checkpoint
from onebit.cli.main import main
from onebit.data.inputs import Words
from onebit.packing.from_checkpoint import pack_checkpoint, sources
from onebit.runtime import load

pytest.importorskip("tokenizers", reason="pip install 'onebit[text]'")
WORDS = Words(glue_files.VOCABULARY, 24)
SIZES = {"layers": 1, "width": 24, "heads": 3, "hidden": 48, "positions": 32, "dropout": 0.0}
BACKEND = BACKENDS[0]


def network(labels, seed=0):
    torch.manual_seed(seed)
    config = {"name": "bert", "method": "bibert", **SIZES, "vocabulary": len(WORDS.vocabulary), "classes": len(labels)}
    model = models.create(
        config["name"], config["method"], **{k: v for k, v in config.items() if k not in ("name", "method")}
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return Checkpoint(config, model.state_dict(), {"name": "text", "labels": labels}, WORDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """GLUE's made-up files, and networks: of two labels and of similarities as checkpoint and packed file, of MNLI's packed."""
    folder = tmp_path_factory.mktemp("texts")
    glue_files.write(folder / "glue", test=40)
    for name, labels in (("two", ["negative", "positive"]), ("one", ["similarity"])):
        saved = network(labels)
        checkpoint.save(folder / f"{name}.ckpt", saved)
        pack_checkpoint(checkpoint.load(folder / f"{name}.ckpt"), folder / f"{name}.safetensors")
    three = ["entailment", "neutral", "contradiction"]
    model = network(three).network()
    known = {"labels": three, "task": "text", "training": {"glue": "mnli", "length": 24}}
    pack(model, folder / "three.safetensors", **sources(WORDS), **known)
    pixels.network(folder / "images.safetensors")
    return folder


def evaluated(capsys, folder, name, *options):
    root = folder / "glue"
    assert main(["eval", str(folder / name), "--data", "glue", "--root", str(root), *options, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("name", "glue", "scores"),
    [("two", "sst2", ["accuracy"]), ("two", "mrpc", ["accuracy", "f1"]), ("one", "stsb", ["pearson", "spearman"])],
)
def test_the_scores_are_the_checkpoint_s(name, glue, scores, folder, capsys):
    """Batches of PyTorch are filled up, texts of the packed file are not."""
    if (name, glue) == ("two", "mrpc"):
        (folder / "glue" / "MRPC" / "x").touch()  # what else lies there is no matter
    theirs = evaluated(capsys, folder, f"{name}.ckpt", *([] if glue == "sst2" else ["--glue", glue]))
    ours = evaluated(capsys, folder, f"{name}.safetensors", "--glue", glue, "--backend", BACKEND, "--batch-size", "7")
    assert ours["scores"] == theirs["scores"] == scores and ours["examples"] == 40
    for score in scores:
        assert ours[score] == pytest.approx(theirs[score], abs=0.02)
    assert ours["runtime"] != theirs["runtime"] == "pytorch"
    assert ("calibration" in ours) == (name == "two")


def test_its_own_task_and_another_one(folder, capsys):
    file = folder / "glue" / "MNLI" / "dev_mismatched.tsv"
    lines = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join(lines[:13]) + "\n", encoding="utf-8")
    own = evaluated(capsys, folder, "three.safetensors", "--backend", BACKEND)
    other = evaluated(capsys, folder, "three.safetensors", "--backend", BACKEND, "--glue", "mnli_mismatched")
    assert (own["of_examples"], other["of_examples"]) == (40, 12)
    some = evaluated(capsys, folder, "three.safetensors", "--backend", BACKEND, "--limit", "5")
    assert (some["examples"], some["of_examples"]) == (5, 40)


def test_reports_and_tables_time_a_text(folder, tmp_path):
    """Of as many tokens as the network takes."""
    from onebit.analysis import deployment
    from onebit.reproduction import measurements
    from onebit.training.recipe import Recipe

    shutil.copy(folder / "two.ckpt", tmp_path / "last.ckpt")
    recipe = Recipe(data="glue", root=str(folder / "glue"))
    assert measurements.packed(tmp_path, recipe)["bytes"] > 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurements, "SECONDS", 0.05)
        patch.setattr(deployment, "SECONDS", 0.05)
        found = measurements.speed(tmp_path, recipe)
        sizes = deployment.speed(load(folder / "two.safetensors"))
    assert min(found["ms"], found["ms_pytorch"], sizes["ms"]) > 0 and found["isa"] == sizes["isa"]
    assert measurements.engine(tmp_path, recipe)["examples"] == 40


def other_words(folder):
    """The same data with another vocabulary."""
    shutil.copytree(folder / "glue", folder / "other")
    (folder / "other" / "vocab.txt").write_text("".join(f"{w}\n" for w in (*glue_files.VOCABULARY, "extra")))
    return folder / "other"


REFUSED = {
    "texts on images": (
        "two",
        ["--data", "digits"],
        "was made for the task text, data set 'digits' is for classification",
    ),
    "images on texts": ("images", ["--data", "glue"], "was made for the task measurement, data set 'glue' is for text"),
    "other labels": ("three", ["--data", "glue", "--glue", "sst2"], "was made for 3 classes, the data set has 2"),
    "an unknown task": ("two", ["--data", "glue", "--glue", "sst3"], "glue = 'sst3' must be 'sst2' or 'cola'"),
    "a task of other data": (
        "two",
        ["--data", "digits", "--glue", "rte"],
        "--glue has no effect here: it is for --data glue",
    ),
    "corrupted texts": (
        "two",
        ["--data", "glue", "--corruptions"],
        "--corruptions is for the task classification, not for text",
    ),
    "no folder": ("two", ["--data", "glue", "--root", "absent"], "absent/SST-2 must hold train.tsv"),
    "another vocabulary": ("two", ["--data", "glue", "--root", "other"], "the network by another one of"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals(what, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    name, arguments, says = REFUSED[what]
    root = [] if "--root" in arguments else ["--root", "glue"]
    if what == "another vocabulary":
        other_words(folder)
    code = main(["eval", f"{name}.safetensors", *arguments, *root, "--backend", BACKEND])
    captured = capsys.readouterr()
    assert code == 2 and captured.err.startswith("onebit: error: ") and captured.err.count("\n") == 1
    assert says in captured.err and not captured.out
