"""Detectors as packed files: what the file computes, what it says, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import onebit
from detectors import GRIDS, LABELS, ROWS, SETTINGS, SIZE, Detector, packed
from onebit import models, runtime
from onebit.checkpoints import checkpoint
from onebit.cli.main import main
from onebit.data.inputs import Images, Normalization
from onebit.errors import UserError
from onebit.nn.l2_norm import L2Norm
from onebit.packing.from_checkpoint import pack_checkpoint
from runs import saved


def rows(outputs):
    """Outputs of a file as PyTorch has them: (B, C, R, 1) -> (B, R, C)."""
    return {name: value[..., 0].transpose(0, 2, 1) for name, value in outputs.items()}


@pytest.mark.parametrize("views", ["reshape", "view"])
@pytest.mark.parametrize("int8", [False, True])
def test_the_file_computes_what_the_model_does(tmp_path, views, int8):
    model = packed(tmp_path / "net", Detector(views), int8=int8)
    images = np.random.default_rng(0).normal(size=(3, 3, *SIZE)).astype(np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(images))
    file, reference = runtime.load(tmp_path / "net"), runtime.load(tmp_path / "net", backend="reference")
    found = file(images)
    assert list(found) == ["scores", "offsets"] and found["scores"].shape == (3, 4, ROWS, 1)
    for name, value in rows(found).items():
        np.testing.assert_array_equal(value, rows(reference(images))[name])
        assert np.abs(value - expected[name].numpy()).max() < (0.1 if int8 else 1e-4)
    ops = [node["op"] for node in file.graph["nodes"]]
    assert ops.count("to_sequence") == 4 and ops.count("concat") == 2 and "l2_norm" in ops
    assert file.task.settings == SETTINGS and file.labels == LABELS and file.task.answer == "boxes"


class Shapes(nn.Module):
    """Views of a map (B, 12, H, W) as rows of `columns`, and what is done with them."""

    def __init__(self, columns, then):
        super().__init__()
        self.conv, self.columns, self.then = nn.Conv2d(3, 12, 1), columns, then

    def forward(self, x):
        x = self.conv(x)
        return self.then(x.permute(0, 2, 3, 1).reshape(len(x), -1, self.columns))


THEN = {
    "returned": lambda y: y,
    "relu": lambda y: torch.cat([y.relu(), y], 1),
    "slice": lambda y: y[:, 3:7],
    "softmax": lambda y: torch.softmax(torch.cat([y, y], 1), -1),
    "linear": lambda y: torch.cat([y, y], 1) * 2 + 1,
}


@pytest.mark.parametrize(
    ("size", "columns", "then"),
    [
        *((size, columns, "relu") for size in ((4, 5), (1, 5), (4, 1), (1, 1)) for columns in (1, 3, 12)),
        *(((4, 5), 3, then) for then in THEN),
        ((1, 1), 4, "returned"),
    ],
    ids=str,
)
def test_rows_of_parts_of_channels(tmp_path, size, columns, then):
    """Of maps of any size, of one pixel, too; of columns that are one, some or all of the channels."""
    model = Shapes(columns, THEN[then])
    onebit.pack(model, tmp_path / "net", input_shape=(3, *size))
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = model(x).numpy()
    found = runtime.load(tmp_path / "net")(x.numpy())
    assert found.shape == (2, expected.shape[2], expected.shape[1], 1)
    np.testing.assert_allclose(found[..., 0].transpose(0, 2, 1), expected, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_l2_norm_is_a_layer_of_the_file(tmp_path, scale):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), L2Norm(8, scale))
    with torch.no_grad():
        model[1].weight += torch.arange(8.0)
    onebit.pack(model, tmp_path / "net", input_shape=(3, 4, 5))
    file, x = runtime.load(tmp_path / "net"), torch.randn(2, 3, 4, 5)
    assert [node["op"] for node in file.graph["nodes"]] == ["conv", "l2_norm"]
    np.testing.assert_allclose(file(x.numpy()), model(x).detach().numpy(), rtol=1e-5, atol=1e-5)


CASES = {
    "no settings": ({"settings": None}, "pack lacks settings, which the answer 'boxes' needs"),
    "settings of labels": ({"answer": "several"}, "pack.settings are for the answer 'boxes' alone"),
    "settings a list": ({"settings": []}, "pack.settings must be an object"),
    "a misspelt key": ({"settings": {**SETTINGS, "threshold": 0.5}}, "pack.settings has the unknown key 'threshold'"),
    "a score in percent": ({"settings": {**SETTINGS, "score": 5}}, "pack.settings.score must be a number from 0 to 1"),
    "anchors of one map": (
        {"settings": {**SETTINGS, "anchors": GRIDS[:1]}},
        "anchors are 96, the output scores has 132",
    ),
    "another size": ({"settings": {**SETTINGS, "size": [64, 64]}}, "settings.size is .*64, 64"),
    "the background as a label": ({"labels": ("none", *LABELS)}, "4 labels for the 3 channels"),
    "boxes of a classifier": ({"task": "classification"}, "not how a classifier is read"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path, name):
    options, message = CASES[name]
    with pytest.raises(UserError, match=message) as caught:
        packed(tmp_path / "net", **options)
    assert "\n" not in str(caught.value) and not (tmp_path / "net").exists()


def test_a_checkpoint_of_a_detector(tmp_path):
    """Its record of how outputs are read goes into the file."""
    model = models.create("ssd300_resnet18", "bireal", classes=2, image_size=257)
    model.eval()
    state = saved(model, inputs=Images(3, 257, Normalization((0.5,) * 3, (0.25,) * 3)))
    task = {"name": "detection", "labels": ["a", "b"], "settings": model.settings}
    checkpoint.save(tmp_path / "net.ckpt", replace(state, task=task))
    pack_checkpoint(checkpoint.load(tmp_path / "net.ckpt"), tmp_path / "net")
    file = runtime.load(tmp_path / "net")
    assert file.task.settings == model.settings and file.task.name == "detection"
    assert main(["info", str(tmp_path / "net")]) == 0
