"""Learning from a teacher's logits, hidden states and similarities; recipes for texts, which all step."""

import math

import pytest
import torch
import torch.nn.functional as F

import glue_files
from onebit import models, tasks
from onebit.checkpoints import checkpoint
from onebit.errors import UserError
from onebit.nn.states import States
from onebit.training.distillation import Distillation, Teacher
from onebit.training.inner import hidden_distance, similarity_distance
from onebit.training.objective import Objective
from onebit.training.recipe import Recipe, read, shipped
from onebit.training.train import train
from test_bert import batch, small

TASK = tasks.create("text", ("a", "b", "c"))


def states(layers, seed, there):
    torch.manual_seed(seed)
    hidden = [torch.randn(2, 5, 8) for _ in range(layers + 1)]
    return States(torch.randn(2, 3), hidden, [tuple(torch.randn(3, 2, 5, 8)) for _ in range(layers)], there, 2)


def test_distances_by_hand():
    """Of texts without what fills them up; a teacher of four layers is compared at its second and fourth."""
    there = torch.tensor([[True] * 5, [True, True, True, False, False]])
    ours, theirs = states(2, 0, there), states(4, 1, there)
    rows = [(x, t) for x, t in zip(ours.hidden, theirs.hidden[::2], strict=True)]
    expected = sum(((x[there] - t[there]) ** 2).mean() for x, t in rows)
    torch.testing.assert_close(hidden_distance(ours, theirs), expected)

    def apart(x, t):
        return (x / x.norm() - t / t.norm()).norm()

    def products(x):
        found = torch.zeros(2, 2, 5, 5)
        for text in range(2):
            n = int(there[text].sum())
            for head in range(2):
                part = x[text, :n, 4 * head : 4 * head + 4]
                found[text, head, :n, :n] = part @ part.T / 2
        return found

    expected = sum(apart(x[there], t[there]) for x, t in rows)
    for mine, other in zip(ours.products, theirs.products[1::2], strict=True):
        expected = expected + sum(apart(products(x), products(t)) for x, t in zip(mine, other, strict=True))
    torch.testing.assert_close(similarity_distance(ours, theirs), expected)
    assert similarity_distance(ours, ours) == hidden_distance(ours, ours) == 0


