"""Learning from a teacher and in two steps: losses against their formulas, whose gradient goes where, which teachers and
weights are taken, and training on the digits from a float parent to a packed network."""

import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn

from onebit import data, methods, models, tasks
from onebit.checkpoints import checkpoint, importers
from onebit.checkpoints.initial import initialize_from
from onebit.data.cifar import CIFAR10_LABELS
from onebit.data.dataset import Data
from onebit.data.inputs import IMAGENET_MEAN, IMAGENET_STD, Images, Normalization
from onebit.errors import UserError
from onebit.methods.method import Method
from onebit.models.blocks import binary_conv
from onebit.nn.layers import binary_layers
from onebit.packing.from_checkpoint import pack_checkpoint
from onebit.runtime import load
from onebit.tasks.classification import distribution_loss, soft_loss
from onebit.training import distillation, train
from onebit.training.distillation import Distillation, Teacher
from onebit.training.objective import Objective
from onebit.training.recipe import Recipe
from runs import saved
from shared_data import authors_checkpoint, cifar10_root

NORMALIZATION = Normalization(IMAGENET_MEAN, IMAGENET_STD)
INPUTS = Images(3, 32, NORMALIZATION)
CIFAR: Any = Data("cifar10", None, None, INPUTS, CIFAR10_LABELS)
CLASSES = tasks.create("classification", CIFAR10_LABELS, tasks.TaskOptions(label_smoothing=0.1))
PLAIN = tasks.create("classification", CIFAR10_LABELS)


# ---- losses


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_losses_equal_their_formulas():
    """In float64, row by row, with their gradients in closed form."""
    s, t = (3 * torch.randn(5, 7, dtype=torch.float64) for _ in range(2))
    p, q = softmax(t.numpy()), softmax(s.numpy())
    s.requires_grad_()
    loss = distribution_loss(s, t)
    assert loss.item() == pytest.approx(-np.mean([sum(p[b] * np.log(q[b])) for b in range(5)]), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, s)
    np.testing.assert_allclose(gradient, (q - p) / 5, rtol=0, atol=1e-14)
    for temperature in (1.0, 4.0):
        p, q = softmax(t.numpy() / temperature), softmax(s.detach().numpy() / temperature)
        loss = soft_loss(s, t, temperature)
        divergence = np.mean([sum(p[b] * (np.log(p[b]) - np.log(q[b]))) for b in range(5)])
        assert loss.item() == pytest.approx(temperature**2 * divergence, rel=1e-12)
        (gradient,) = torch.autograd.grad(loss, s)
        np.testing.assert_allclose(gradient, temperature * (q - p) / 5, rtol=0, atol=1e-14)
    assert soft_loss(t, t, 4.0).item() == pytest.approx(0, abs=1e-14)


def students(kind: str, method: str = "float", weight: float = 0.75) -> tuple[Objective, torch.Tensor, torch.Tensor]:
    teacher = Teacher(models.create("resnet8", method, in_channels=1, image_size=8))
    student = models.create("resnet8", "reactnet", in_channels=1, image_size=8)
    objective = Objective(student, CLASSES, Distillation(teacher, CLASSES, kind, (weight, weight), 3.0))
    return objective.train(), torch.randn(6, 1, 8, 8), torch.randint(0, 10, (6,))


def test_the_teachers_weight_moves_along_a_cosine():
    """From the first to the last; the labels' part has the rest, and counts even where it begins with nothing."""
    objective, images, labels = students("soft")
    teacher = objective.distillation.teacher
    objective.distillation = Distillation(teacher, CLASSES, "soft", (1.0, 0.2), 3.0)
    other = (labels + 1) % 10
    for fraction, weight in ((0.0, 1.0), (0.25, 0.2 + 0.8 * (1 + np.sqrt(0.5)) / 2), (0.5, 0.6), (1.0, 0.2)):
        objective.set_progress(fraction, begins=True)
        outputs = objective.model(images)
        part = soft_loss(outputs, teacher(images), 3.0).item()
        for targets in (labels, other):
            expected = (1 - weight) * CLASSES.loss(outputs, targets).item() + weight * part
            assert objective(images, targets)[0].item() == pytest.approx(expected, rel=1e-5)


