"""Adding a method, a model, a data set or a task takes one file and one line, a recipe its file: docs/adding.md is run as
written. tests/test_tasks.py goes on with the page's task."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import additions
import checks
from networks import SHAPES, check, settle
from onebit import methods, models
from onebit.checkpoints import checkpoint
from onebit.methods.method import Method
from onebit.nn.binarizer import ActivationForm
from onebit.nn.surrogates import Surrogate, ste
from onebit.packing.from_checkpoint import pack_checkpoint
from onebit.runtime import load
from onebit.training import recipe
from onebit.training.recipe import Recipe
from onebit.training.train import train

RECIPES = sorted((additions.ROOT / "src" / "onebit" / "recipes").glob("*.toml"))
PLACES = {"method": 2, "model": 2, "data set": 2, "task": 2, "recipe": 1}


@pytest.fixture
def added(tmp_path) -> Iterator[dict[str, Any]]:
    with additions.made(tmp_path / "package") as places:
        yield places


def test_places_that_an_addition_touches(added):
    """Its file, which is new, and one line of the room's table. `added` makes no other change."""
    found = additions.read()
    assert {kind: len(addition.places) for kind, addition in found.items()} == PLACES
    for kind, addition in found.items():
        new, *tables = addition.places
        assert not (additions.ROOT / new).exists()
        assert all(Path(table).parent == Path(new).parent for table in tables), f"{kind}: in the same room"
    assert methods.create("centred").name == "centred" and "letters-tiny-centred" in recipe.shipped()


def test_an_added_method_passes_the_common_checks(added):
    checks.check_all(methods.create("centred"))


@pytest.mark.parametrize("model", ["resnet8", "vgg_small"])
def test_an_added_method_packs(model, added, tmp_path):
    shape = SHAPES[model]
    network = settle(models.create(model, "centred", image_size=shape[1]), shape)
    check(network, tmp_path / "net.onebit", shape)


def test_the_common_checks_notice_mistakes(added, monkeypatch):
    """What passing them is worth: each of these methods is wrong in one place."""
    weight, activation = added["method"].CentredWeight, added["method"].ThresholdActivation

    class ForgottenOffset(weight):
        def freeze(self, w):
            (form,) = super().freeze(w)
            return (type(form)(form.signs, form.scale),)

    class SignOfZero(weight):
        def forward(self, w):
            centred = w - w.mean(dim=tuple(range(1, w.dim())), keepdim=True)
            return torch.sign(centred)

    class WrongThreshold(activation):
        def freeze(self):
            return (ActivationForm(threshold=-self.threshold.detach()),)

    class Unsaved(activation):
        def __init__(self, channels):
            super().__init__(channels)
            self.hidden = torch.rand(channels)

        def forward(self, x):
            return super().forward(x - self.hidden.reshape(1, -1, *[1] * (x.dim() - 2)).to(x.dtype))

    def weights(kind):
        return lambda shape: kind(shape, Surrogate(ste))

    float32 = torch.float32
    for common_check, wrong in (
        (lambda m: checks.check_weights(m, float32), Method("m", weights(ForgottenOffset), activation)),
        (lambda m: checks.check_evaluation(m, float32), Method("m", weights(ForgottenOffset), activation)),
        (checks.check_gradients, Method("m", weights(SignOfZero), activation)),
        (lambda m: checks.check_activations(m, float32), Method("m", weights(weight), WrongThreshold)),
        (checks.check_state, Method("m", weights(weight), Unsaved)),
    ):
        with pytest.raises(AssertionError):
            common_check(wrong)


def test_the_page_trains(added, tmp_path):
    """The recipe of the page, on its data set, with its model and method: trained, packed, run."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 600)
    images = random.integers(0, 60, (600, 1, 16, 16)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):  # a bar at the top, in the middle, or on the left
        image[0, *((slice(1, 4), slice(None)), (slice(7, 10), slice(None)), (slice(None), slice(1, 4)))[label]] += 150
    np.savez(tmp_path / "letters.npz", images=images, labels=labels)
    own = {"root": str(tmp_path), "out": str(tmp_path / "run"), "accelerator": "cpu", "devices": "1", "threads": 1}
    result = train(Recipe(**recipe.read("letters-tiny-centred"), **own), quiet=True)
    assert result["accuracy"] > 90
    content = checkpoint.load(tmp_path / "run" / "last.ckpt")
    pack_checkpoint(content, tmp_path / "net.onebit")
    predicted = load(tmp_path / "net.onebit")(images[540:].transpose(0, 2, 3, 1).copy()).argmax(1)
    assert 100 * (predicted == labels[540:]).mean() == pytest.approx(result["accuracy"], abs=2)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_build(path):
    """Each recipe names itself, gives its source, differs from the defaults, and builds its network."""
    assert path.read_text(encoding="utf-8").startswith("# ")
    values = recipe.read(path)
    r = Recipe(**values)
    named = [r.data.replace("imagefolder", "imagenet"), r.model.removeprefix("imagenet_"), r.method]
    assert path.stem.replace("bccd", "voc").split("-")[:3] == named  # a folder in VOC's layout
    defaults = Recipe()
    assert not [key for key, value in values.items() if getattr(defaults, key) == value and key not in PARTS]
    if r.data == "glue":
        words_build(path.stem, r)
        return
    channels, size = {"digits": (1, 8), "imagefolder": (3, 64)}.get(
        r.data, (3, 32)
    )  # ImageNet's networks take small images too
    size = 288 if models.MODELS[r.model].task == "detection" else size
    few = {"proposals": 10} if "proposals" in models.MODELS[r.model].resolve(r.model, {}) else {}
    shape = {"in_channels": channels, "image_size": size} | r.arguments | few
    model = models.create(r.model, r.method, **shape, options=r.options, structure=r.structure, binarize=r.binarize)
    assert (r.binarize == "activations") == path.stem.endswith("step1")
    assert bool(r.initial) == path.stem.endswith("step2")
    if r.initial:  # the default folder of the first step's run
        assert r.initial == f"runs/{path.stem.replace('step2', 'step1')}-{r.seed}/last.ckpt"
    with torch.no_grad():
        outputs = model(torch.randn(2, channels, size, size))
    assert all(value.isfinite().all() for value in (outputs.values() if isinstance(outputs, dict) else [outputs]))


PARTS = ("data", "model", "method")


def words_build(name: str, r: Recipe) -> None:
    """On few words; one-bit networks start from the default folder of their parent, which teaches them."""
    arguments = {**r.arguments, "vocabulary": 20, "positions": 8}
    model = models.create(r.model, r.method, options=r.options, structure=r.structure, **arguments)
    before = name.replace("step2", "step1") if name.endswith("step2") else f"glue-{r.model}-float"
    parent = None if r.method == "float" else f"runs/{before}-{r.seed}/last.ckpt"
    assert r.initial == r.teacher == parent
    with torch.no_grad():
        assert model(torch.arange(8)[None]).isfinite().all()


def test_there_are_recipes():
    assert len(RECIPES) >= 4
    assert {tomllib.loads(p.read_text())["method"] for p in RECIPES} >= {"adabin", "rbnn", "rebnn"}