@pytest.mark.parametrize("kind", ("distribution", "squares", "soft"))
def test_the_objective_is_the_sum_of_its_parts(kind):
    """And only the student learns, whose teacher stays in evaluation mode, dropout and all."""
    student, parent = small("bit").train(), small(dropout=0.5)
    teacher = Teacher(parent)
    objective = Objective(student, TASK, Distillation(teacher, TASK, kind, (0.75, 0.75), 2.0, 3.0, 0.5)).train()
    inputs, labels = batch(12, 7, 5), torch.tensor([0, 2, 1])
    loss, outputs = objective(inputs, labels)
    ours, theirs = student.states(inputs), parent.eval().states(inputs)
    torch.testing.assert_close(outputs, ours.outputs)
    expected = 3 * hidden_distance(ours, theirs) + 0.5 * similarity_distance(ours, theirs)
    distances = {
        "distribution": F.cross_entropy(ours.outputs, theirs.outputs.softmax(1)),
        "squares": ((ours.outputs - theirs.outputs) ** 2).mean(),
        "soft": 0.25 * F.cross_entropy(ours.outputs, labels)
        + 0.75
        * 4
        * F.kl_div((ours.outputs / 2).log_softmax(1), (theirs.outputs / 2).softmax(1), reduction="batchmean"),
    }
    torch.testing.assert_close(loss, distances[kind] + expected)
    loss.backward()
    learned = {name for name, p in student.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {
        "embeddings.word_embeddings.weight",
        "encoder.layer.0.attention.self.products.query_binarizer.alpha",
    } <= learned
    assert all(p.grad is None for p in teacher.parameters()) and not any(m.training for m in teacher.modules())
    with torch.no_grad():
        assert math.isfinite(loss.item()) and torch.equal(teacher(inputs), theirs.outputs)


LITTLE = {
    "model": "bert",
    "arguments": {"layers": 2, "width": 32, "heads": 2, "hidden": 64, "positions": 48, "dropout": 0.1},
    "length": 32,
    "batch_size": 8,
    "epochs": 1,
    "warmup_epochs": 0.0,
    "precision": "32-true",
    "threads": 1,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    pytest.importorskip("tokenizers", reason="pip install 'onebit[text]'")
    return glue_files.write(tmp_path_factory.mktemp("glue") / "glue", train=16, test=8)


@pytest.fixture(scope="module")
def parent(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("parent")
    return train(recipe_of("glue-minilm-float", root, out), quiet=True)["last_checkpoint"]


def recipe_of(name, root, out, **values):
    return Recipe(**{**read(name), **LITTLE, "root": str(root), "out": str(out), **values})


NAMES = [name for name in shipped() if name.startswith("glue-")]


@pytest.mark.parametrize("name", NAMES)
def test_recipes_step(name, root, parent, tmp_path):
    """On made-up texts, with a smaller network; those of one-bit networks start from the parent, which teaches them."""
    keys = read(name)
    taught = {key: parent for key in ("initial", "teacher") if key in keys}
    assert len(taught) == (0 if keys["method"] == "float" else 2)
    result = train(recipe_of(name, root, tmp_path / "run", **taught), quiet=True)
    assert result["epochs"] == 1 and result["scores"] == ["accuracy"]
    saved = checkpoint.load(result["last_checkpoint"])
    assert all(value.isfinite().all() for value in saved.model.values() if value.is_floating_point())


@pytest.mark.parametrize("task", ("cola", "mrpc", "stsb", "mnli", "qqp", "qnli", "rte", "wnli"))
def test_a_recipe_steps_on_every_task(task, root, tmp_path):
    """Taught by a parent of the same task: of similarities by squared differences, whatever the kind."""
    first = train(recipe_of("glue-minilm-float", root, tmp_path / "parent", glue=task), quiet=True)["last_checkpoint"]
    recipe = recipe_of("glue-bert_base-bibert", root, tmp_path / "run", glue=task, initial=first, teacher=first)
    assert train(recipe, quiet=True)["epochs"] == 1


def test_one_bit_learns_from_its_parent(root, parent, tmp_path):
    """Its logits come closer to the parent's, from which it starts."""
    import csv

    keys = {"initial": parent, "teacher": parent, "epochs": 15, "lr": 1e-2}
    train(recipe_of("glue-minilm-bit", root, tmp_path / "run", **keys), quiet=True)
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        losses = [float(row["train_loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < 0.8 * losses[0]


REFUSED = {
    "no teacher": ({"distillation_hidden": 1.0}, "distillation_hidden = 1.0 without a teacher"),
    "another width": (
        {"arguments": {"layers": 2, "width": 16, "heads": 2, "hidden": 64}, "distillation_hidden": 1.0},
        "is 32 channels wide, the student 16",
    ),
    "other heads": (
        {"arguments": {"layers": 2, "width": 32, "heads": 4, "hidden": 64}, "distillation_similarity": 1.0},
        "has 2 heads, the student 4",
    ),
    "more layers": (
        {"arguments": {"layers": 3, "width": 32, "heads": 2, "hidden": 64}, "distillation_hidden": 1.0},
        "has 2 layers, no multiple of the student's 3",
    ),
    "a negative weight": ({"distillation_hidden": -1.0}, "distillation_hidden = -1.0 must be at least 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_one_line(case, root, parent, tmp_path):
    values, says = REFUSED[case]
    if case != "no teacher":
        values = {"teacher": parent, **values}
    with pytest.raises(UserError) as error:
        train(recipe_of("glue-minilm-float", root, tmp_path / "run", **values), quiet=True)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_networks_without_states_are_refused(tmp_path):
    from onebit.checkpoints.checkpoint import Checkpoint, save
    from runs import digits

    network = models.create("resnet8", in_channels=1, image_size=8)
    save(
        tmp_path / "t.ckpt",
        Checkpoint(network.config, network.state_dict(), {"name": "classification", "labels": list("0123456789")}),
    )
    recipe = digits(tmp_path / "run", teacher=str(tmp_path / "t.ckpt"), distillation_hidden=1.0)
    with pytest.raises(
        UserError, match="distillation_hidden compares states of networks for words, the network has none"
    ):
        train(recipe, quiet=True)