def test_labels_and_teacher_in_the_objective():
    """`distribution` leaves the labels out; `soft` weighs both; probabilities count as labels too."""
    objective, images, labels = students("distribution")
    losses = [objective(images, y)[0] for y in (labels, (labels + 1) % 10)]
    logits, target = objective.model(images), objective.distillation.teacher(images)
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(losses[0], distribution_loss(logits, target))
    objective, images, labels = students("soft")
    logits, target = objective.model(images), objective.distillation.teacher(images)
    hot = nn.functional.one_hot(labels, 10).float()
    expected = 0.25 * nn.functional.cross_entropy(logits, 0.9 * hot + 0.01) + 0.75 * soft_loss(logits, target, 3.0)
    for given in (labels, hot):
        loss, returned = objective(images, given)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(returned, logits)
    mixed = 0.3 * hot + 0.7 * hot.roll(1, 0)
    torch.testing.assert_close(
        Objective(objective.model, PLAIN)(images, mixed)[0], -(mixed * logits.log_softmax(1)).sum(1).mean()
    )


@pytest.mark.parametrize("method", ["float", "adabin"])
def test_only_the_student_learns(method):
    """The teacher keeps its weights and its norms' statistics, gets no gradient, and stays in evaluation mode."""
    objective, images, labels = students("soft", method)
    teacher = objective.distillation.teacher
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    target = teacher(images)
    loss, _ = objective(images, labels)
    loss.backward()
    assert not target.requires_grad and not any(m.training for m in teacher.modules())
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(teacher.model(images), target, rtol=1e-4, atol=1e-4)


def small(method: Method) -> nn.Module:
    layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), binary_conv(method, 8, 8, 3), nn.BatchNorm2d(8)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


def test_the_teacher_computes_in_the_students_precision():
    """Under autocast both multiply in bf16, and the loss is float32."""
    real = methods.create("float")  # binary activations near their threshold change their sign in bf16
    teacher = Teacher(small(real))
    objective = Objective(small(real), CLASSES, Distillation(teacher, CLASSES, "soft", (0.75, 0.75), 3.0))
    images, labels = torch.randn(6, 1, 8, 8), torch.randint(0, 10, (6,))
    expected, _ = objective(images, labels)
    with torch.autocast("cpu", torch.bfloat16):
        loss, logits = objective(images, labels)
        assert teacher(images).dtype == logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("method", ["float", "adabin"])
def test_the_objective_compiles_as_one_graph(method):
    teacher = Teacher(small(methods.create(method)))
    student = small(methods.create("rebnn"))
    objective = Objective(student, CLASSES, Distillation(teacher, CLASSES, "soft", (0.75, 0.75), 3.0))
    images, labels = torch.randn(6, 1, 8, 8), torch.randint(0, 10, (6,))
    expected, _ = objective(images, labels)
    loss, _ = torch.compile(objective, fullgraph=True, backend="eager")(images, labels)
    torch.testing.assert_close(loss, expected)


def test_a_teacher_sees_its_own_normalization():
    pixels = torch.rand(2, 3, 32, 32)
    theirs, ours = Normalization((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)), NORMALIZATION
    network = models.create("resnet8").eval()

    def normalize(n: Normalization) -> torch.Tensor:
        return (pixels - torch.tensor(n.mean).reshape(-1, 1, 1)) / torch.tensor(n.std).reshape(-1, 1, 1)

    with torch.no_grad():
        torch.testing.assert_close(
            Teacher(network, ours.change_to(theirs))(normalize(ours)), network(normalize(theirs)), rtol=1e-4, atol=1e-4
        )


# ---- teachers


def test_local_weights_of_libraries(tmp_path):
    """A torch file with an entry state_dict and the prefix module., and a safetensors file: loaded whole, frozen."""
    tv = torchvision.models.resnet18(num_classes=10).eval()
    torch.save({"state_dict": {f"module.{k}": v for k, v in tv.state_dict().items()}}, tmp_path / "tv.pth")
    ti = timm.create_model("resnet10t", num_classes=10).eval()
    safetensors.torch.save_file(ti.state_dict(), tmp_path / "ti.safetensors")
    images = torch.randn(2, 3, 32, 32)
    for name, file, theirs in (("torchvision:resnet18", "tv.pth", tv), ("timm:resnet10t", "ti.safetensors", ti)):
        teacher = distillation.teacher(Recipe(teacher=name, teacher_weights=str(tmp_path / file)), CIFAR, PLAIN)
        with torch.no_grad():
            torch.testing.assert_close(teacher(images), theirs(images), rtol=1e-4, atol=1e-4)
        assert not any(p.requires_grad for p in teacher.parameters()) and not teacher.model.training


@pytest.fixture(scope="module")
def resnet18_state() -> dict[str, torch.Tensor]:
    return torchvision.models.resnet18(num_classes=10).state_dict()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("layer1.0.conv1.weight"), "layer1.0.conv1.weight"),
        (lambda s: s.update(extra=torch.zeros(1)), "'extra'"),
        (lambda s: s.update({"fc.weight": torch.zeros(1000, 512)}), "(1000, 512)"),
        (lambda s: s.clear(), "no state dict"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, named, resnet18_state, tmp_path):
    state = dict(resnet18_state)
    change(state)
    torch.save(state, tmp_path / "weights.pth")
    refused({"teacher": "torchvision:resnet18", "teacher_weights": str(tmp_path / "weights.pth")}, named)


