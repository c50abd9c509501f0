"""Every row of every table of results: its network is built as its recipe says, takes a training step, freezes, packs, and decides in
the engine as in PyTorch; the pages of docs/results say what their records and the tables say."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

import glue_files
from networks import BACKENDS, Watch
from onebit import models
from onebit.data.dataset import Batch
from onebit.data.glue import LAYOUTS
from onebit.methods import METHODS
from onebit.models import alexnet, meliusnet, reactnet_a, resnet_cifar, resnet_imagenet
from onebit.models.meliusnet import MeliusNet
from onebit.models.resnet import ResNet
from onebit.nn import binary_layers, set_progress
from onebit.packing.pack import pack
from onebit.reproduction import records, render, table
from onebit.reproduction.record import structure_of
from onebit.reproduction.runs import wanted
from onebit.reproduction.table import ResultTable, Row
from onebit.runtime import load
from onebit.tasks import create
from onebit.training.objective import Objective
from onebit.training.optimizer import make_optimizer
from onebit.training.recipe import Recipe
from onebit.training.step import Step
from onebit.training.train import train

FABRIC = Fabric(accelerator="cpu", devices=1)
RESULTS = Path(__file__).parents[1] / "docs" / "results"
TABLES = {name: table.read(name) for name in table.shipped()}
EXPECTED = {"rbnn-cifar10", "rbnn-imagenet", "rbnn-ablation", "adabin-cifar10", "adabin-imagenet", "rebnn-imagenet"}
EXPECTED |= {"digits", "methods", "ours", "bccd", "adabin-voc", "glue"}
INPUTS = {
    "digits": (1, 8),
    "cifar10": (3, 16),
    "imagefolder": (3, 32),
}  # channels and pixels: small, but for the digits
CLASSES = 3
IMAGES = 4


@pytest.fixture
def small(monkeypatch):
    """Networks for photographs with an eighth of their channels, and MeliusNet with a sixth of its blocks: what a row names stays."""

    def resnet(method: Any, structure: Any, widths: tuple[int, ...], *rest: Any, **more: Any) -> ResNet:
        return ResNet(method, structure, tuple(w // 8 if max(widths) > 64 else w for w in widths), *rest, **more)

    def melius(method: Any, structure: Any, depths: tuple[int, ...], *rest: Any) -> MeliusNet:
        return MeliusNet(method, structure, tuple(depth // 6 for depth in depths), *rest)

    for module in (resnet_cifar, resnet_imagenet):
        monkeypatch.setattr(module, "ResNet", resnet)
    monkeypatch.setattr(meliusnet, "MeliusNet", melius)
    monkeypatch.setattr(reactnet_a, "WIDTHS", tuple(width // 8 for width in reactnet_a.WIDTHS))
    monkeypatch.setattr(alexnet, "HIDDEN", 64)


def network_of(row: Row) -> dict[str, Any]:
    """The arguments of `models.create` by which rows are grouped."""
    recipe = Recipe(**(row.values or {}))
    channels, size = INPUTS[recipe.data]
    size = alexnet.SMALLEST if recipe.model == "alexnet" else size
    names = {"name": recipe.model, "method": recipe.method, "options": recipe.options, "structure": recipe.structure}
    return {**names, "binarize": recipe.binarize, "classes": CLASSES, "in_channels": channels, "image_size": size}


def of_task(one: ResultTable, task: str) -> list[Row]:
    return [row for row in one.trained() if models.MODELS[Recipe(**row.values).model].task == task]


def detectors() -> list[Any]:
    """The rows of detectors, one for each network."""
    rows = [(name, row) for name, one in TABLES.items() for row in of_task(one, "detection")]
    return [pytest.param(row, id=f"{name}:{row.name}") for name, row in rows]


def cases() -> list[Any]:
    """One row for each network, with the rows that have the same."""
    groups: dict[str, list[tuple[str, Row]]] = {}
    for name, one in TABLES.items():
        for row in of_task(one, "classification"):
            groups.setdefault(json.dumps(network_of(row), sort_keys=True), []).append((name, row))
    return [
        pytest.param([row for _, row in group], id=" ".join(f"{name}:{row.name}" for name, row in group))
        for group in groups.values()
    ]


@pytest.mark.parametrize("rows", cases())
def test_a_row_trains_packs_and_runs(rows, small, tmp_path):
    """A step by each row's own optimizer; then the network as it is halfway, so that all schedules have moved."""
    arguments = network_of(rows[0])
    torch.manual_seed(0)
    model = models.create(**arguments)
    shape = (arguments["in_channels"], arguments["image_size"], arguments["image_size"])
    x, targets = torch.randn(IMAGES, *shape), torch.arange(IMAGES) % CLASSES
    set_progress(model, 0.5)
    for recipe in {json.dumps(vars(r), sort_keys=True): r for r in (Recipe(**row.values) for row in rows)}.values():
        objective = Objective(model, create("classification", tuple("abc")))
        step = Step(FABRIC, *FABRIC.setup(objective, make_optimizer(model, recipe)), model, clip_grad_norm=1.0)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        loss, _ = step(Batch(x, targets))
        moved = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
        assert torch.isfinite(loss) and len(moved) > len(before) / 2
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)):
        norm.reset_running_stats()
        norm.momentum = None  # statistics of the batch below: one step's are still those of the start
    with torch.no_grad():
        model(x)
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


