"""Adding a method, a model, a data set or a recipe takes one file and one line: docs/adding.md is run as written."""

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import checks
import test_packing
from onebit import data, methods, models
from onebit.checkpoints import checkpoint
from onebit.methods import METHODS
from onebit.runtime import load
from onebit.training import recipe
from onebit.training.recipe import Recipe
from onebit.training.train import train

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
RECIPES = sorted((ROOT / "src" / "onebit" / "recipes").glob("*.toml"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def added(monkeypatch) -> dict[str, Any]:
    """The names that the page's code defines, with its rows in the tables."""
    names: dict[str, Any] = {"__name__": "adding"}
    for code in blocks("python"):
        exec(compile(code, "docs/adding.md", "exec"), names)
    for table, name in ((METHODS, "centred"), (models.MODELS, "tiny"), (data.DATA, "letters")):
        assert f'`"{name}": {name},`' in PAGE
        monkeypatch.setitem(table, name, names[name])
    return names


def test_an_added_method_passes_the_common_checks(added):
    checks.check_all(methods.create("centred"))


@pytest.mark.parametrize("model", ["resnet8", "vgg_small"])
def test_an_added_method_packs(model, added, tmp_path):
    shape = test_packing.SHAPES[model]
    network = test_packing.settle(models.create(model, "centred", image_size=shape[1]), shape)
    test_packing.check(network, tmp_path / "net.onebit", shape)


def test_the_common_checks_notice_mistakes(added, monkeypatch):
    """What passing them is worth: each of these methods is wrong in one place."""
    weight, activation = added["CentredWeight"], added["ThresholdActivation"]

    class ForgottenOffset(weight):
        def freeze(self, w):
            form = super().freeze(w)
            return type(form)(form.signs, form.scale)

    class SignOfZero(weight):
        def forward(self, w):
            centred = w - w.mean(dim=tuple(range(1, w.dim())), keepdim=True)
            return torch.sign(centred)

    class WrongThreshold(activation):
        def freeze(self):
            return type(super().freeze())(threshold=-self.threshold.detach())

    class Unsaved(activation):
        def __init__(self, channels):
            super().__init__(channels)
            self.hidden = torch.rand(channels)

        def forward(self, x):
            return super().forward(x - self.hidden.reshape(1, -1, *[1] * (x.dim() - 2)).to(x.dtype))

    float32 = torch.float32
    for check, wrong in (
        (lambda m: checks.check_weights(m, float32), methods.Method("m", ForgottenOffset, activation)),
        (lambda m: checks.check_evaluation(m, float32), methods.Method("m", ForgottenOffset, activation)),
        (checks.check_gradients, methods.Method("m", SignOfZero, activation)),
        (lambda m: checks.check_activations(m, float32), methods.Method("m", weight, WrongThreshold)),
        (checks.check_state, methods.Method("m", weight, Unsaved)),
    ):
        with pytest.raises(AssertionError):
            check(wrong)


def test_the_page_trains(added, tmp_path):
    """The recipe of the page, on its data set, with its model and method: trained, packed, run."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 600)
    images = random.integers(0, 60, (600, 1, 16, 16)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):  # a bar at the top, in the middle, or on the left
        image[0, *((slice(1, 4), slice(None)), (slice(7, 10), slice(None)), (slice(None), slice(1, 4)))[label]] += 150
    np.savez(tmp_path / "letters.npz", images=images, labels=labels)
    (code,) = blocks("toml")
    file = tmp_path / "letters-tiny-centred.toml"
    file.write_text(code)
    own = {"root": str(tmp_path), "out": str(tmp_path / "run"), "accelerator": "cpu", "devices": "1", "threads": 1}
    result = train(Recipe(**recipe.read(file), **own), quiet=True)
    assert result["accuracy"] > 90
    content = checkpoint.load(tmp_path / "run" / "last.ckpt")
    checkpoint.pack(content, tmp_path / "run" / "last.ckpt", tmp_path / "net.onebit")
    predicted = load(tmp_path / "net.onebit")(images[540:].transpose(0, 2, 3, 1).copy()).argmax(1)
    assert 100 * (predicted == labels[540:]).mean() == pytest.approx(result["accuracy"], abs=2)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_build(path):
    """Each recipe names itself, gives its source, differs from the defaults, and builds its network."""
    assert path.read_text(encoding="utf-8").startswith("# ")
    values = recipe.read(path)
    r = Recipe(**values)
    named = [r.data.replace("imagefolder", "imagenet"), r.model.removeprefix("imagenet_"), r.method]
    assert path.stem.split("-")[:3] == named
    defaults = Recipe()
    assert not [key for key, value in values.items() if getattr(defaults, key) == value and key not in PARTS]
    channels, size = {"digits": (1, 8)}.get(r.data, (3, 32))  # ImageNet's networks take small images too
    shape = {"in_channels": channels, "image_size": size}
    model = models.create(r.model, r.method, **shape, options=r.options, structure=r.structure, binarize=r.binarize)
    assert (r.binarize == "activations") == path.stem.endswith("step1")
    assert bool(r.initial) == path.stem.endswith("step2")
    if r.initial:  # the default folder of the first step's run
        assert r.initial == f"runs/{path.stem.replace('step2', 'step1')}-{r.seed}/last.ckpt"
    with torch.no_grad():
        assert model(torch.randn(2, channels, size, size)).isfinite().all()


PARTS = ("data", "model", "method")


def test_there_are_recipes():
    assert len(RECIPES) >= 4
    assert {tomllib.loads(p.read_text())["method"] for p in RECIPES} >= {"adabin", "rbnn", "rebnn"}
