"""`onebit eval` of a packed file sees pictures as `onebit run` does: with the size, the cut and the normalisation of the file."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import onebit
import photograph_files
import pixels
from onebit import data, runtime
from onebit.analysis.evaluation import evaluate
from onebit.cli.main import main
from onebit.runtime import pictures


def predictions(path, root):
    """What `onebit run` answers to the test pictures: True where it names their class."""
    model = runtime.load(path)
    files = sorted((root / "val").glob("*/*"))
    return [model.predict(file)[0]["label"] == file.parent.name for file in files]


@pytest.mark.parametrize("kind", ("imagefolder", "webdataset"))
@pytest.mark.parametrize(
    ("shape", "resize"),
    (((3, 24, 24), None), ((3, 24, 24), 24), ((3, 20, 36), 40), ((3, 36, 20), None), ((3, 16, 16), 60)),
)
def test_the_same_answers_as_run(kind, shape, resize, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("onebit.data.LoadOptions.workers", 0)
    folders = photograph_files.write("imagefolder", tmp_path / "folders", val=24)
    root = folders if kind == "imagefolder" else photograph_files.write(kind, tmp_path / kind, val=24)
    network = nn.Sequential(nn.Conv2d(3, 8, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)).eval()
    network(torch.zeros(1, *shape))
    labels = list(photograph_files.CLASSES)
    mean, std = [0.2, 0.5, 0.4], [0.3, 0.2, 0.1]
    path = tmp_path / "net"
    onebit.pack(network, path, mean=mean, std=std, labels=labels, input_shape=shape, resize=resize)
    right = predictions(path, folders)
    result = evaluate(str(path), kind, str(root), checkpoint=False)
    assert result["examples"] == 24 and result["accuracy"] == pytest.approx(100 * np.mean(right), abs=0.01)


def test_batches_hold_the_pixels_of_run(tmp_path):
    """Bit for bit, upright and uncut where the file has no resize, for pictures of any shape."""
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        for number, size in enumerate(((30, 50), (50, 30), (3, 90))):
            Image.fromarray(pixels.noise(*size)).save(tmp_path / split / "a" / f"{number}.png")
    source = data.load("imagefolder", tmp_path, data.LoadOptions(image_size=20, workers=0))
    for shape, resize in (((3, 20, 36), 40), ((3, 20, 36), None), ((3, 20, 20), 22)):
        model = pixels.network(tmp_path / "net", shape, resize)
        batch = next(source.test.cut(*shape[1:], resize).evaluation_batches(3))
        for number, image in enumerate(batch.inputs):
            pixels_of_run = pictures.read(tmp_path / "val" / "a" / f"{number}.png", model)
            theirs = source.inputs.normalization(torch.tensor(pixels_of_run.transpose(2, 0, 1).copy())[None])
            assert image.equal(theirs[0])


def test_sets_of_a_fixed_size_stay_as_they_are(capsys, tmp_path):
    source = data.load("digits")
    assert source.test.cut(9, 9, 12) is source.test
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)).eval()
    onebit.pack(network, tmp_path / "net", mean=[0.306], std=[0.377], labels=list("0123456789"), input_shape=(1, 8, 8))
    assert main(["eval", str(tmp_path / "net"), "--data", "digits", "--json"]) == 0
    expected = runtime.load(tmp_path / "net")(source.test.images.numpy()).argmax(1) == source.test.targets.numpy()
    assert json.loads(capsys.readouterr().out)["accuracy"] == pytest.approx(100 * expected.mean(), abs=0.3)
