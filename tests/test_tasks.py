"""Tasks: the scores that they give, and a network for the task of docs/adding.md from its training to its answers."""

import csv
import itertools
import json
import multiprocessing
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MultilabelAveragePrecision, MultilabelF1Score
from torchmetrics.functional.classification import multilabel_average_precision

import additions
from onebit import data, tasks
from onebit.checkpoints import checkpoint
from onebit.cli import main as cli
from onebit.data.dataset import Data, MemorySet
from onebit.data.inputs import Images, Normalization
from onebit.data.options import LoadOptions
from onebit.errors import Stopped, UserError
from onebit.nn import layers
from onebit.packing.from_checkpoint import pack_checkpoint
from onebit.runtime import load
from onebit.tasks.classification import Classification
from onebit.tasks.options import TaskOptions
from onebit.tasks.score import Score
from onebit.training.state import State
from runs import arguments, digits, last, metrics, run, same_end

CPU = torch.device("cpu")

# ---- scores


class Seen(Metric):
    """How many examples, counted in place."""

    total: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), "sum")

    def update(self, outputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.total += len(outputs)

    def compute(self) -> torch.Tensor:
        return self.total / 100


class Several(Classification):
    """Any number of labels, scored by a metric that keeps all outputs, one that counts anew, and one that counts in place."""

    name = "several"

    def metrics(self) -> MetricCollection:
        count = len(self.labels)
        kinds = {"map": MultilabelAveragePrecision(count), "f1": MultilabelF1Score(count), "seen": Seen()}
        return MetricCollection(kinds)


class Ranked(Classification):
    """Two metrics whose states have the same names, and the same values while the best answer is right."""

    name = "ranked"

    def metrics(self) -> MetricCollection:
        count = len(self.labels)
        kinds = {"mean": MulticlassAccuracy(count), "top_2": MulticlassAccuracy(count, top_k=2, average="micro")}
        return MetricCollection(kinds)


def examples(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs in [0, 1] (count, 3) and targets 0 or 1 (count, 3)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, generator=generator), torch.randint(2, (count, 3), generator=generator)


def score_of(kind: type, *batches: tuple[torch.Tensor, torch.Tensor]) -> Score:
    score = Score(kind(tuple("abc"), TaskOptions()), CPU)
    for batch in batches:
        score.update(*batch)
    return score


def test_scores_are_in_percent():
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 1.0], [0.0, 1.0, 0.5]])
    score = score_of(Classification, (logits, torch.tensor([0, 1, 2])))
    assert score.compute() == {"accuracy": pytest.approx(200 / 3)} and score.examples == 3
    one, other = examples(40), examples(30, 1)
    both = [torch.cat(pair) for pair in zip(one, other, strict=True)]
    expected = 100 * float(multilabel_average_precision(*both, num_labels=3))
    assert score_of(Several, one, other).compute()["map"] == pytest.approx(expected)


def test_mixed_targets_count_by_the_larger_share():
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 1.0]])
    targets = torch.tensor([[0.6, 0.4, 0.0], [0.4, 0.0, 0.6]])
    assert score_of(Classification, (logits, targets)).compute() == {"accuracy": 50.0}


def test_more_than_ten_classes_have_a_top_5():
    """Counted one by one; the first score, by which best.ckpt goes, stays the top-1."""
    generator = torch.Generator().manual_seed(0)
    labels = tuple(f"class {number}" for number in range(11))
    score = Score(Classification(labels, TaskOptions()), CPU)
    right = {1: 0, 5: 0}
    for count in (30, 17):
        logits, targets = torch.randn(count, 11, generator=generator), torch.randint(11, (count,), generator=generator)
        for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
            place = sorted(row, reverse=True).index(row[target])
            right = {best: number + (place < best) for best, number in right.items()}
        mixed = torch.nn.functional.one_hot(targets, 11) * 0.6 + 0.4 / 11
        score.update(logits, targets if count == 30 else mixed)
    expected = {"accuracy": 100 * right[1] / 47, "accuracy_top5": 100 * right[5] / 47}
    assert 0 < right[1] < right[5] < 47 and score.compute() == pytest.approx(expected)
    assert list(score.compute()) == ["accuracy", "accuracy_top5"]
    assert list(Score(Classification(labels[:10], TaskOptions()), CPU).compute()) == ["accuracy"]


def test_metrics_that_agree_at_first_are_two():
    """torchmetrics would count one of them from the second batch on."""
    logits = torch.tensor([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0]])
    right, second = torch.tensor([0, 1]), torch.tensor([1, 2])
    assert score_of(Ranked, (logits, right), (logits, second)).compute() == {"mean": 50.0, "top_2": 100.0}


