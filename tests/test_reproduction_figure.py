"""The figure of a table: which points its records give, what it refuses; and the int8 forms of a parent."""

import json
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from onebit.cli.main import main
from onebit.reproduction import records
from onebit.reproduction.figure import picture, points_of
from onebit.reproduction.int8 import first_inputs, one_by_one
from onebit.reproduction.lines import lines_of
from onebit.reproduction.table import read

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def test_points_are_what_the_records_say():
    """Each row once: a network of one bit by its packed file and the engine, its parent by float32 and PyTorch."""
    table = read("digits")
    found = records.read(RESULTS / "digits.json")
    for record in found:
        if record["row"] == "float":
            record["measured"]["int8"] = {"openvino_accuracy": 90.0, "openvino_bytes": 80_000, "openvino_ms": 0.05}
    points = {point.label: point for point in points_of(lines_of(table, found))}
    assert set(points) == {"full precision", "OpenVINO, int8", "rbnn", "adabin", "rebnn"}
    own = [record["measured"] for record in found if record["row"] == "adabin"]
    accuracies = [values["engine"]["accuracy"] for values in own]
    adabin = points["adabin"]
    assert adabin.accuracy == pytest.approx(np.mean(accuracies)) and adabin.kind == 2
    assert adabin.reach == pytest.approx(np.std(accuracies, ddof=1))
    assert adabin.bytes == own[0]["packed"]["bytes"] and adabin.ms == min(values["speed"]["ms"] for values in own)
    parent = [record["measured"] for record in found if record["row"] == "float"]
    assert points["full precision"].ms == min(values["speed"]["ms_pytorch"] for values in parent)
    assert points["full precision"].bytes == parent[0]["packed"]["float32_bytes"]
    assert (points["OpenVINO, int8"].accuracy, points["OpenVINO, int8"].bytes) == (90.0, 80_000)
    svg = picture(table, found).svg.decode()
    ElementTree.fromstring(svg)


def test_the_command_draws(tmp_path, capsys):
    path = tmp_path / "digits.svg"
    assert main(["reproduce", "digits", "--out", str(RESULTS), "--figure", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["figure"] == str(path)
    ElementTree.parse(path)


def test_what_cannot_be_drawn_is_refused(tmp_path, capsys):
    for arguments, message in (
        (("--figure", str(tmp_path / "a.gif"), "--out", str(RESULTS)), "name a file that ends in .svg or .png"),
        (("--figure", str(tmp_path / "a.svg"), "--out", str(tmp_path / "none")), "has no row that was run and timed"),
        (("--figure", "a.svg", "--seeds", "1"), "--figure trains nothing"),
    ):
        assert main(["reproduce", "digits", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_an_engine_for_single_images_answers_batches():
    images = torch.randn(5, 3, 4, 4)
    network = one_by_one(lambda image: image.sum((2, 3)))
    torch.testing.assert_close(network(images), images.sum((2, 3)))


@pytest.mark.filterwarnings("default")  # the other projects' own
@pytest.mark.skipif(
    find_spec("onnxruntime") is None or find_spec("onnxscript") is None,
    reason="pip install '.[peers]' for int8 engines",
)
def test_a_parent_in_int8(tmp_path):
    """A network trained for an epoch answers alike in 8 bits."""
    from onebit.reproduction.int8 import int8
    from runs import digits, last, run

    recipe = digits(tmp_path, method="float", epochs=2)
    run(recipe)
    found = int8(tmp_path, recipe, lambda call: (call(), 1.0)[1])
    scores = last(tmp_path).scores
    assert abs(found["onnxruntime_accuracy"] - scores["accuracy"]) < 5
    assert 20_000 < found["onnxruntime_bytes"] < 302_952 and found["onnxruntime_ms"] == 1.0


def test_calibration_images_are_not_augmented():
    from onebit import data

    source = data.load("digits")
    inputs = first_inputs(source)
    assert inputs.shape == (256, *source.inputs.shape)
    assert np.array_equal(inputs, next(iter(source.train.evaluation_batches(256))).inputs.numpy())
