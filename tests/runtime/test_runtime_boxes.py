"""Boxes from a detector's outputs: the engine gives the bits of the numpy oracle, and both the boxes of torchvision."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nets import detector
from onebit.errors import UserError
from onebit.runtime import box_settings, boxes, load, native
from onebit.runtime import format as file_format
from onebit.runtime.boxes import Found

ISAS = ["", *(native.supported() if native.available() else [])]
GRIDS = [
    {"map": [9, 7], "step": [10.5, 14], "boxes": [[12, 12], [25, 11], [11, 25.5]]},
    {"map": [4, 5], "step": [24, 20], "boxes": [[40, 40], [70, 35]]},
]
ROWS = 9 * 7 * 3 + 4 * 5 * 2


def settings(anchors: Any = GRIDS, **changes: Any) -> box_settings.BoxSettings:
    found = {
        "size": [96, 100],
        **({"anchors": anchors} if anchors else {}),
        "weights": [10, 10, 5, 5],
        "score": 0.05,
        "overlap": 0.45,
        "most": 60,
        **changes,
    }
    return box_settings.parse({key: value for key, value in found.items() if value is not None}, "settings")


def outputs(seed: int, labels: int, rows: int = ROWS, each: bool = False, proposals: bool = False, ties: bool = False):
    """Of three images. Ties: logits from a few rows alone, with which many boxes have one score."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(3, rows, labels + 1)) * 2
    if ties:
        scores = scores[:, random.integers(0, 5, rows)]
    found = [scores, random.normal(size=(3, rows, 4 * (labels + 1) if each else 4)) * 3]
    if proposals:
        corner = random.uniform(-10, 90, (3, rows, 2))
        found.append(np.concatenate([corner, corner + random.uniform(1, 60, (3, rows, 2))], -1))
        found[2][:, ::7] = 0  # rows that are none
    return [x.astype(np.float32) for x in found]


def same(found: list[Found], expected: list[Found]) -> None:
    """To the bit."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        for field in Found._fields:
            a, b = getattr(one, field), getattr(other, field)
            assert a.dtype == b.dtype and a.shape == b.shape, field
            np.testing.assert_array_equal(a.view(np.uint8), b.view(np.uint8), err_msg=field)


CASES = {
    "ssd": ({"candidates": 30}, {}),
    "ssd without limits": ({"most": 10_000, "score": 0.0}, {}),
    "nothing overlaps": ({"overlap": 0.0}, {}),
    "all may overlap": ({"overlap": 1.0}, {}),
    "few": ({"most": 3, "candidates": 2}, {}),
    "large alone": ({"smallest": 20.3}, {}),
    "ties": ({"candidates": 25}, {"ties": True}),
    "a box each": ({}, {"each": True}),
    "proposals": ({"anchors": False, "smallest": 0.01}, {"proposals": True, "each": True}),
    "proposals with one box": ({"anchors": False}, {"proposals": True}),
    "proposals with ties": ({"anchors": False, "most": 20}, {"proposals": True, "each": True, "ties": True}),
}


@pytest.mark.skipif(not native.available(), reason="the engine is not built")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("labels", [1, 4])
def test_the_engine_has_the_bits_of_the_oracle(name: str, labels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On every instruction set, of numbers of all sizes, too."""
    record, kind = settings(**CASES[name][0]), CASES[name][1]
    for seed, scale in enumerate((1, 1, 30, 1e-3)):
        given = outputs(seed, labels, **kind)
        given[1] *= np.float32(scale)
        rows = boxes.rows_of(given, record)
        expected = boxes.by_numpy(rows, record)
        assert sum(len(found.scores) for found in expected) > 3
        for isa in ISAS:
            monkeypatch.setenv("ONEBIT_ISA", isa)
            same(boxes.detections(given, record), expected)
        monkeypatch.delenv("ONEBIT_ISA")
        as_files_have_them = [np.ascontiguousarray(x.swapaxes(1, 2)[..., None]) for x in given]  # (B, C, R, 1)
        same(boxes.detections(as_files_have_them, record), expected)