@pytest.mark.parametrize("kind", [Classification, Several])
def test_a_score_goes_on_from_its_state(kind, tmp_path):
    """Through a file, as a resumed training does; the state is a copy, which later examples do not change."""
    batches = [examples(20, seed) for seed in range(4)]
    if kind is Classification:
        batches = [(outputs, targets.float()) for outputs, targets in batches]
    whole, half = score_of(kind, *batches), score_of(kind, *batches[:2])
    state = half.gather()
    half.release()
    torch.save(state, tmp_path / "state")
    half.update(*batches[2])
    for content in (state, state, torch.load(tmp_path / "state", weights_only=True)):
        resumed = score_of(kind)
        resumed.load(content)
        assert resumed.compute() == score_of(kind, *batches[:2]).compute()
        for batch in batches[2:]:
            resumed.update(*batch)
        assert resumed.compute() == whole.compute()
    half.update(*batches[3])
    assert half.compute() == whole.compute()


def score_on_ranks(rank: int, port: int, results: Any) -> None:
    """Rank 1 has more examples than rank 0, then fewer: none. What was gathered goes on."""
    torch.set_num_threads(1)
    where = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=where, rank=rank, world_size=2)
    score = score_of(Several, *(examples(20, seed) for seed in range(3) if (seed > 0) == rank))
    state = score.gather()
    first = score.compute()
    score.release()
    score = score_of(Several)
    if rank == 0:
        score.load(state)
        score.update(*examples(20, 3))
    score.gather()
    results.put((rank, first, score.compute()))
    torch.distributed.destroy_process_group()


def test_two_ranks_have_one_score():
    """Of metrics that keep all outputs too, and where one rank has no example."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = multiprocessing.get_context("forkserver")
    results = processes.SimpleQueue()
    started = [processes.Process(target=score_on_ranks, args=(rank, port, results)) for rank in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0, 0]
    batches = [examples(20, seed) for seed in range(4)]
    expected = score_of(Several, *batches[:3]).compute(), score_of(Several, *batches).compute()
    for _ in started:
        _, first, second = results.get()
        assert first == pytest.approx(expected[0]) and second == pytest.approx(expected[1])


def test_a_score_that_is_no_number_is_not_the_best():
    state = State("run")
    improved = []
    for value in (float("nan"), 50.0, float("nan"), 50.0, 60.0):
        state.scores = {"map": value}
        improved.append(state.improved())
    assert improved == [False, True, False, False, True] and state.best == 60.0


# ---- the page's task, from training to answers

LABELS = ("row", "column", "block")
SHAPES = ((slice(2, 4), slice(None)), (slice(None), slice(11, 13)), (slice(7, 12), slice(4, 9)))
IMAGES, TEST_IMAGES = 512, 128


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 16, 16), each with any of three shapes, and which those are, bool (N, 3)."""
    random = np.random.default_rng(0)
    there = random.random((IMAGES + TEST_IMAGES, len(LABELS))) < 0.5
    images = random.integers(0, 80, (len(there), 16, 16)).astype(np.uint8)
    for image, which in zip(images, there, strict=True):
        for shape in itertools.compress(SHAPES, which):
            image[shape] = 170
    return images, there


def shapes(root: Path, options: LoadOptions) -> Data:
    images, there = pictures()
    inputs, targets = torch.from_numpy(images)[:, None], torch.from_numpy(there).float()
    normalization = Normalization((0.35,), (0.25,))
    train = MemorySet(inputs[:IMAGES], targets[:IMAGES], normalization, pad=1)
    test = MemorySet(inputs[IMAGES:], targets[IMAGES:], normalization)
    return Data("shapes", train, test, Images(1, 16, normalization), LABELS, task="tags")


@pytest.fixture(scope="module", autouse=True)
def added(tmp_path_factory) -> Iterator[None]:
    """The task and the data set are in their tables."""
    with additions.made(tmp_path_factory.mktemp("package")), pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.DATA.rows, "shapes", shapes)
        yield


def keys(**changes: Any) -> dict[str, Any]:
    """Slow enough that scores stay below 100 %, and the best epoch need not be the last."""
    return {"data": "shapes", "method": "adabin", "epochs": 4, "batch_size": 64, "lr": 1e-3, **changes}


@pytest.fixture(scope="module")
def trained(added, tmp_path_factory) -> dict[str, Any]:
    """{"out", "packed": paths, "result": of the training}."""
    out = tmp_path_factory.mktemp("trained") / "run"
    torch.set_num_threads(1)
    result = run(digits(out, **keys()))
    pack_checkpoint(last(out), out / "net.safetensors")
    return {"out": out, "packed": out / "net.safetensors", "result": result}


