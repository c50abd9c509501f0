"""Detection: targets, the loss of SSD, how outputs become boxes, average precision, and that nothing else knows of boxes."""

import itertools
import math

import pytest
import torch
from torchvision.models.detection import ssd300_vgg16
from torchvision.models.detection._utils import SSDMatcher
from torchvision.ops import box_iou

from onebit import models, tasks
from onebit.data.boxes import Boxes
from onebit.errors import UserError
from onebit.models import default_boxes
from onebit.models.multibox import multibox_loss
from onebit.tasks.average_precision import AveragePrecision, area, curve, eleven_points
from onebit.tasks.found import Found, anchors, found, found_in

SIZES = (38, 19, 10, 5, 3, 1)
SETTINGS = {
    "size": [300, 300],
    "anchors": default_boxes.settings(300, SIZES),
    "weights": [10.0, 10.0, 5.0, 5.0],
    "score": 0.01,
    "overlap": 0.45,
    "candidates": 400,
    "most": 200,
}


def boxes_of(corners, labels, image=0, difficult=None, crowd=None):
    none = torch.zeros(len(labels), dtype=torch.bool)
    difficult, crowd = (none if mark is None else torch.tensor(mark) for mark in (difficult, crowd))
    return Boxes(
        torch.tensor(corners, dtype=torch.float32).reshape(-1, 4), torch.tensor(labels), difficult, crowd, image
    )


def random_boxes(count, labels, seed, image=0):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 200
    boxes = torch.cat([corners, corners + 10 + 80 * torch.rand(count, 2, generator=generator)], 1)
    return boxes_of(boxes.tolist(), torch.randint(labels, (count,), generator=generator).tolist(), image)


@pytest.fixture(scope="module")
def bought():
    """torchvision's SSD300, whose answers and loss ours are."""
    torch.manual_seed(0)
    return ssd300_vgg16(weights=None, weights_backbone=None, num_classes=4).eval()


def test_default_boxes_are_torchvisions_and_those_of_the_record():
    ours = default_boxes.default_boxes(300, SIZES)
    assert ours.shape == (8732, 4)
    torch.testing.assert_close(anchors(SETTINGS), ours, rtol=0, atol=1e-4)


def test_loss_is_torchvisions(bought):
    generator = torch.Generator().manual_seed(1)
    scores, offsets = torch.randn(3, 8732, 4, generator=generator), torch.randn(3, 8732, 4, generator=generator)
    targets = (random_boxes(5, 3, 1), random_boxes(2, 3, 2), boxes_of([], torch.zeros(0, dtype=torch.int64).tolist()))
    around = default_boxes.default_boxes(300, SIZES)
    ours = multibox_loss(scores, offsets, around, targets)
    theirs = [{"boxes": t.boxes, "labels": t.labels.long() + 1} for t in targets]
    nothing = torch.full((8732,), -1)
    owners = [SSDMatcher(0.5)(box_iou(t.boxes, around)) if len(t) else nothing for t in targets]
    heads = {"cls_logits": scores, "bbox_regression": offsets}
    expected = bought.compute_loss(theirs, heads, [around] * 3, owners)
    torch.testing.assert_close(ours["classes"], expected["classification"])
    torch.testing.assert_close(ours["boxes"], expected["bbox_regression"])


def test_what_is_found_is_what_torchvisions_ssd_finds(bought):
    generator = torch.Generator().manual_seed(2)
    scores, offsets = 3 * torch.randn(2, 8732, 4, generator=generator), torch.randn(2, 8732, 4, generator=generator)
    ours = found({"scores": scores, "offsets": offsets}, SETTINGS)
    around = anchors(SETTINGS)
    heads = {"cls_logits": scores, "bbox_regression": offsets}
    expected = bought.postprocess_detections(heads, [around, around], [(300, 300), (300, 300)])
    for one, theirs in zip(ours, expected, strict=True):
        assert len(one.scores) == 200
        torch.testing.assert_close(one.boxes, theirs["boxes"])
        torch.testing.assert_close(one.scores, theirs["scores"])
        assert torch.equal(one.labels, theirs["labels"] - 1)


