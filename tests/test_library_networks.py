"""Networks of timm and torchvision by name, from weights in their files, on photographs of one's own: train, reload, evaluate."""

import json

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn

import onebit
from onebit import data, models
from onebit.checkpoints import checkpoint
from onebit.checkpoints.initial import initialize_from
from onebit.cli.main import main
from onebit.data.imagefolder import held_out
from onebit.errors import UserError
from onebit.nn import binary_layers
from onebit.training.recipe import Recipe, check_names
from onebit.training.state import State
from photograph_files import CLASSES, images, write_imagefolder
from runs import digits, keys, last, metrics, saved

SMALL = "timm:test_resnet"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """ROOT/<class>/*.JPEG: 26 images and no val/."""
    root = tmp_path_factory.mktemp("photos")
    write_imagefolder(root, "", images("train", 26))
    return root


def photographs(out, root, **changes):
    small = {
        "precision": "32-true",
        "data": "imagefolder",
        "root": str(root),
        "image_size": 32,
        "workers": 0,
        "batch_size": 8,
        "model": SMALL,
    }
    return keys(out, **{**small, "crop_scale": 0.9, "epochs": 1, **changes})


def arguments(values):
    return [f"--{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in values.items()]


def test_one_command_on_photographs_of_ones_own(photos, tmp_path, capsys):
    """Another head, weights of the library, a split of the classes; the checkpoint evaluates, describes itself and starts another."""
    torch.manual_seed(1)
    float_network = timm.create_model("test_resnet", num_classes=7)
    safetensors.torch.save_file(float_network.state_dict(), tmp_path / "weights.safetensors")
    out = tmp_path / "run"
    chosen = photographs(out, photos, initial=str(tmp_path / "weights.safetensors"), lr=1e-30, val_split=0.2)
    assert main(["train", *arguments(chosen)]) == 0
    said = capsys.readouterr().err
    assert f"{tmp_path / 'weights.safetensors'} has 7 classes, the data set 3: the layer fc starts anew" in said
    assert f"{SMALL}: " in said and "layers binary" in said and "warning" not in said
    state, before = last(out).model, float_network.state_dict()
    name = "layer2.0.conv1.weight"
    assert torch.equal(state[name], before[name]), "the weights started there"
    assert state["fc.weight"].shape[0] == 3
    assert {float(v) for k, v in state.items() if k.endswith("activation_binarizer.beta")} != {0.0}, (
        "thresholds have started"
    )
    path = str(out / "last.ckpt")
    assert main(["eval", path, "--data", "imagefolder", "--root", str(photos), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["examples"] == 2 + 2 + 2, "of those that the training kept"
    assert measured["accuracy"] == pytest.approx(last(out).scores["accuracy"], abs=0.01)
    assert main(["info", path, "--layers"]) == 0
    assert SMALL in (text := capsys.readouterr().out) and "OPs" in text
    again = photographs(tmp_path / "again", photos, initial=path, method="triad", lr=1e-30)
    assert main(["train", *arguments(again), "--json"]) == 0
    assert torch.equal(last(tmp_path / "again").model[name], state[name])
    assert torch.equal(last(tmp_path / "again").model["fc.weight"], state["fc.weight"])


def test_structure_says_what_is_converted():
    model = models.create(SMALL, "adabin", structure={"skip": "layer4", "also": ["conv1.0"]}, classes=3, image_size=32)
    names = [name for name, _ in binary_layers(model)]
    assert "conv1.0" in names and names and not any(name.startswith("layer4") for name in names)
    twin = models.create(**model.config)
    twin.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.eval()(x), twin.eval()(x))
    assert not binary_layers(models.create("torchvision:squeezenet1_1", "float", classes=3))
    two_step = models.create(SMALL, "reactnet", binarize="activations")
    assert all(layer.weight_binarizer is None for _, layer in binary_layers(two_step))


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"name": "timm:resnet81"}, "'timm:resnet81' is not a network of timm .*; did you mean timm:resnet"),
        ({"name": "torchvision:resnet19"}, "did you mean torchvision:resnet1"),
        ({"name": "torchvision:fcn_resnet50"}, "is not a network of torchvision"),
        ({"name": "keras:resnet18"}, "model 'keras:resnet18' is unknown.*timm:NAME, torchvision:NAME"),
        ({"name": "timm:"}, "model 'timm:' is unknown"),
        ({"name": "torchvision:resnet18", "in_channels": 1}, "takes images of 3 channels"),
        ({"name": SMALL, "structure": {"block": "bireal"}}, "'block' has no meaning for a network of a library"),
        ({"name": SMALL, "structure": {"skip": 3}}, "skip = 3 must be the name or pattern"),
        ({"name": SMALL, "structure": {"skip": "lawyer"}}, "skip = 'lawyer' names no"),
        ({"name": SMALL, "method": "float", "structure": {"skip": "fc"}}, "converts nothing"),
    ],
)
def test_bad_names_and_arguments_are_one_line(arguments, words):
    arguments = {"method": "adabin", **arguments}
    if arguments["name"] in ("keras:resnet18", "timm:"):
        with pytest.raises(UserError, match=words):
            check_names(Recipe(model=arguments["name"]))
        return
    with pytest.raises(UserError, match=words) as caught:
        models.create(**arguments)
    assert "\n" not in str(caught.value)


