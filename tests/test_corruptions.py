"""Corrupted pictures: what each corruption does, that it is repeatable, and the accuracies that `onebit eval` reports."""

import importlib
import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

import onebit
import photograph_files
from onebit import data
from onebit.analysis import corruptions, robustness
from onebit.analysis.corruptions import COMMON, NAMES, SEVERITIES, chosen, corrupt
from onebit.analysis.subject import opened
from onebit.cli.main import main
from onebit.errors import UserError

pytest.importorskip("imagecorruptions", reason="pip install 'onebit[robustness]'")


def smooth(size: int = 32) -> np.ndarray:
    """A picture with edges, colours and gradients, uint8 (size, size, 3)."""
    y, x = np.mgrid[:size, :size] / (size - 1)
    picture = np.stack([x, y, 0.5 + 0.4 * np.sin(9 * x) * np.cos(7 * y)], axis=2)
    picture[size // 4 : size // 2, size // 4 : size // 2] = (0.9, 0.2, 0.1)
    return (255 * picture).round().astype(np.uint8)


def test_the_names_are_the_librarys():
    functions = vars(corruptions.copy_of_library().module)
    assert all(callable(functions[name]) for name in NAMES)
    assert len(COMMON) == 15 and len(set(NAMES)) == 19


@pytest.mark.parametrize("name", NAMES)
def test_every_corruption_at_every_severity(name):
    """The picture changes, more at severity 5 than at 1, and the same arguments give the same pixels."""
    picture, distances = smooth(), []
    for severity in SEVERITIES:
        found = [corrupt(picture, name, severity, 0, index) for index in range(3)]
        assert all(each.shape == picture.shape and each.dtype == np.uint8 for each in found)
        distances.append(np.mean([np.abs(each.astype(int) - picture).mean() for each in found]))
    assert min(distances) > 0.3
    if name not in (
        "frost",
        "saturate",
    ):  # a photograph, brighter here than there; fainter colours at 1, stronger ones at 5
        assert distances[-1] > distances[0]
    np.testing.assert_array_equal(corrupt(picture, name, 5, 0, 2), found[2])


DRAWN = [
    name
    for name in NAMES
    if name
    not in (
        *(
            "defocus_blur",
            "zoom_blur",
            "brightness",
            "contrast",
            "pixelate",
            "jpeg_compression",
            "gaussian_blur",
            "saturate",
        ),
    )
]


@pytest.mark.parametrize("name", DRAWN)
def test_what_is_drawn_depends_on_seed_name_severity_and_index_alone(name):
    picture = smooth()
    first = corrupt(picture, name, 3, 0, 7)
    np.random.seed(5)
    corrupt(picture, "gaussian_noise", 2, 1, 0)
    np.testing.assert_array_equal(corrupt(picture, name, 3, 0, 7), first)
    others = [corrupt(picture, name, 3, *where) for where in ((0, 8), (0, 9), (1, 7), (2, 7))]
    assert len({each.tobytes() for each in [first, *others]}) >= 4  # frost may take the same place twice


def test_nobody_elses_generators_or_modules_are_touched():
    np.random.seed(3)
    before = np.random.get_state()[1].tobytes()
    for name in NAMES:
        corrupt(smooth(), name, 2, 0, 0)
    assert np.random.get_state()[1].tobytes() == before
    assert getattr(sys.modules.get("pkg_resources"), "__file__", "") is not None
    assert hasattr(importlib.import_module("scipy.ndimage"), "zoom")


def test_known_arithmetic():
    """Contrast at severity 5 keeps a twentieth of the distance from the mean; brightness adds half to the value."""
    picture = smooth()
    scaled = picture / 255
    means = scaled.mean(axis=(0, 1), keepdims=True)
    np.testing.assert_array_equal(
        corrupt(picture, "contrast", 5, 0, 0), (np.clip((scaled - means) * 0.05 + means, 0, 1) * 255).astype(np.uint8)
    )
    grey = np.full((32, 32, 3), 51, np.uint8)  # 0.2
    assert np.abs(corrupt(grey, "brightness", 5, 0, 0).astype(int) - round(0.7 * 255)).max() <= 1


def test_liquid_that_covers_nothing_leaves_the_picture():
    """The package divides 0 by 0 there: of 60 pictures, some."""
    picture = smooth()
    with np.errstate(all="raise"):
        found = [corrupt(picture, "spatter", 1, 0, index) for index in range(60)]
    assert all(each.mean() > picture.mean() / 2 for each in found)


def test_grey_pictures_and_larger_ones():
    grey = smooth(48)[:, :, :1]
    for name in NAMES:
        found = corrupt(grey, name, 3, 0, 0)
        assert found.shape == grey.shape and ((found != grey).any() or name == "saturate"), name
    assert corrupt(smooth(65), "fog", 1, 0, 0).shape == (65, 65, 3)


def test_pixels_of_normalised_pictures():
    """All 256 values come back, whatever the constants."""
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    for mean, std in (
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ((0.0,) * 3, (1.0,) * 3),
        ((9.0,) * 3, (0.01,) * 3),
    ):
        normalization = data.dataset.Normalization(mean, std)
        assert normalization.pixels(normalization(values)).equal(values)


def network(path, size: int = 36, channels: int = 3, labels=photograph_files.CLASSES):
    """A packed network, by default for the photographs of `photograph_files`."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(channels, 8, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(len(labels))
    ).eval()
    shape = (channels, size, size)
    model(torch.zeros(1, *shape))
    mean, std = [0.2, 0.5, 0.4][:channels], [0.3, 0.2, 0.1][:channels]
    onebit.pack(model, path, mean=mean, std=std, labels=list(labels), input_shape=shape)
    return path


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    monkeypatch.setattr("onebit.data.LoadOptions.workers", 0)
    return photograph_files.write("imagefolder", tmp_path / "folders", val=24)


def test_accuracies_are_those_of_the_corrupted_pictures(photographs, tmp_path, capsys):
    """Each picture corrupted by itself, with the network called on pixels; and of some of the pictures alone."""
    path = network(tmp_path / "net")
    command = ["eval", str(path), "--data", "imagefolder", "--root", str(photographs), "--json"]
    options = ["--corruptions", "contrast,noise", "--severities", "2,5", "--seed", "4"]
    assert main([*command, *options]) == 0
    found = json.loads(capsys.readouterr().out)["corruptions"]
    source = data.load("imagefolder", photographs, data.LoadOptions(image_size=36, workers=0))
    batch = next(source.test.cut(36, 36, None).evaluation_batches(24))
    pictures = source.inputs.normalization.pixels(batch.inputs).permute(0, 2, 3, 1).numpy()
    model = onebit.load(path)

    def right(indices: range, name: str, severity: int) -> float:
        images = np.stack([corrupt(pictures[index], name, severity, 4, index) for index in indices])
        return 100 * float(np.mean(model(images).argmax(1) == batch.targets.numpy()[list(indices)]))

    names = ("contrast", "gaussian_noise", "shot_noise", "impulse_noise")
    assert tuple(found["accuracy"]) == names and found["severities"] == [2, 5] and found["seed"] == 4
    for name in names:
        expected = [right(range(24), name, severity) for severity in (2, 5)]
        assert list(found["accuracy"][name].values()) == pytest.approx(expected, abs=0.01)
        assert found["means"][name] == pytest.approx(np.mean(expected), abs=0.01)
    assert found["mean"] == pytest.approx(np.mean(list(found["means"].values())), abs=0.01)
    assert found["relative"] == pytest.approx(100 * found["mean"] / found["clean"], abs=0.01)
    assert main([*command, "--corruptions", "contrast", "--severities", "5", "--seed", "4", "--limit", "8"]) == 0
    some = json.loads(capsys.readouterr().out)["corruptions"]
    assert some["accuracy"]["contrast"]["5"] == pytest.approx(right(range(0, 24, 3), "contrast", 5), abs=0.01)
    assert (some["examples"], some["of_examples"]) == (8, 24)


def test_the_table_says_on_how_many(photographs, tmp_path, capsys):
    path = network(tmp_path / "net")
    command = ["eval", str(path), "--data", "imagefolder", "--root", str(photographs), "--limit", "6"]
    assert main([*command, "--corruptions", "blur", "--severities", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "on 6 of 24 examples" in lines[0] and lines[2].split() == ["corruption", "1", "mean"]
    assert [line.split()[0] for line in lines[3:7]] == list(corruptions.GROUPS["blur"])
    assert lines[7].startswith("mean of 4 corruptions ") and lines[7].endswith("on 6 of 24 examples")


def test_processes_change_nothing(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(robustness.processor, "count", lambda: 2)
    subject = opened(str(network(tmp_path / "net")), "imagefolder", str(photographs), checkpoint=False)
    kept = []
    results = []
    for few in (robustness.FEW, 1):
        monkeypatch.setattr(robustness, "FEW", few)
        done = []
        results.append(
            robustness.robustness(
                subject, ["glass_blur", "fog"], [1, 4], batch_size=10, progress=lambda *at, done=done: done.append(at)
            )
        )
        kept.append(done)
    assert results[0] == results[1]
    assert kept[0] == kept[1] and kept[0][-1] == (96, 96)


def test_names_and_refusals(tmp_path, capsys, photographs):
    assert chosen(["common"]) == COMMON and chosen(["fog", "weather"])[0] == "fog" and chosen(["all"]) == NAMES
    with pytest.raises(UserError, match="did you mean 'fog'"):
        chosen(["fogg"])
    path = str(network(tmp_path / "net"))
    root = ["--data", "imagefolder", "--root", str(photographs)]
    small = str(network(tmp_path / "small", 24))
    digits = str(network(tmp_path / "digits", 8, 1, "0123456789"))
    for command, says in (
        ([path, *root, "--corruptions", "fogg"], "did you mean 'fog'"),
        ([path, *root, "--corruptions", "fog", "--severities", "6"], "severity 6 does not exist"),
        ([path, *root, "--severities", "1"], "--severities has no effect here"),
        ([path, *root, "--seed", "1"], "--seed has no effect here"),
        ([small, *root, "--corruptions"], "at least 32 × 32 pixels, these have 24 × 24"),
        ([digits, "--data", "digits", "--corruptions"], "at least 32 × 32 pixels, these have 8 × 8"),
    ):
        code = main(["eval", *command])
        error = capsys.readouterr().err
        assert code == 2 and says in error and len(error.splitlines()) == 1, error
    assert main(["list", "corruptions", "--json"]) == 0
    assert tuple(json.loads(capsys.readouterr().out)["corruptions"]) == NAMES


def test_without_the_package_one_line_says_what_to_install(monkeypatch, tmp_path, photographs, capsys):
    monkeypatch.setattr(corruptions.util, "find_spec", lambda name: None)
    corruptions.copy_of_library.cache_clear()
    command = ["eval", str(network(tmp_path / "net")), "--data", "imagefolder", "--root", str(photographs)]
    assert main([*command, "--corruptions", "fog"]) == 2
    error = capsys.readouterr().err
    assert "imagecorruptions; install with" in error and "[robustness]" in error