def torchvision_ssd(given: list[np.ndarray], record: box_settings.BoxSettings) -> list[dict[str, Any]]:
    torch = pytest.importorskip("torch")
    ssd = pytest.importorskip("torchvision.models.detection.ssd")
    utils = pytest.importorskip("torchvision.models.detection._utils")
    scores, offsets = (torch.from_numpy(x) for x in given)
    anchors = torch.from_numpy(boxes.anchors(record))
    net = SimpleNamespace(
        box_coder=utils.BoxCoder(weights=record.weights),
        score_thresh=record.score,
        nms_thresh=record.overlap,
        topk_candidates=record.candidates or 10**6,
        detections_per_img=record.most,
    )
    heads = {"bbox_regression": offsets, "cls_logits": scores}
    sizes = [tuple(record.size)] * len(scores)
    return ssd.SSD.postprocess_detections(net, heads, [anchors] * len(scores), sizes)


def torchvision_rcnn(given: list[np.ndarray], record: box_settings.BoxSettings) -> list[dict[str, Any]]:
    torch = pytest.importorskip("torch")
    heads = pytest.importorskip("torchvision.models.detection.roi_heads")
    utils = pytest.importorskip("torchvision.models.detection._utils")
    scores, offsets, proposals = (torch.from_numpy(x) for x in given)
    net = SimpleNamespace(
        box_coder=utils.BoxCoder(weights=record.weights),
        score_thresh=record.score,
        nms_thresh=record.overlap,
        detections_per_img=record.most,
    )
    made = heads.RoIHeads.postprocess_detections(
        net, scores.flatten(0, 1), offsets.flatten(0, 1), list(proposals), [tuple(record.size)] * len(scores)
    )
    return [dict(zip(("boxes", "scores", "labels"), image)) for image in zip(*made)]


def in_order(found: Any) -> list[tuple[float, ...]]:
    """Rows of score, label and box, equal scores by what follows: torchvision's order of those is another."""
    if isinstance(found, dict):
        found = Found(found["boxes"].numpy(), found["scores"].numpy(), found["labels"].numpy() - 1)
    rows = np.concatenate([found.scores[:, None].round(5), found.labels[:, None], found.boxes.round(2)], 1)
    return rows[np.lexsort(rows.T[::-1])]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"candidates": 30}, {}),
        ({"candidates": 400, "score": 0.01, "most": 200}, {}),
        ({"overlap": 0.1}, {}),
        ({"anchors": False, "smallest": 0.01}, {"proposals": True, "each": True}),
        ({"anchors": False, "smallest": 0.01, "overlap": 0.7, "most": 500}, {"proposals": True, "each": True}),
        ({"anchors": False, "smallest": 0.01, "most": 5000}, {"proposals": True, "each": True, "ties": True}),
    ],
)
def test_boxes_are_torchvisions(seed: int, changes: dict[str, Any], kind: dict[str, Any]) -> None:
    """The same number, labels, scores and boxes, of many equal scores, too."""
    record, given = settings(**changes), outputs(10 + seed, 3, **kind)
    expected = (torchvision_rcnn if record.anchors is None else torchvision_ssd)(given, record)
    found = boxes.detections(given, record)
    assert sum(len(image.scores) for image in found) > 60
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours.scores) == len(theirs["scores"])
        np.testing.assert_allclose(in_order(ours), in_order(theirs), atol=0.011)
        assert (np.diff(ours.scores) <= 0).all()


def test_equal_scores_of_apart_boxes_are_torchvisions() -> None:
    """Of SSD, which takes the best of equal ones in any order: boxes that do not touch."""
    grids = [{"map": [9, 9], "step": [10, 10], "boxes": [[6, 6]]}]
    record = settings(anchors=grids, candidates=None, most=1000)
    given = outputs(5, 3, rows=81, ties=True)
    given[1][:] = 0
    for ours, theirs in zip(boxes.detections(given, record), torchvision_ssd(given, record), strict=True):
        assert len(ours.scores) == len(theirs["scores"]) > 80
        np.testing.assert_allclose(in_order(ours), in_order(theirs), atol=0.011)


