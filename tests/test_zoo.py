"""The networks that come with onebit: how they are named and made, and that each file holds what it claims."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import onebit
import runs
import shared_data
from onebit.analysis.evaluation import evaluate
from onebit.checkpoints import checkpoint
from onebit.cli.main import main
from onebit.errors import UserError
from onebit.packing.from_checkpoint import PLACES, TEACHING
from onebit.reproduction import zoo as making
from onebit.runtime import format, inspection, native, zoo
from onebit.training.recipe import DistillationOptions, Recipe

SHIPPED = zoo.names()
METHODS = ("adabin", "rbnn", "rebnn", "triad")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run folder of two epochs on digits."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    runs.run(runs.digits(out, epochs=2, seed=3))
    return out


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory) -> Path:
    """A zoo of one network."""
    found = tmp_path_factory.mktemp("zoo")
    making.make(str(trained / "last.ckpt"), "data", "digits-resnet8", found)
    return found


@pytest.fixture
def small_zoo(folder, monkeypatch):
    monkeypatch.setattr(zoo, "SHIPPED", folder)


def succeed(capsys, *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def test_a_file_is_made_of_a_checkpoint(folder, trained):
    """Recipe, seed, epochs and the engine's accuracy are in it; so they are in what every `onebit pack` writes."""
    path = folder / "digits-resnet8.safetensors"
    found = inspection.describe(str(path))
    measured = evaluate(str(path), "digits", "data", checkpoint=False)
    assert found["scores"] == {"accuracy": measured["accuracy"]} and found["bytes"] <= making.LARGEST
    training = found["training"]
    expected = {
        "data": "digits",
        "model": "resnet8",
        "seed": 3,
        "epochs": 2,
        "epochs_done": 2,
        "method": found["method"],
    }
    assert training | expected == training
    assert training["scores_of"] == "the engine on 360 test examples"
    assert "image_size" not in training and "temperature" not in training and str(trained) not in json.dumps(training)
    assert main(["pack", str(trained / "last.ckpt"), "--out", str(trained / "net.safetensors")]) == 0
    model = onebit.load(trained / "net.safetensors")
    assert dict(model.training) == {key: value for key, value in training.items() if key != "scores_of"}


def test_places_are_the_keys_that_change_no_result():
    free = {field.name for field in dataclasses.fields(Recipe) if field.metadata["free"]}
    assert free == set(PLACES)
    teaching = {field.name for field in dataclasses.fields(DistillationOptions)}
    assert teaching == {*TEACHING, "teacher", "teacher_weights"}


def test_names_of_the_zoo_stand_for_files(small_zoo, folder, tmp_path, capsys):
    name, path = "zoo:digits-resnet8", folder / "digits-resnet8.safetensors"
    picture = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    loaded = [onebit.load(each) for each in (name, path)]
    np.testing.assert_array_equal(*[model(picture[None, :, :, None]) for model in loaded])
    answers = [succeed(capsys, "run", each, str(tmp_path / "picture.png")) for each in (name, str(path))]
    assert answers[0] == answers[1]
    info = json.loads(succeed(capsys, "info", name, "--json"))
    assert info["file"] == name and info["bytes"] == path.stat().st_size
    shown = succeed(capsys, "info", name)
    assert "epochs_done 2" in shown and "seed 3" in shown
    scores = json.loads(succeed(capsys, "eval", name, "--data", "digits", "--json"))
    assert scores["accuracy"] == info["accuracy"]
    listed = succeed(capsys, "list", "zoo")
    assert (
        listed.startswith(f"{name}  resnet8 by ")
        and "2 epochs, seed 3" in listed
        and f"{info['bytes']} bytes" in listed
    )
    layers = json.loads(succeed(capsys, "bench", name, "--layers", "--rounds", "1", "--json"))
    assert layers


