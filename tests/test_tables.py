"""Every row of every table of results: its network is built as its recipe says, takes a training step, freezes, packs, and decides in
the engine as in PyTorch; the pages of docs/results say what their records and the tables say."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric

from networks import BACKENDS, Watch
from onebit import models
from onebit.data.dataset import Batch
from onebit.methods import METHODS
from onebit.models import resnet_cifar, resnet_imagenet
from onebit.models.resnet import ResNet
from onebit.nn import binary_layers, set_progress
from onebit.packing.pack import pack
from onebit.reproduction import records, render, table
from onebit.reproduction.record import structure_of
from onebit.reproduction.table import Row
from onebit.runtime import load
from onebit.tasks import create
from onebit.training.objective import Objective
from onebit.training.optimizer import make_optimizer
from onebit.training.recipe import Recipe
from onebit.training.step import Step

FABRIC = Fabric(accelerator="cpu", devices=1)
RESULTS = Path(__file__).parents[1] / "docs" / "results"
TABLES = {name: table.read(name) for name in table.shipped()}
EXPECTED = {"rbnn-cifar10", "rbnn-imagenet", "rbnn-ablation", "adabin-cifar10", "adabin-imagenet", "rebnn-imagenet"}
EXPECTED |= {"digits", "methods", "ours"}
INPUTS = {"digits": (1, 8), "cifar10": (3, 16), "imagefolder": (3, 32)}  # channels and pixels: small, but for the digits
CLASSES = 3
IMAGES = 4


@pytest.fixture
def narrow(monkeypatch):
    """ResNets of an eighth of their channels, where they are wide: what a row names, and all of its layers, stay."""

    def built(method: Any, structure: Any, widths: tuple[int, ...], *rest: Any, **more: Any) -> ResNet:
        return ResNet(method, structure, tuple(w // 8 if max(widths) > 64 else w for w in widths), *rest, **more)

    for module in (resnet_cifar, resnet_imagenet):
        monkeypatch.setattr(module, "ResNet", built)


def network_of(row: Row) -> dict[str, Any]:
    """The arguments of `models.create` by which rows are grouped."""
    recipe = Recipe(**(row.values or {}))
    channels, size = INPUTS[recipe.data]
    names = {"name": recipe.model, "method": recipe.method, "options": recipe.options, "structure": recipe.structure}
    return {**names, "binarize": recipe.binarize, "classes": CLASSES, "in_channels": channels, "image_size": size}


def cases() -> list[Any]:
    """One row for each network, with the rows that have the same."""
    groups: dict[str, list[tuple[str, Row]]] = {}
    for name, one in TABLES.items():
        for row in one.trained():
            groups.setdefault(json.dumps(network_of(row), sort_keys=True), []).append((name, row))
    return [
        pytest.param([row for _, row in group], id=" ".join(f"{name}:{row.name}" for name, row in group))
        for group in groups.values()
    ]


@pytest.mark.parametrize("rows", cases())
def test_a_row_trains_packs_and_runs(rows, narrow, tmp_path):
    """A step by each row's own optimizer; then the network as it is halfway, so that all schedules have moved."""
    arguments = network_of(rows[0])
    torch.manual_seed(0)
    model = models.create(**arguments)
    shape = (arguments["in_channels"], arguments["image_size"], arguments["image_size"])
    x, targets = torch.randn(IMAGES, *shape), torch.arange(IMAGES) % CLASSES
    set_progress(model, 0.5)
    for recipe in {json.dumps(vars(r), sort_keys=True): r for r in (Recipe(**row.values) for row in rows)}.values():
        objective = Objective(model, create("classification", tuple("abc")))
        step = Step(FABRIC, *FABRIC.setup(objective, make_optimizer(model, recipe)), model)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        loss, _ = step(Batch(x, targets))
        moved = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
        assert torch.isfinite(loss) and len(moved) > len(before) / 2
    model.eval()
    if arguments["binarize"] == "activations":
        assert all(layer.weight_binarizer is None for _, layer in binary_layers(model))
        return
    layers = list(binary_layers(model))
    assert (arguments["method"] == "float") == (not layers)
    for _, layer in layers:
        for form in layer.weight_binarizer.freeze(layer.weight.detach()):
            assert set(form.signs.unique().tolist()) <= {-1, 1}
        assert layer.activation_binarizer.freeze()
    pack(model, tmp_path / "net.safetensors", input_shape=shape)
    watch = Watch(model, IMAGES)
    with torch.inference_mode():
        logits = model(x)
    found = torch.from_numpy(load(tmp_path / "net.safetensors", backend=BACKENDS[0])(x.numpy()))
    clear = watch.margin > 2e-6
    top = logits.topk(2).values
    clear &= top[:, 0] - top[:, 1] > 2e-3 * logits.abs().amax()
    assert clear.any() and torch.equal(found.argmax(1)[clear], logits.argmax(1)[clear])