def test_files_of_weights(tmp_path):
    """torchvision's own files: wrapped names, auxiliary classifiers, old names of DenseNet; what does not fit is one line."""
    torch.manual_seed(0)
    theirs = torchvision.models.densenet121(num_classes=5)
    old = {}
    for name, value in theirs.state_dict().items():
        head, found, tail = name.partition("denselayer")
        for part in ("norm", "conv"):
            for number in "12":
                tail = tail.replace(f".{part}{number}.", f".{part}.{number}.")
        if not name.endswith("num_batches_tracked"):
            old["module." + head + found + tail] = value
    assert any(".norm.1." in name for name in old)
    torch.save(old, tmp_path / "dense.pth")
    model = models.create("torchvision:densenet121", "float", classes=5)
    start = initialize_from(model, tmp_path / "dense.pth")
    assert (start.fresh, start.head) == ([], [])
    assert all(torch.equal(v, theirs.state_dict()[k]) for k, v in model.state_dict().items() if k.endswith("weight"))

    theirs = torchvision.models.googlenet(weights=None, num_classes=5, aux_logits=True, init_weights=False)
    torch.save({"state_dict": theirs.state_dict(), "epoch": 3}, tmp_path / "google.pth")
    model = models.create("torchvision:googlenet", "rebnn", classes=4)
    start = initialize_from(model, tmp_path / "google.pth")
    assert start.head == ["fc.weight", "fc.bias"] and start.classes == 5
    assert start.lines("google.pth", 4)[0] == "google.pth has 5 classes, the data set 4: the layer fc starts anew"
    layer = model.inception3a.branch2[1].conv
    assert torch.allclose(layer.weight_binarizer.scale.flatten(), layer.weight.abs().mean((1, 2, 3))), (
        "of the loaded weights"
    )

    backbone = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    torch.save(backbone, tmp_path / "backbone.pth")
    start = initialize_from(model, tmp_path / "backbone.pth")
    assert start.lines("b.pth", 4)[0] == "b.pth has no last layer: the layer fc starts anew"

    model = models.create(SMALL, "adabin", classes=4)
    for name, words in (
        ("dense.pth", "has no place in this network; it holds weights of another network than timm:test_resnet"),
    ):
        with pytest.raises(UserError, match=words):
            initialize_from(model, tmp_path / name)
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(UserError, match="Python objects"):
        initialize_from(model, tmp_path / "module.pth")
    with pytest.raises(UserError, match="is not a file"):
        initialize_from(model, tmp_path / "absent.pth")
    table = models.create("resnet8", "adabin")
    with pytest.raises(UserError, match="not a checkpoint of onebit"):
        initialize_from(table, tmp_path / "dense.pth")


def test_a_checkpoint_of_the_float_network_starts_the_binary_one(tmp_path):
    parent = models.create(SMALL, "float", classes=6)
    checkpoint.save(tmp_path / "float.ckpt", saved(parent))
    model = models.create(SMALL, "rebnn", classes=3)
    start = initialize_from(model, tmp_path / "float.ckpt")
    assert start.head and start.classes == 6
    assert start.fresh and all("binarizer" in name for name in start.fresh)


