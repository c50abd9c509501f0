"""The operators of detectors in two stages: the engine equals the reference to the bit, the reference torchvision, and files that
say something else are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nets import Builder
from onebit.runtime import format as file_format
from onebit.runtime import load
from test_runtime_engine import isas
from test_runtime_hostile import Parts, accept, refuse_changed, tensor
from test_runtime_hostile_moves import of
from test_runtime_hostile_several import raw
from test_runtime_moves import check

GRIDS = [[8, 6, 8], [4, 3, 16]]
IMAGE = [64, 48]
SHAPES = 3  # anchors of a cell
COUNT = SHAPES * (8 * 6 + 4 * 3)


def detector(seed: int, random: np.random.Generator, low: float = 0.0, high: float = 3.4e38) -> Builder:
    """Inputs "logits" and "offsets", whose boxes are read from a map of 5 channels of an image (2, 16, 12)."""
    net = Builder(seed, (2, 16, 12))
    sides = random.uniform(4, 30, (len(GRIDS), SHAPES, 2)).astype(np.float32)
    net.nodes = [
        {
            "op": "proposals",
            "name": "p",
            "inputs": ["logits", "offsets"],
            **{"grids": GRIDS, "image": IMAGE, "candidates": 40, "most": 25, "overlap": 0.6, "smallest": 1e-3},
        }
    ]
    net.tensors = {"p.anchors": np.concatenate([-sides / 2, sides / 2], 2)}
    x = net.conv("input", 2, 5, 3, padding=[1, 1])
    first = net.node("roi_align", ["p", x], scale=0.25, low=low, high=high)
    second = net.node("roi_align", ["p", "input"], scale=0.3, size=3, samples=3)
    net.node("add", [first, first])
    net.node("global_avg_pool", [second])
    return net


OTHERS = [
    {"name": "logits", "type": "floats", "shape": [1, COUNT, 1], "fixed": True},
    {"name": "offsets", "type": "floats", "shape": [4, COUNT, 1], "fixed": True},
]


def graph_of(net: Builder) -> dict[str, Any]:
    graph = net.graph(net.nodes[-1]["name"], *OTHERS, boxes="p", pooled=net.nodes[-2]["name"])
    return graph


def values(random: np.random.Generator, batch: int) -> dict[str, np.ndarray]:
    """With equal logits, equal boxes and boxes far away."""
    logits = random.normal(size=(batch, 1, COUNT, 1)).round(1)
    offsets = random.normal(size=(batch, 4, COUNT, 1)) * random.choice([0.1, 0.1, 1, 30], (batch, 1, COUNT, 1))
    offsets[:, :, ::5] = 0
    image = random.normal(size=(batch, 2, 16, 12))
    return {"input": image, "logits": logits, "offsets": offsets}


@isas
@pytest.mark.parametrize("seed", range(4))
def test_the_engine_equals_the_reference(tmp_path: Path, isa: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    net = detector(seed, random, low=10.0, high=20.0)
    file_format.write(tmp_path / "net", graph_of(net), net.tensors)
    given = {name: x.astype(np.float32) for name, x in values(random, 3 if seed % 2 else 1).items()}
    expected = load(tmp_path / "net", backend="reference")(**given)
    assert np.abs(expected["boxes"]).sum() > 0 and np.abs(expected["pooled"]).sum() > 0
    check(tmp_path / "net", isa, **given)


@isas
def test_values_without_end_are_the_same_in_both(tmp_path: Path, isa: str) -> None:
    """Logits and boxes that overflow, and those that are no numbers."""
    random = np.random.default_rng(7)
    net = detector(7, random)
    proposals = net.nodes[0]
    net.nodes, net.tensors = [], {f"{name}.anchors": net.tensors["p.anchors"] for name in "pq"}

    def scaled(x: str, factor: float) -> str:
        return net.node("affine", [x], {"channels": np.array([[factor], [0]], np.float32)})

    huge = scaled("logits", 3e38)  # infinite where the logit is above 1.13
    against = scaled(huge, -1)
    net.nodes.append({**proposals, "inputs": [huge, "offsets"]})
    none = net.node("add", [huge, against])  # NaN there, else 0
    net.nodes.append({**proposals, "name": "q", "inputs": [none, "offsets"]})
    many = net.node("affine", ["offsets"], {"channels": np.array([[3e38, 1, 3e38, 3e38], [0, -2, 0, 9]], np.float32)})
    net.nodes.append({"op": "roi_align", "name": "odd", "inputs": [many, "input"], "scale": 2.0})
    file_format.write(tmp_path / "net", net.graph("odd", *OTHERS, p="p", q="q"), net.tensors)
    given = {name: x.astype(np.float32) for name, x in values(random, 2).items()}
    with np.errstate(all="ignore"):
        traced = load(tmp_path / "net", backend="reference").trace(**given)
        assert np.isinf(traced[huge]).any() and np.isnan(traced[none]).any() and np.isinf(traced[many]).any()
        assert np.isfinite(traced["q"]).all() and traced["q"].any()
        check(tmp_path / "net", isa, **given)


def test_proposals_equal_torchvisions(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    rpn = pytest.importorskip("torchvision.models.detection.rpn")
    random = np.random.default_rng(3)
    net = detector(3, random)
    file_format.write(tmp_path / "net", graph_of(net), net.tensors)
    given = {name: x.astype(np.float32) for name, x in values(random, 2).items()}
    given["logits"] = random.permutation(2 * COUNT).reshape(2, 1, COUNT, 1).astype(np.float32) / COUNT
    given["offsets"] = (random.normal(size=(2, 4, COUNT, 1)) * 0.3).astype(np.float32)
    found = load(tmp_path / "net", backend="reference")(**given)["boxes"]  # (B, 4, most, 1)
    anchors = rpn.AnchorGenerator(((1,),) * len(GRIDS), ((1.0,),) * len(GRIDS))
    anchors.cell_anchors = list(torch.from_numpy(net.tensors["p.anchors"]))
    places = torch.cat(anchors.grid_anchors([g[:2] for g in GRIDS], [[torch.tensor(g[2])] * 2 for g in GRIDS]))
    counts = {"training": 40, "testing": 40}, {"training": 25, "testing": 25}
    rules = rpn.RegionProposalNetwork(anchors, torch.nn.Identity(), 0.7, 0.3, 256, 0.5, *counts, nms_thresh=0.6)
    offsets = torch.from_numpy(given["offsets"][..., 0]).transpose(1, 2)  # (B, N, 4)
    boxes = rules.box_coder.decode(offsets, [places, places]).reshape(2, -1, 4)
    logits = torch.from_numpy(given["logits"][:, 0])
    chosen, _ = rules.filter_proposals(boxes, logits, [tuple(IMAGE)] * 2, [SHAPES * 48, SHAPES * 12])
    for ours, theirs in zip(found[..., 0].swapaxes(1, 2), chosen):
        assert len(theirs) > 10
        np.testing.assert_allclose(ours[: len(theirs)], theirs.numpy(), atol=1e-4)
        assert not ours[len(theirs) :].any()


@pytest.mark.parametrize(("size", "samples", "scale"), [(7, 2, 0.25), (3, 3, 0.3), (1, 1, 1.0)])
def test_roi_align_equals_torchvisions(tmp_path: Path, size: int, samples: int, scale: float) -> None:
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("torchvision.ops")
    random = np.random.default_rng(size)
    net = Builder(0, (6, 11, 9))
    net.node("roi_align", ["boxes", "input"], scale=scale, size=size, samples=samples)
    graph = net.graph(net.nodes[-1]["name"], {"name": "boxes", "type": "floats", "shape": [4, 30, 1]})
    file_format.write(tmp_path / "net", graph, net.tensors)
    image = random.normal(size=(2, 6, 11, 9)).astype(np.float32)
    corners = (
        np.sort(random.uniform(-20, 60, (2, 30, 2, 2)), 2).reshape(2, 30, 4).astype(np.float32)
    )  # some are outside
    found = load(tmp_path / "net", backend="reference")(
        input=image, boxes=np.ascontiguousarray(corners.swapaxes(1, 2)[..., None])
    )
    rois = list(torch.from_numpy(corners))
    theirs = ops.roi_align(torch.from_numpy(image), rois, size, scale, samples).reshape(2, 30, 6, size, size)
    ours = found[..., 0].swapaxes(1, 2).reshape(2, 30, size, size, 6)
    np.testing.assert_allclose(ours, theirs.permute(0, 1, 3, 4, 2).numpy(), atol=2e-6)


def parts() -> Parts:
    """A valid network: proposals "p", roi_align "a"; "f" is a vector."""
    net = detector(0, np.random.default_rng(0))
    net.nodes = [net.nodes[0], net.nodes[1], {**net.nodes[2], "name": "a"}]
    net.nodes += [{"op": "relu", "name": f"read.{name}", "inputs": [name]} for name in ("logits", "offsets")]
    net.nodes.append({"op": "global_avg_pool", "name": "f", "inputs": ["a"]})
    return net.graph("f", *OTHERS), net.tensors


MUTATIONS: dict[str, tuple[Callable[[Parts], Any], str]] = {
    "proposals of one": (of("p", inputs=["logits"]), r"takes 2 input\(s\)"),
    "proposals of offsets alone": (of("p", inputs=["offsets", "offsets"]), r"needs \(180, 1, 1\) and \(180, 1, 4\)"),
    "proposals exchanged": (of("p", inputs=["offsets", "logits"]), r"needs \(180, 1, 1\) and \(180, 1, 4\)"),
    "proposals of an image": (of("p", inputs=["input", "offsets"]), r"for its anchors, got \(16, 12, 2\)"),
    "no grids": (of("p", grids=None), "lacks grids"),
    "an empty list of grids": (of("p", grids=[]), "grids must be a list of 1 to 100 lists"),
    "101 grids": (of("p", grids=[[1, 1, 1]] * 101), "grids must be a list of 1 to 100 lists"),
    "grids a number": (of("p", grids=8), "grids must be a list of 1 to 100 lists"),
    "a grid of two": (of("p", grids=[[8, 6, 8], [4, 3]]), "grids must be lists of 3 integers"),
    "a grid a number": (of("p", grids=[[8, 6, 8], 4]), "grids must be lists of 3 integers"),
    "a grid of a fraction": (of("p", grids=[[8, 6, 8.5], [4, 3, 16]]), "grids must be an integer from 1 to 32768"),
    "a grid without rows": (of("p", grids=[[0, 6, 8], [4, 3, 16]]), "grids must be an integer from 1 to 32768"),
    "a grid of true": (of("p", grids=[[True, 6, 8], [4, 3, 16]]), "grids must be an integer from 1 to 32768"),
    "grids of another map": (of("p", grids=[[8, 6, 8], [4, 4, 16]]), r"needs \(192, 1, 1\) and \(192, 1, 4\)"),
    "one grid": (of("p", grids=[[8, 6, 8]]), r"p.anchors must have shape \(1, any, 4\)"),
    "huge grids": (of("p", grids=[[2**15, 2**15, 1]] * 2), "for its anchors"),
    "no anchors": (lambda p: p[1].pop("p.anchors"), "p.anchors is missing"),
    "anchors of three numbers": (tensor("p.anchors", lambda a: a[..., :3]), "p.anchors must have shape"),
    "fewer anchors": (tensor("p.anchors", lambda a: a[:, :2]), r"needs \(120, 1, 1\)"),
    "anchors of a byte": (tensor("p.anchors", lambda a: a.astype(np.int8)), "p.anchors must be F32"),
    "anchors without end": (tensor("p.anchors", lambda a: a * np.float32("inf")), "NaN or infinity"),
    "no image": (of("p", image=None), "lacks image"),
    "an image of one number": (of("p", image=64), "image must be a list of two integers"),
    "an image without rows": (of("p", image=[0, 48]), "image must be an integer from 1 to 32768"),
    "no candidates": (of("p", candidates=0), "candidates must be an integer from 1 to 32768"),
    "too many candidates": (of("p", candidates=2**15 + 1), "candidates must be an integer from 1 to 32768"),
    "candidates left out": (of("p", candidates=None), "lacks candidates"),
    "most of 0": (of("p", most=0), "most must be an integer from 1 to 32768"),
    "most left out": (of("p", most=None), "lacks most"),
    "overlap left out": (of("p", overlap=None), "lacks overlap"),
    "overlap a word": (of("p", overlap="iou"), "overlap must be a finite number"),
    "overlap above 1": (of("p", overlap=1.5), "overlap must be a number from 0 to 1"),
    "overlap below 0": (of("p", overlap=-0.1), "overlap must be a number from 0 to 1"),
    "smallest below 0": (of("p", smallest=-1), "smallest must be a number from 0 on"),
    "smallest without end": (of("p", smallest=1e39), "smallest must be a finite number"),
    "unknown attribute": (of("p", score=0.1), "unknown key 'score'"),
    "roi_align of one": (of("a", inputs=["p"]), r"takes 2 input\(s\)"),
    "roi_align of no boxes": (of("a", inputs=["input", "p"]), r"needs boxes \(R, 1, 4\) and a map"),
    "roi_align of logits": (of("a", inputs=["logits", "input"]), r"needs boxes \(R, 1, 4\) and a map"),
    "roi_align without a scale": (of("a", scale=None), "lacks scale"),
    "a scale of 0": (of("a", scale=0), "scale must be a number above 0"),
    "a scale below 0": (of("a", scale=-0.25), "scale must be a number above 0"),
    "size of 0": (of("a", size=0), "size must be an integer from 1 to 64"),
    "size too large": (of("a", size=65), "size must be an integer from 1 to 64"),
    "samples of 0": (of("a", samples=0), "samples must be an integer from 1 to 64"),
    "samples a list": (of("a", samples=[2, 2]), "samples must be an integer from 1 to 64"),
    "low above high": (of("a", low=5, high=4), "needs low <= high"),
    "high a word": (of("a", high="all"), "high must be a finite number"),
    "cells of other kinds": (of("a", aligned=True), "unknown key 'aligned'"),
}


def test_the_unchanged_file_is_accepted(tmp_path: Path) -> None:
    accept(tmp_path, raw(*parts()))


@pytest.mark.parametrize("name", MUTATIONS)
def test_hostile_graphs(tmp_path: Path, name: str) -> None:
    refuse_changed(tmp_path, raw, parts(), MUTATIONS[name])