@pytest.mark.parametrize("verb", ["run", "info", "eval", "bench"])
def test_unknown_names_are_refused(small_zoo, verb, capsys, tmp_path):
    assert main([verb, "zoo:digits-resnet9", *(["a.png"] if verb == "run" else [])]) == 2
    error = capsys.readouterr().err
    assert "zoo:digits-resnet9 is unknown (did you mean zoo:digits-resnet8?)" in error and len(error.splitlines()) == 1


def test_a_zoo_without_networks(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(zoo, "SHIPPED", tmp_path)
    assert succeed(capsys, "list", "zoo").strip() == ""
    with pytest.raises(UserError, match="this onebit comes with none"):
        onebit.load("zoo:any")


def test_ones_own_file_may_be_called_so(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(folder / "digits-resnet8.safetensors", "zoo:mine")
    assert onebit.load("./zoo:mine").name == onebit.load(Path("zoo:mine")).name == "resnet8"


def test_what_is_no_training_or_too_large_is_refused(trained, folder, tmp_path, monkeypatch, capsys):
    last = str(trained / "last.ckpt")
    with pytest.raises(UserError, match="not written by a training"):
        checkpoint.save(trained / "weights.ckpt", dataclasses.replace(runs.last(trained), progress=None))
        making.make(str(trained / "weights.ckpt"), "data", "weights", tmp_path)
    with pytest.raises(UserError, match="small letters"):
        making.make(last, "data", "../Name", tmp_path)
    monkeypatch.setattr(making, "LARGEST", 1000)
    with pytest.raises(UserError, match="a file of the zoo has at most 1000"):
        making.make(last, "data", "digits", tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(sys, "argv", ["zoo", last, last, "--name", "digits", "--folder", str(tmp_path)])
    assert making.main() == 2 and "is for one checkpoint" in capsys.readouterr().err


def test_bash_completes_files_and_names(small_zoo, capsys, tmp_path):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    (tmp_path / "script").write_text(succeed(capsys, "completion", "bash"))
    (tmp_path / "zebra.safetensors").touch()
    complete = (
        'source ./script; COMP_WORDS=(onebit eval z); COMP_CWORD=2; _shtab_onebit; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run([bash, "-c", complete], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"zebra.safetensors", "zoo:digits-resnet8"}, done


def test_the_zoo_is_of_the_methods_it_promises():
    """Where there is a zoo at all."""
    if not SHIPPED:
        pytest.skip("this checkout has no networks in src/onebit/zoo")
    assert {inspection.describe(f"zoo:{name}")["method"] for name in SHIPPED} >= set(METHODS)


@pytest.mark.parametrize("name", SHIPPED)
def test_each_file_holds_its_records(name):
    found = inspection.describe(f"zoo:{name}")
    assert found["bytes"] <= making.LARGEST and found["recipe"] and 0 < found["accuracy"] <= 100
    assert {"data", "seed", "epochs", "epochs_done", "model", "method", "scores_of"} <= found["training"].keys()
    model = onebit.load(f"zoo:{name}", threads=1)
    channels, height, width = model.input_shape
    picture = np.random.default_rng(0).integers(0, 256, (1, height, width, channels), dtype=np.uint8)
    (answer,) = model.predict(picture)
    assert answer[0]["label"] in model.labels
    graph, tensors = format.read(zoo.located(f"zoo:{name}"))
    assert format.decode(format.encode(graph, tensors))[0] == graph


@pytest.mark.parametrize("name", SHIPPED)
def test_each_files_accuracy_is_measured_again(name):
    if not native.available():
        pytest.skip("the engine is not built")
    path = f"zoo:{name}"
    data = onebit.load(path).training["data"]
    root = shared_data.cifar10_root() if data == "cifar10" else "data"
    found = evaluate(path, str(data), str(root), checkpoint=False)
    assert found["accuracy"] == pytest.approx(inspection.describe(path)["accuracy"], abs=0.02)
    assert found["examples"] == found["of_examples"]