def test_a_box_for_each_class_and_small_boxes():
    settings = {**SETTINGS, "smallest": 1.0, "weights": [1.0, 1.0, 1.0, 1.0]}
    around = torch.tensor([[10.0, 10, 20, 20], [50, 50, 60, 60], [90, 90, 90.5, 90.5]])
    scores = torch.tensor([[0.1, 0.8, 0.1], [0.1, 0.2, 0.7], [0.1, 0.8, 0.1]])
    offsets = torch.zeros(3, 12)
    offsets[1, 8] = 1.0  # of the second label alone: a width to the right
    one = found_in(scores, offsets, around, settings)
    assert one.labels.tolist() == [0, 1, 0, 1]
    assert one.boxes[one.labels == 1][0].tolist() == [60, 50, 70, 60]
    assert 90 not in one.boxes[:, 0].tolist()


def average_precision(answers, targets):
    metric = AveragePrecision(lambda outputs: outputs)
    metric.update(answers, targets)
    return {name: float(value) for name, value in metric.compute().items()}


def test_average_precision_by_hand():
    there = boxes_of([[0, 0, 10, 10], [20, 20, 30, 30]], [0, 0])
    right, wrong = [0.0, 0, 10, 10], [50.0, 50, 60, 60]
    one = Found(
        torch.tensor([right, wrong, [20.0, 20, 30, 30]]), torch.tensor([0, 0, 0]), torch.tensor([0.9, 0.8, 0.7])
    )
    scores = average_precision([one], [there])
    assert math.isclose(
        scores["voc_map_50"], 0.5 * 1 + 0.5 * 2 / 3, rel_tol=1e-6
    )  # precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1
    assert math.isclose(scores["voc07_map_50"], (6 * 1 + 5 * 2 / 3) / 11, rel_tol=1e-6)
    assert math.isclose(scores["map_50"], (51 + 50 * 2 / 3) / 101, rel_tol=1e-6)


def test_difficult_objects_count_neither_way():
    easy = average_precision(
        [Found(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([0]), torch.tensor([0.5]))],
        [boxes_of([[0, 0, 10, 10]], [0])],
    )
    there = boxes_of([[0, 0, 10, 10], [40, 40, 80, 80]], [0, 0], difficult=[False, True])
    both = Found(
        torch.tensor([[40.0, 40, 80, 80], [41.0, 40, 80, 80], [0, 0, 10, 10]]),
        torch.zeros(3).long(),
        torch.tensor([0.9, 0.8, 0.5]),
    )
    assert average_precision([both], [there]) == easy == dict.fromkeys(easy, 1.0)


def test_coco_scores_are_those_of_pycocotools():
    pycocotools = pytest.importorskip("pycocotools.coco", reason="pip install pycocotools")
    from pycocotools.cocoeval import COCOeval

    generator = torch.Generator().manual_seed(3)
    targets = [random_boxes(6, 3, seed, image=seed) for seed in range(8)]
    answers = []
    for target in targets:
        moved = target.boxes.repeat(3, 1) + 6 * torch.randn(18, 4, generator=generator)
        moved[:, 2:] = torch.maximum(moved[:, 2:], moved[:, :2] + 1)
        answers.append(Found(moved, target.labels.repeat(3), torch.rand(18, generator=generator)))
    marks = [{**vars(t), "crowd": torch.rand(6, generator=generator) < 0.2} for t in targets]
    targets = [Boxes(**mark) for mark in marks]
    ours = average_precision(answers, targets)

    truth = pycocotools.COCO()
    objects = [
        {"image_id": t.image, "category_id": int(label), "iscrowd": int(crowd), "bbox": wide(box), "area": extent(box)}
        for t in targets
        for box, label, crowd in zip(t.boxes, t.labels, t.crowd)
    ]
    truth.dataset = {
        "images": [{"id": t.image} for t in targets],
        "categories": [{"id": label} for label in range(3)],
        "annotations": [{"id": number + 1, **entry} for number, entry in enumerate(objects)],
    }
    truth.createIndex()
    given = [
        {"image_id": t.image, "category_id": int(label), "bbox": wide(box), "score": float(score)}
        for t, a in zip(targets, answers)
        for box, label, score in zip(a.boxes, a.labels, a.scores)
    ]
    evaluation = COCOeval(truth, truth.loadRes(given), "bbox")
    evaluation.evaluate(), evaluation.accumulate(), evaluation.summarize()
    assert math.isclose(ours["map"], evaluation.stats[0], abs_tol=1e-6)
    assert math.isclose(ours["map_50"], evaluation.stats[1], abs_tol=1e-6)
    assert 0.1 < ours["map"] < 0.9


