"""The tables of methods and models, and what `models.create` does with its arguments."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from onebit import methods, models
from onebit.errors import UserError
from onebit.methods.method import Method
from onebit.models.architecture import Architecture, architecture
from onebit.nn.structure import Structure


def test_the_tables_are_known_without_pytorch():
    code = (
        "import json, sys; from onebit import methods, models; "
        "print(json.dumps([list(methods.METHODS), list(models.MODELS), 'torch' in sys.modules, 'numpy' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [list(methods.METHODS), list(models.MODELS), False, False]


def test_every_row_is_what_its_table_says():
    assert all(methods.create(name).name == name for name in methods.METHODS)
    assert all(isinstance(models.MODELS[name], Architecture) for name in models.MODELS)


def test_methods_name_families_of_models():
    families = {row.family for row in models.MODELS.values()}
    for name in methods.METHODS:
        assert families >= methods.create(name).structures.keys()


def test_the_family_decides_the_structure():
    """RBNN's, whose structures differ most."""
    rbnn = methods.create("rbnn")
    assert rbnn.structure_of("residual_cifar") == rbnn.structure_of("another") == rbnn.structure
    assert rbnn.structure_of("residual_cifar_wide").shortcut == "binary"
    assert rbnn.structure_of("residual_imagenet").block == "bireal"
    assert rbnn.structure_of("residual_imagenet", block="plain", shortcut=None).block == "plain"
    assert rbnn.structure_of("plain").norm_weight == 1.0


@pytest.mark.parametrize("name", [name for name in models.MODELS if models.MODELS[name].task == "text"])
def test_config_of_words_builds_the_same_network_again(name):
    with torch.device("meta"):
        model = models.create(name, "bit", classes=3, vocabulary=50, positions=16, structure={"pooler": "float"})
        again = models.create(**model.config)
    assert again.config == model.config
    shapes = [{key: value.shape for key, value in each.state_dict().items()} for each in (model, again)]
    assert shapes[0] == shapes[1] and model.config["dropout"] == 0.1 and model.config["classes"] == 3


@pytest.mark.parametrize("name", [name for name in models.MODELS if models.MODELS[name].task != "text"])
def test_config_builds_the_same_network_again(name):
    size = {"alexnet": 64}.get(name, 320 if models.MODELS[name].task == "detection" else 32)
    known = models.MODELS[name].resolve(name, {})
    own = {
        key: known[key] for key in known.keys() - {"classes", "in_channels", "image_size"}
    }  # that others do not have
    given = {"classes": 4, "image_size": size, "options": {"variant": "paper"}, "structure": {"nonlinearity": "relu"}}
    model = models.create(name, "adabin", **given)
    assert model.config == {"name": name, "method": "adabin", "in_channels": 3, **own, **given}
    again = models.create(**model.config)
    assert again.config == model.config
    again.load_state_dict(model.state_dict(), strict=True)
    defaults = models.create(name, binarize="both") if size == 32 else models.create(name, image_size=size)
    assert defaults.config == {
        "name": name,
        "method": "float",
        "classes": known["classes"],
        "in_channels": 3,
        "image_size": size,
        **own,
        "options": {},
        "structure": {},
    }


@architecture("words", task="text")
def words(method: Method, structure: Structure, *, vocabulary: int, classes: int = 2) -> nn.Module:
    return nn.Sequential(nn.EmbeddingBag(vocabulary, 8), nn.Linear(8, classes))


def test_a_network_has_arguments_of_its_own(monkeypatch):
    monkeypatch.setitem(models.MODELS, "words", words)
    assert (words.family, words.task) == ("words", "text")
    model = models.create("words", "rbnn", vocabulary=30)
    assert model.config == {
        **{"name": "words", "method": "rbnn"},
        **{"vocabulary": 30, "classes": 2, "options": {}, "structure": {}},
    }
    assert models.create(**model.config)(torch.zeros(3, 5, dtype=torch.long)).shape == (3, 2)
    with pytest.raises(UserError, match=r"model 'words' has no argument 'image_size'; .*: vocabulary, classes$"):
        models.create("words", vocabulary=30, image_size=32)
    with pytest.raises(UserError, match="model 'words' needs the argument 'vocabulary'"):
        models.create("words")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"name": "resnet21"}, r"model 'resnet21' is unknown \(did you mean 'resnet2?\d*'\?\); choose one of"),
        ({"method": "adabin2"}, r"method 'adabin2' is unknown \(did you mean 'adabin'\?\); choose one of"),
        (
            {"clases": 3},
            "model 'resnet8' has no argument 'clases'; its arguments are: classes, in_channels, image_size",
        ),
        (
            {"method": "bnn", "options": {"t": 1}},
            "method 'bnn' has no option 't'; its options are: surrogate, weight_surrogate",
        ),
        ({"structure": {"blok": "plain"}}, "unknown key 'blok'"),
        ({"name": "vgg_small", "image_size": 30}, "image size 30 is not a multiple of 8"),
    ],
)
def test_what_is_unknown_is_named(arguments, named):
    with pytest.raises(UserError, match=named):
        models.create(**{"name": "resnet8", **arguments})