@pytest.mark.parametrize("row", detectors())
def test_a_row_of_a_detector_trains(row):
    """A step by the row's own optimizer; that detectors pack and run is in tests/test_packed_detectors.py."""
    recipe = Recipe(**row.values)
    narrow = {"width": 0.0625} if recipe.model == "ssd300_vgg16" else {}
    torch.manual_seed(0)
    model = models.create(
        recipe.model,
        recipe.method,
        options=recipe.options,
        structure=recipe.structure,
        classes=CLASSES,
        image_size=recipe.image_size,
        **{**recipe.arguments, **narrow},
    )
    task = create("detection", tuple("abc"))
    task.adopt(model)
    objective = Objective(model, task)
    step = Step(FABRIC, *FABRIC.setup(objective, make_optimizer(model, recipe)), model, clip_grad_norm=1.0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    x = torch.randn(2, 3, recipe.image_size, recipe.image_size)
    loss, outputs = step(Batch(x, task.random_targets(2, torch.Generator().manual_seed(0))))
    moved = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    assert torch.isfinite(loss) and outputs is None and len(moved) > len(before) / 2


def test_rows_of_texts_train_from_their_parents(tmp_path):
    """What a row names stays, but for a small network, on made-up files of the true layout."""
    pytest.importorskip("tokenizers", reason="pip install 'onebit[text]'")
    root = glue_files.write(tmp_path / "glue")
    small = {"model": "bert", "arguments": {"layers": 1, "width": 16, "heads": 2, "hidden": 32, "dropout": 0.0}}
    small |= {"batch_size": 8, "precision": "32-true", "length": 32, "warmup_epochs": 0.0}
    runs = wanted(TABLES["glue"], ["cola-bit", "stsb-rebnn", "sst2-linears"], [0], 1, tmp_path / "runs", root=str(root))
    assert [run.row.name for run in runs] == [
        *("cola-float", "cola-bit", "stsb-float", "stsb-rebnn", "sst2-float", "sst2-linears")
    ]
    for run in runs:
        initial = run.recipe.initial if run.needs else ""
        result = train(replace(run.recipe, **small, initial=initial), quiet=True)
        assert result["scores"][0] == LAYOUTS[run.recipe.glue].scores[0] and (run.folder / "last.ckpt").exists()
        assert {run.recipe.initial, run.recipe.teacher or ""} == (
            {str(run.needs[0].folder / "last.ckpt")} if run.needs else {"runs/minilm.safetensors", ""}
        )


def test_the_tables_that_there_are():
    assert set(TABLES) == EXPECTED
    trained = {row.values["method"]: row.values for row in TABLES["methods"].trained()}
    assert list(trained) == list(METHODS)  # a row for each, with one structure and one schedule
    same = [
        {k: v for k, v in values.items() if k not in ("method", "options", "clip_grad_norm")}
        for values in trained.values()
    ]
    assert all(one == same[0] for one in same) and same[0]["structure"]["block"] == "bireal"
    assert all(row.values["data"] == "digits" for row in TABLES["digits"].rows)


def test_rows_with_one_recipe_are_one_training(tmp_path):
    """RBNN's own gradient is its full method; and what a second step starts from is trained before it."""
    ablation = wanted(TABLES["rbnn-ablation"], [], [0, 1], None, tmp_path)
    assert [run.row.name for run in ablation if run.recipe.seed == 0][-4:] == ["B+T+R+A", "ste", "ppf", "ede"]
    assert len({json.dumps(run.settings, sort_keys=True) for run in ablation}) == len(ablation) == 16
    second = wanted(TABLES["rebnn-imagenet"], ["rebnn"], [3], 7, tmp_path, root="elsewhere")
    assert [run.name for run in second] == ["rebnn-step1-3", "rebnn-3"] and second[1].needs == (second[0],)
    assert second[1].recipe.initial == str(second[0].folder / "last.ckpt") and second[1].settings["initial"].startswith(
        "row:"
    )
    assert {run.recipe.epochs for run in second} == {7} and {run.recipe.root for run in second} == {"elsewhere"}


STRUCTURES = {  # what the papers' tables do not say of their rows
    ("rbnn-cifar10", "resnet18-rbnn"): ("plain", "binary", "hardtanh"),
    ("rbnn-cifar10", "resnet20-rbnn"): ("plain", "option A", "hardtanh"),
    ("rbnn-cifar10", "vgg_small-rbnn"): ("-", "-", "hardtanh"),
    ("rbnn-imagenet", "resnet18-rbnn"): ("bireal", "float", "hardtanh"),
    ("adabin-cifar10", "resnet18-adabin"): ("bireal", "float", "maxout"),
    ("rebnn-imagenet", "rebnn"): ("bireal", "float", "rprelu"),
}


@pytest.mark.parametrize(("name", "row"), STRUCTURES)
def test_rows_say_their_structure(name, row):
    one = TABLES[name].row(row)
    found = structure_of(one, Recipe(**one.values))
    assert (found["block"], found["shortcut"], found["nonlinearity"]) == STRUCTURES[name, row]
    first, teacher = found["pretraining"], found["distillation"]
    assert (first, teacher) == (
        ("rebnn-step1", "distribution from torchvision:resnet34") if row == "rebnn" else ("-", "-")
    )


def test_numbers_of_papers_stand_beside_their_epochs():
    for one in TABLES.values():
        text = render.markdown(one, [])
        for row in one.rows:
            assert row.paper is None or row.paper.source in text
            for value in (row.paper.scores if row.paper else {}).values():
                after = f"after {row.paper.epochs} epochs" if row.paper.epochs else "(epochs not stated)"
                assert f"| {value:.1f} {after} |" in text, (one.name, row.name)
        assert text.count("| not run |") == len(one.trained()) and text.count("| cited only |") == len(one.rows) - len(
            one.trained()
        )


@pytest.mark.parametrize("name", sorted(TABLES))
def test_pages_of_results_are_written_from_the_records(name):
    found = records.read(RESULTS / f"{name}.json")
    for ending, text in (
        (".md", render.markdown(TABLES[name], found)),
        (".csv", render.comma_separated(TABLES[name], found)),
    ):
        page = RESULTS / f"{name}{ending}"
        assert page.exists() and page.read_text(encoding="utf-8") == text, f"run: onebit reproduce {name} --render"