def refused(keys: dict[str, Any], named: str, source: Data = CIFAR) -> None:
    with pytest.raises(UserError) as caught:
        distillation.distillation(Recipe(**keys), source, PLAIN, torch.channels_last, models.create("resnet8"))
    assert named in str(caught.value) and "\n" not in str(caught.value), caught.value


@pytest.fixture
def checkpoints(tmp_path) -> Path:
    """A folder with a network for grey images, one of 7 classes, one whose classes are in another order, and no network."""
    for name, keys, labels in (
        ("grey", {"in_channels": 1}, None),
        ("seven", {"classes": 7}, None),
        ("order", {}, sorted(CIFAR10_LABELS, reverse=True)),
    ):
        model = models.create("resnet8", **keys)
        checkpoint.save(tmp_path / f"{name}.ckpt", saved(model, labels))
    (tmp_path / "text.safetensors").write_text("no tensors")
    (tmp_path / "text.pth").write_text("no tensors")
    return tmp_path


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"teacher": "runs/nothing.ckpt"}, "runs/nothing.ckpt"),
        ({"teacher": "timm:"}, "timm:"),
        ({"teacher": "timm:resnet999"}, "resnet999"),
        ({"teacher": "torchvision:resnet999"}, "resnet999"),
        ({"teacher_weights": "a.pth"}, "teacher_weights"),
        ({"distillation": "soft"}, "without a teacher"),
        ({"teacher": "FOLDER/grey.ckpt"}, "does not take inputs of (3, 32, 32)"),
        ({"teacher": "FOLDER/seven.ckpt"}, "7 classes"),
        ({"teacher": "FOLDER/order.ckpt"}, "'truck'"),
        ({"teacher": "FOLDER/grey.ckpt", "teacher_weights": "a.pth"}, "leave teacher_weights out"),
        ({"teacher": "FOLDER/text.pth"}, "text.pth"),
        ({"teacher": "timm:resnet10t", "teacher_weights": "FOLDER/text.safetensors"}, "text.safetensors"),
        ({"teacher": "timm:resnet10t", "teacher_weights": "FOLDER/text.pth"}, "text.pth"),
        ({"teacher": "timm:resnet10t", "teacher_weights": "FOLDER/missing.safetensors"}, "missing.safetensors"),
    ],
)
def test_teachers_that_cannot_teach_are_refused(keys, named, checkpoints):
    refused({key: value.replace("FOLDER", str(checkpoints)) for key, value in keys.items()}, named)


@pytest.mark.parametrize(
    ("teacher", "call"),
    [("torchvision:resnet34", "torchvision.models.get_model"), ("timm:resnet10t", "timm.create_model")],
)
def test_without_a_network_a_local_file_is_asked_for(teacher, call, monkeypatch):
    def unreachable(*arguments: Any, **options: Any) -> None:
        assert options.get("weights") == "DEFAULT" or options.get("pretrained")
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(call, unreachable)
    refused({"teacher": teacher}, "set teacher_weights")


def test_a_thousand_classes_do_not_teach_ten(monkeypatch):
    """What a library downloads is not given another head."""
    get_model = torchvision.models.get_model
    monkeypatch.setattr("torchvision.models.get_model", lambda name, weights: get_model(name))
    refused({"teacher": "torchvision:resnet18"}, "1000 classes")


def test_imported_cifar_networks_teach():
    """akamaster's ResNet-56, 93.4 % as published: 500 test images."""
    path = authors_checkpoint("resnet56-4bfd9763.th")
    test = data.load("cifar10", cifar10_root())
    content = importers.load("float-resnet56", path)
    model = content.network()
    teacher = Teacher(model, test.inputs.change_to(content.inputs))
    batch = next(iter(test.test.evaluation_batches(500)))
    right = (teacher(batch.inputs.contiguous(memory_format=torch.channels_last)).argmax(1) == batch.targets).float()
    assert 100 * right.mean().item() == pytest.approx(93.4, abs=2.0)


# ---- two steps


def digits(out: Path, **changes: Any) -> Recipe:
    keys: dict[str, Any] = {"data": "digits", "model": "resnet8", "epochs": 2, "batch_size": 64, "optimizer": "adam"}
    keys |= {"lr": 1e-2, "weight_decay": 0.0, "compile": "false", "accelerator": "cpu", "devices": "1", "threads": 1}
    return Recipe(**{**keys, "deterministic": True, "out": str(out), **changes})


