"""Files of earlier versions stay readable and mean the same. Those in tests/old were written by revision 780ba85:

adabin.ckpt            checkpoint version 1 of ResNet-8 on digits, from the middle of its third and last epoch
adabin.safetensors     what that revision packed it to: version 1 of the format, as all the others
adabin-int8, rbnn, reactnet, rebnn    of other trainings: weights of 8 bits, thresholds that are means of samples, of channels
logits.npz             "images", and what that revision's engine answered to them, by file
"""

from pathlib import Path

import numpy as np
import pytest

from onebit.analysis.evaluation import evaluate
from onebit.checkpoints import checkpoint, description
from onebit.packing.from_checkpoint import pack_checkpoint
from onebit.runtime import format, load, native
from onebit.runtime.graph import to_dict
from onebit.runtime.operators import OPERATORS
from onebit.training.recipe import Recipe
from runs import last, metrics, run, same

OLD = Path(__file__).with_name("old")
ACCURACY = {"adabin": 84.72, "adabin-int8": 84.72, "rbnn": 86.67, "reactnet": 82.5, "rebnn": 83.33}


@pytest.mark.parametrize("name", ACCURACY)
def test_a_packed_file_gives_the_same_bits(name):
    """In the engine, on every instruction set; the reference agrees to the last digits."""
    with np.load(OLD / "logits.npz") as content:
        images, expected = content["images"], content[name]
    path = OLD / f"{name}.safetensors"
    for isa in native.supported() if native.available() else []:
        answer = load(path, isa=isa, threads=1, backend="engine")(images)
        np.testing.assert_array_equal(answer.view(np.int32), expected.view(np.int32), err_msg=isa)
    np.testing.assert_allclose(load(path, backend="reference")(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ACCURACY)
def test_a_packed_file_keeps_its_score(name):
    result = evaluate(str(OLD / f"{name}.safetensors"), "digits", "data", checkpoint=False)
    assert result["accuracy"] == pytest.approx(ACCURACY[name], abs=0.01)


def test_a_packed_file_is_written_as_version_2(tmp_path):
    """Of the same graph, tensors and answers; that one, read and written again, has the bytes that it had."""
    with np.load(OLD / "logits.npz") as content:
        images = content["images"]
    for name in ACCURACY:
        old, new, again = OLD / f"{name}.safetensors", tmp_path / name, tmp_path / f"{name} again"
        graph, tensors = format.read(old)
        format.write(new, to_dict(graph, OPERATORS), tensors)
        assert format.version(old.read_bytes()) == "1" and format.version(new.read_bytes()) == "2"
        same_graph, same_tensors = format.read(new)
        assert same_graph == graph and same_tensors.keys() == tensors.keys()
        for tensor, array in tensors.items():
            assert array.dtype == same_tensors[tensor].dtype
            np.testing.assert_array_equal(array, same_tensors[tensor])
        format.write(again, to_dict(same_graph, OPERATORS), same_tensors)
        assert again.read_bytes() == new.read_bytes()
        np.testing.assert_array_equal(load(new, threads=1)(images), load(old, threads=1)(images))
        assert load(new).graph == load(old).graph


def test_a_checkpoint_packs_to_the_same_file(tmp_path):
    """The same graph and bits. Scales are sums that processors add up in orders of their own: the last digit may differ."""
    pack_checkpoint(checkpoint.load(OLD / "adabin.ckpt"), tmp_path / "new")
    (graph, tensors), (old_graph, old_tensors) = format.read(tmp_path / "new"), format.read(OLD / "adabin.safetensors")
    ours, theirs = to_dict(graph, OPERATORS), to_dict(old_graph, OPERATORS)
    for node, old in zip(ours["nodes"], theirs["nodes"], strict=True):
        assert node.pop("threshold", 0.0) == pytest.approx(old.pop("threshold", 0.0), rel=1e-6)
        assert node.pop("shift", 0.0) == pytest.approx(old.pop("shift", 0.0), rel=1e-6)
    assert ours.pop("training")["epochs_done"] == 2, "which files say today"
    assert ours == theirs and tensors.keys() == old_tensors.keys()
    for name, array in tensors.items():
        assert array.dtype == old_tensors[name].dtype
        np.testing.assert_allclose(
            array, old_tensors[name], rtol=1e-6 if array.dtype == np.float32 else 0, err_msg=name
        )


def test_a_checkpoint_is_read_and_evaluated():
    saved = checkpoint.load(OLD / "adabin.ckpt")
    assert saved.task == {"name": "classification", "labels": list("0123456789")}
    assert saved.inputs is not None and saved.inputs.shape == (1, 8, 8) and saved.source == "digits-resnet8-adabin"
    assert saved.scores is None and saved.progress is not None
    assert (saved.progress.epoch, saved.progress.step) == (2, 60)
    assert saved.progress.best == pytest.approx(84.72, abs=0.01)
    about = description.describe(OLD / "adabin.ckpt")
    assert about["name"] == "resnet8" and about["task"] == "classification" and about["epoch"] == 2
    result = evaluate(str(OLD / "adabin.ckpt"), "digits", "data", checkpoint=True)
    assert result["accuracy"] == pytest.approx(ACCURACY["adabin"], abs=0.3), "one image of 360 may turn"


def test_a_training_goes_on_from_a_checkpoint(tmp_path):
    """From the file of version 1 as from the same one in this version, to the same bits; and to what 780ba85 recorded."""
    saved = checkpoint.load(OLD / "adabin.ckpt")
    assert saved.progress is not None
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    (tmp_path / "old" / "last.ckpt").write_bytes((OLD / "adabin.ckpt").read_bytes())
    checkpoint.save(tmp_path / "new" / "last.ckpt", saved)
    for name in ("old", "new"):
        run(Recipe(**saved.progress.recipe | {"out": str(tmp_path / name)}), resume=True)
    same(*(last(tmp_path / name).model for name in ("old", "new")))
    (row,) = metrics(tmp_path / "old")
    assert [row] == metrics(tmp_path / "new")
    assert row["epoch"] == "3" and float(row["train_loss"]) == pytest.approx(0.6675, abs=0.02)
    assert float(row["train_accuracy"]) == pytest.approx(77.74, abs=1)
    assert float(row["test_accuracy"]) == pytest.approx(86.39, abs=3)