def one_image(rows: list[tuple[float, list[float]]]) -> tuple[list[np.ndarray], np.ndarray]:
    """(scores, offsets of 0 and proposals) of one label: (probability, box) a row."""
    p = np.array([row[0] for row in rows])
    scores = np.stack([np.zeros_like(p), np.log(p / (1 - p))], -1)[None].astype(np.float32)
    corners = np.array([[row[1] for row in rows]], np.float32)
    return [scores, np.zeros_like(corners), corners], corners[0]


def test_what_is_kept_by_hand() -> None:
    """Of equal scores the first row; what overlaps less, or a box that is gone; what is cut off at the border."""
    given, corners = one_image(
        [
            (0.5, [0, 0, 10, 10]),
            (0.9, [20, 20, 30, 30]),
            (0.8, [20, 20, 30, 24]),  # 0.4 of the one before
            (0.7, [20, 20, 30, 28]),  # 0.8 of it
            (0.5, [0, 1, 10, 11]),  # 0.82 of the first, which has the same score
            (0.4, [90, 90, 200, 200]),
            (0.3, [-50, 40, -20, 60]),  # outside: nothing is left of its width
            (0.1, [50, 50, 60, 60]),  # a score too low
        ]
    )
    record = settings(anchors=False, score=0.2)
    for made in (boxes.detections(given, record), boxes.by_numpy(boxes.rows_of(given, record), record)):
        (found,) = made
        expected = corners[[1, 2, 0, 5, 6]].copy()
        expected[3], expected[4] = [90, 90, 100, 96], [0, 40, 0, 60]
        np.testing.assert_allclose(found.boxes, expected, atol=1e-5)
        np.testing.assert_allclose(found.scores, [0.9, 0.8, 0.5, 0.4, 0.3], atol=1e-6)
        assert found.labels.tolist() == [0] * 5
    for changes, kept in (({"smallest": 0.01}, 4), ({"candidates": 4}, 3), ({"most": 2}, 2), ({"score": 0.45}, 3)):
        assert len(boxes.detections(given, settings(anchors=False, **{"score": 0.2, **changes}))[0].scores) == kept


def test_anchors_are_in_the_order_of_the_format() -> None:
    """Rows, columns, boxes; the step is down, then across."""
    found = boxes.anchors(settings())
    assert found.shape == (ROWS, 4) and found.dtype == np.float32
    centre = (found[:, :2] + found[:, 2:]) / 2
    np.testing.assert_allclose(centre[:6], [[7, 5.25]] * 3 + [[21, 5.25]] * 3)
    np.testing.assert_allclose(centre[21], [7, 15.75])  # the second row, behind 7 columns of 3 boxes
    np.testing.assert_allclose((found[:, 2:] - found[:, :2])[:3], [[12, 12], [25, 11], [11, 25.5]])
    np.testing.assert_allclose(centre[9 * 7 * 3], [10, 12])


@pytest.mark.parametrize("case", ["rows", "labels", "offsets", "proposals", "anchors"])
def test_outputs_of_another_size_are_refused(case: str) -> None:
    given, record = outputs(0, 3), settings()
    if case == "rows":
        given = outputs(0, 3, rows=ROWS - 1)
    elif case == "labels":
        given[0] = given[0][..., :1]
    elif case == "offsets":
        given[1] = given[1][:, 1:]
    elif case == "proposals":
        given = outputs(0, 3, proposals=True)
    else:
        record = settings(anchors=False)
    with pytest.raises(UserError, match=r"of \d+ rows; boxes are found in images of 96 × 100") as caught:
        boxes.detections(given, record)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("proposals", [False, True])
def test_a_file_answers_the_same_by_both_backends(tmp_path: Any, proposals: bool) -> None:
    file_format.write(tmp_path / "net", *detector(proposals=proposals))
    images = np.random.default_rng(0).integers(0, 256, (2, 24, 32, 3), dtype=np.uint8)
    found = [load(tmp_path / "net", backend=b).predict(images, threshold=0.3) for b in ("reference", "auto")]
    assert found[0] == found[1] and len(found[0]) == 2 and min(map(len, found[0])) > 2
    for part in (part for answer in found[0] for part in answer):
        (x1, y1, x2, y2), score = part["box"], part["score"]
        assert 0 <= x1 <= x2 <= 32 and 0 <= y1 <= y2 <= 24 and 0.3 <= score <= 1 and part["label"] in "abc"