def test_photographs_without_a_test_set_are_split(photos, tmp_path):
    """Of each class a share, at least one image, the same for a seed; nothing is in both parts."""
    labels = np.repeat([0, 1, 2], [40, 3, 2])
    kept = held_out(labels, 0.1, 0)
    assert [int(kept[labels == label].sum()) for label in range(3)] == [4, 1, 1]
    assert np.array_equal(kept, held_out(labels, 0.1, 0)) and not np.array_equal(kept, held_out(labels, 0.1, 1))
    assert np.array_equal(kept[:40], held_out(labels[:40], 0.1, 0)), "classes do not depend on one another"
    assert held_out(labels, 0.99, 0).sum() == 39 + 2 + 1

    def load(root, **options):
        return data.load("imagefolder", root, data.LoadOptions(image_size=16, workers=0, **options))

    one, two = load(photos), load(photos, val_split=0.5)
    assert one.labels == CLASSES and (len(one.train), len(one.test)) == (23, 3) and len(two.test) == 4 + 4 + 4
    names = [{part.samples.name(i) for i in range(len(part))} for part in (one.train, one.test)]
    assert not names[0] & names[1] and len(names[0] | names[1]) == 26
    write_imagefolder(tmp_path / "both", "train", images("train", 26))
    assert len(load(tmp_path / "both").test) == 3, "of train/, where it is there"
    write_imagefolder(tmp_path / "both", "val", images("val", 7))
    assert len(load(tmp_path / "both").test) == 7
    with pytest.raises(UserError, match=r"val_split = 0.3, but .*val is there"):
        load(tmp_path / "both", val_split=0.3)
    with pytest.raises(UserError, match=r"val_split = 1.0 must be in \(0, 1\)"):
        load(photos, val_split=1.0)
    with pytest.raises(UserError, match="with train/ and val/, or with a folder for each class"):
        load(tmp_path / "absent")
    (tmp_path / "lone" / "cat").mkdir(parents=True)
    with pytest.raises(UserError, match="cat holds no images"):
        load(tmp_path / "lone")
    (tmp_path / "lone" / "cat" / "a.jpg").write_bytes(images("train", 1)[0][1])
    with pytest.raises(UserError, match="cat holds 1 image; without val/ a class needs 2 or more"):
        load(tmp_path / "lone")


def test_a_training_stops_early_and_stays_stopped(tmp_path, capsys):
    """With a learning rate of nothing no score is better than the first; a resumed run does not go on, one with more patience does."""
    run = {"lr": 1e-30, "epochs": 9, "early_stop": 2, "model": "resnet8", "optimizer": "sgd", "momentum": 0.0}
    out = tmp_path / "run"
    values = arguments(keys(out, **run))
    assert main(["train", *values]) == 0
    assert "after epoch 3, none better for 2 epochs" in capsys.readouterr().out
    assert [row["epoch"] for row in metrics(out)] == ["1", "2", "3"] and last(out).progress.best_epoch == 1
    assert main(["train", *values, "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 3
    more = arguments(keys(out, **{**run, "early_stop": 3}))
    assert main(["train", *more, "--extend", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 4


def test_when_a_score_has_stalled():
    state = State("x", epoch=4, best=50.0, best_epoch=2, scores={"accuracy": 40.0})
    assert [state.stalled(n) for n in (0, 1, 2, 3)] == [False, True, True, False]
    state.scores = None  # not evaluated
    assert not state.stalled(1)
    with pytest.raises(UserError, match="early_stop = 1 is less than eval_every = 2"):
        digits("x", early_stop=1, eval_every=2)
    with pytest.raises(UserError, match="reestimate_norms = 5 is for after the last epoch"):
        digits("x", early_stop=1, reestimate_norms=5)


def test_a_network_of_a_library_packs(tmp_path):
    """A ResNet of torchvision by its name: what the file computes is compared with the network before it is written."""
    model = models.create("torchvision:resnet18", "adabin", classes=3, image_size=32).eval()
    onebit.pack(model, tmp_path / "packed.safetensors")
    x = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    assert np.allclose(onebit.load(tmp_path / "packed.safetensors")(x), expected, rtol=1e-3, atol=1e-3)