def test_two_steps(tmp_path, capsys):
    """A float parent teaches a network of binary activations, which starts the binary network; it packs and predicts."""

    def run(name: str, **changes: Any) -> dict[str, Any]:
        train.train(digits(tmp_path / name, **changes), quiet=changes.get("initial") is None)
        return checkpoint.load(tmp_path / name / "last.ckpt")

    run("parent", method="float")
    taught = {"method": "rebnn", "teacher": str(tmp_path / "parent" / "last.ckpt")}
    first = run("first", binarize="activations", epochs=1, **taught)
    assert first.config["binarize"] == "activations" and first.score > 40
    assert not [name for name in first.model if "weight_binarizer" in name or "teacher" in name]
    with pytest.raises(UserError, match="last training step"):
        pack_checkpoint(first, tmp_path / "net.onebit")

    start = models.create("resnet8", "rebnn", in_channels=1, image_size=8)
    missing = initialize_from(start, tmp_path / "first" / "last.ckpt").fresh
    assert missing == [name for name in start.state_dict() if ".weight_binarizer." in name]
    state = start.state_dict()
    assert all(torch.equal(state[name], value) for name, value in first.model.items())
    for _, layer in binary_layers(start):
        mean = layer.weight.abs().mean((1, 2, 3), keepdim=True)
        torch.testing.assert_close(layer.weight_binarizer.scale.detach(), mean.detach())
        assert torch.equal(layer.weight_binarizer.last_weight, layer.weight)

    second = run("second", initial=str(tmp_path / "first" / "last.ckpt"), **taught)
    assert "stages.0.0.conv1.weight_binarizer.scale" in capsys.readouterr().err
    assert "binarize" not in second.config and second.score > 70
    pack_checkpoint(second, tmp_path / "net.onebit")
    source = data.load("digits")
    predicted = load(tmp_path / "net.onebit")(np.ascontiguousarray(source.test.images.numpy())).argmax(1)
    accuracy = 100 * (predicted == source.test.targets.numpy()).mean()
    assert accuracy == pytest.approx(second.score, abs=0.6)


def test_a_run_starts_from_its_initial_weights(tmp_path):
    """With a learning rate too small to change a float32 weight, the trained weights are the initial ones, averaged if there
    are averages; and a resumed run does not read the file again."""
    model = models.create("resnet8", "xnor", in_channels=1, image_size=8)
    averaged = {k: v * 2 if v.is_floating_point() else v for k, v in model.state_dict().items()}
    weight = "stages.1.0.conv2.weight"
    for extra, expected in (({}, model.state_dict()), ({"ema": averaged}, averaged)):
        checkpoint.save(tmp_path / "initial.ckpt", saved(model, **extra))
        r = digits(
            tmp_path / f"run{len(extra)}", method="xnor", epochs=1, lr=1e-30, initial=str(tmp_path / "initial.ckpt")
        )
        train.train(r, quiet=True)
        assert torch.equal(checkpoint.load(Path(r.out) / "last.ckpt").model[weight], expected[weight])
    (tmp_path / "initial.ckpt").unlink()
    train.train(r, resume=True, quiet=True)


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"name": "resnet20"}, "name = 'resnet20' (here 'resnet8')"),
        ({"classes": 3}, "classes = 3 (here 10)"),
        ({"structure": {"nonlinearity": "relu"}}, "'nonlinearity': 'relu'"),
        ({"method": "float"}, "method = 'float' (here 'rebnn')"),
        ({"method": "adabin"}, "method = 'adabin' (here 'rebnn')"),
    ],
)
def test_initial_weights_of_other_networks_are_refused(keys, named, tmp_path):
    other = models.create(**{"name": "resnet8", "method": "rebnn", **keys})
    checkpoint.save(tmp_path / "other.ckpt", saved(other))
    model = models.create("resnet8", "rebnn")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError) as caught:
        initialize_from(model, tmp_path / "other.ckpt")
    assert named in str(caught.value) and "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_binary_network_keeps_its_binarizers(tmp_path):
    """From a network whose weights are binary already, scales are loaded, not started anew."""
    one, other = (models.create("resnet8", "rebnn") for _ in range(2))
    with torch.no_grad():
        for _, layer in binary_layers(one):
            layer.weight_binarizer.scale.mul_(3)
    checkpoint.save(tmp_path / "one.ckpt", saved(one))
    assert initialize_from(other, tmp_path / "one.ckpt").fresh == []
    assert all(torch.equal(value, one.state_dict()[name]) for name, value in other.state_dict().items())