def wide(box):
    x, y, right, low = box.tolist()
    return [x, y, right - x, low - y]


def extent(box):
    return math.prod(wide(box)[2:])


def test_voc_scores_of_random_answers():
    """Against the definition, one recall at a time."""
    generator = torch.Generator().manual_seed(4)
    for _ in range(20):
        hits = torch.rand(30, generator=generator) < 0.6
        recall, precision = hits.double().cumsum(0) / 40, hits.double().cumsum(0) / torch.arange(1, 31)
        ends = [0.0, *recall[hits].tolist()]
        slow = sum(
            (b - a) * max(p for r, p in zip(recall.tolist(), precision.tolist()) if r >= b)
            for a, b in itertools.pairwise(ends)
        )
        assert math.isclose(float(area(recall, precision)), slow, rel_tol=1e-9)
        points = [
            max((p for r, p in zip(recall.tolist(), precision.tolist()) if r >= k / 10), default=0) for k in range(11)
        ]
        assert math.isclose(float(eleven_points(recall, precision)), sum(points) / 11, rel_tol=1e-6)


def test_an_object_is_found_once():
    targets = torch.tensor([[0, 0, 0, 0, 0.0, 0, 10, 10]], dtype=torch.float64)
    answers = torch.tensor([[0, 0, 0.9, 0.0, 0, 10, 10], [0, 0, 0.8, 0, 0, 10, 9]], dtype=torch.float64)
    recall, precision = curve(targets, answers)
    assert recall.tolist() == [1, 1] and precision.tolist() == [1, 0.5]


def test_images_without_boxes():
    nothing = Found(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    empty = boxes_of([], torch.zeros(0, dtype=torch.int64).tolist())
    assert set(average_precision([nothing], [empty]).values()) == {0.0}
    some = average_precision([nothing, nothing], [boxes_of([[0, 0, 10, 10]], [0], image=1), empty])
    assert set(some.values()) == {0.0}


@pytest.mark.parametrize("name, arguments", [("ssd300_resnet18", {}), ("ssd300_vgg16", {"width": 0.125})])
@pytest.mark.parametrize("method", ["adabin", "rebnn"])
def test_detectors_learn(name, arguments, method):
    """The loss of two images falls, and outputs have the sizes that the record says."""
    torch.manual_seed(0)
    model = models.create(name, method, classes=3, image_size=300, **arguments)
    task = tasks.create("detection", ["a", "b", "c"])
    task.adopt(model)
    targets = task.random_targets(2, torch.Generator().manual_seed(0))
    images = torch.randn(2, 3, 300, 300)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    losses = []
    for _ in range(4):
        loss, outputs = task.forward(model, images, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] and outputs is None
    model.eval()
    with torch.no_grad():
        outputs = model(images)
    assert {key: tuple(value.shape) for key, value in outputs.items()} == {
        "scores": (2, 8732, 4),
        "offsets": (2, 8732, 4),
    }
    task.check_outputs(outputs, "it")
    with pytest.raises(UserError, match="tells 3 classes apart, the data set has 2"):
        tasks.create("detection", ["a", "b"]).check_outputs(outputs, "it")


def test_too_small_images_are_refused():
    with pytest.raises(UserError, match="choose 257 or more"):
        models.create("ssd300_resnet18", "adabin", image_size=256)
    assert models.create("ssd300_resnet18", "adabin", image_size=257).settings["anchors"][-1]["map"] == [1, 1]


def test_width_is_checked():
    with pytest.raises(UserError, match="width = 0"):
        models.create("ssd300_vgg16", "adabin", width=0)