def said(capsys: Any, *words: object) -> dict[str, Any]:
    """What a command answers with --json."""
    capsys.readouterr()
    assert cli.main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_training_is_scored_by_the_task(trained):
    """best.ckpt is that of the highest map, which metrics.csv records beside the loss and nothing of classes."""
    with open(trained["out"] / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["epoch", "train_loss", "train_map", "test_map"]
    assert not [name for name in rows[0] if "accuracy" in name]
    scores = [float(row["test_map"]) for row in rows]
    result, best = trained["result"], checkpoint.load(trained["out"] / "best.ckpt")
    assert result["scores"] == ["map"] and result["map"] == pytest.approx(scores[-1], abs=0.01) and result["map"] > 85
    assert best.score == result["best"] == pytest.approx(max(scores), abs=0.01)
    assert best.progress is not None and best.progress.epoch == 1 + scores.index(max(scores))
    assert best.task == {"name": "tags", "labels": list(LABELS)}


def test_a_checkpoint_and_its_packed_file_have_one_score(trained, capsys):
    own = said(capsys, "eval", trained["out"] / "last.ckpt", "--data", "shapes")
    packed = said(capsys, "eval", trained["packed"], "--data", "shapes")
    assert own["scores"] == packed["scores"] == ["map"] and own["examples"] == packed["examples"] == TEST_IMAGES
    assert own["map"] == pytest.approx(trained["result"]["map"], abs=0.01)
    assert packed["map"] == pytest.approx(own["map"], abs=1.0)
    for file in ("last.ckpt", "net.safetensors"):
        about = said(capsys, "info", trained["out"] / file)
        assert about["task"] == "tags" and about["map"] == pytest.approx(own["map"], abs=0.01)
    assert cli.main(["eval", str(trained["packed"]), "--data", "digits"]) == 2
    assert "was made for the task tags, data set 'digits' is for classification" in capsys.readouterr().err


def test_files_are_answered_with_several_labels(trained, capsys, tmp_path):
    """Each with a probability of its own: those of an image do not sum to 1."""
    images, there = (part[IMAGES : IMAGES + 8] for part in pictures())
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    rows = said(capsys, "run", trained["packed"], tmp_path, "--top", 3)["images"]
    logits = load(trained["packed"])(images[..., None])
    for row, expected in zip(rows, 1 / (1 + np.exp(-logits)), strict=True):
        found = {prediction["label"]: prediction["score"] for prediction in row["predictions"]}
        assert list(found.values()) == sorted(found.values(), reverse=True)
        assert [found[label] for label in LABELS] == pytest.approx(expected.tolist(), abs=1e-5)
    assert max(abs(sum(p["score"] for p in row["predictions"]) - 1) for row in rows) > 0.2
    right = [
        (p["score"] > 0.5) == there[i, LABELS.index(p["label"])] for i, r in enumerate(rows) for p in r["predictions"]
    ]
    assert np.mean(right) > 0.7
    assert cli.main(["run", str(trained["packed"]), str(tmp_path), "--top", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[0].count(" %") == 2


def test_a_training_that_is_stopped_goes_on_to_the_same_bits(trained, tmp_path, monkeypatch):
    """In the middle of an epoch, whose score is of both its parts."""
    out, after_step, counter = tmp_path / "run", layers.after_step, itertools.count(1)

    def stop(model: torch.nn.Module, *clipping: torch.Tensor | None) -> None:
        after_step(model, *clipping)
        if next(counter) == 11:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(layers, "after_step", stop)
        with pytest.raises(Stopped):
            run(digits(out, **keys()))
    progress = last(out).progress
    assert (progress.epoch, progress.step) == (1, 3) and progress.partial["examples"] == 3 * 64
    run(digits(out, **keys()), resume=True)
    same_end(out, trained["out"])
    assert float(metrics(out)[1]["train_map"]) > 0


def test_what_a_task_lacks_is_refused_before_the_first_step(trained, tmp_path, capsys):
    teacher = {"teacher": str(trained["out"] / "last.ckpt")}
    with pytest.raises(UserError, match="the task tags cannot learn from a teacher"):
        run(digits(tmp_path / "taught", **keys(**teacher)))
    assert not (tmp_path / "taught" / "recipe.json").exists()
    assert cli.main(["train", *arguments(tmp_path / "mixed", **keys(mixup=0.2)), "--json"]) == 2
    assert "mixup and cutmix are for classes, not for the task tags" in capsys.readouterr().err


def test_label_smoothing_and_made_up_targets():
    task = tasks.create("tags", LABELS, TaskOptions(label_smoothing=0.2))
    targets = task.random_targets(50, torch.Generator().manual_seed(0))
    assert targets.shape == (50, 3) and set(targets.unique().tolist()) == {0.0, 1.0}
    expected = -(0.9 * torch.sigmoid(torch.tensor(2.0)).log() + 0.1 * torch.sigmoid(torch.tensor(-2.0)).log())
    assert float(task.loss(torch.full((4, 3), 2.0), torch.ones(4, 3))) == pytest.approx(float(expected))
