"""Files that must be refused for what is wrong with how a detector's boxes are made."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nets import detector
from onebit.runtime import format as file_format
from onebit.runtime import load, native
from test_runtime_hostile import Parts, refuse, refuse_changed, set_in
from test_runtime_hostile_several import parts as of_labels
from test_runtime_hostile_several import raw, without


def parts() -> Parts:
    return detector()


def setting(*path: Any, to: Any) -> Callable[[Parts], Any]:
    return set_in("task", "settings", *path, to=to)


def lacking(*path: Any) -> Callable[[Parts], Any]:
    return without("task", "settings", *path)


def grid(key: str, to: Any) -> Callable[[Parts], Any]:
    return setting("anchors", 1, key, to=to)


def other(*changes: Callable[[Parts], Any]) -> Callable[[Parts], Any]:
    def change(source: Parts) -> None:
        for each in changes:
            each(source)

    return change


def instead(made: Parts, *changes: Callable[[Parts], Any]) -> Callable[[Parts], Any]:
    """Another network, changed."""

    def change(source: Parts) -> None:
        for old, new in zip(source, made):
            old.clear()
            old.update(new)
        other(*changes)(source)

    return change


def of_proposals(*changes: Callable[[Parts], Any]) -> Callable[[Parts], Any]:
    return lambda source: instead(detector(proposals=True), *changes)(source)


def of_one_label(source: Parts) -> None:
    """A classifier with settings."""
    settings = source[0]["task"]["settings"]
    instead(of_labels(), set_in("task", "settings", to=settings))(source)


def output(index: int, key: str, to: Any) -> Callable[[Parts], Any]:
    return set_in("outputs", index, key, to=to)


def vector(source: Parts) -> None:
    """The scores as one line."""
    source[0]["nodes"].append({"op": "flatten", "name": "line", "inputs": [source[0]["outputs"][0]["node"]]})
    source[0]["outputs"][0]["node"] = "line"


def second_image(source: Parts) -> None:
    source[0]["inputs"].append({**source[0]["inputs"][0], "name": "more"})
    source[0]["nodes"].append({"op": "relu", "name": "also", "inputs": ["more"]})


def floats(source: Parts) -> None:
    source[0]["inputs"][0] = {"name": "input", "type": "floats", "shape": [3, 24, 32]}


SETTINGS = "graph.task.settings"
MUTATIONS: dict[str, tuple[Callable[[Parts], Any], str]] = {
    "no settings": (without("task", "settings"), "graph.task lacks settings"),
    "settings null": (set_in("task", "settings", to=None), f"{SETTINGS} must be an object"),
    "settings a list": (set_in("task", "settings", to=[]), f"{SETTINGS} must be an object"),
    "settings of labels": (of_one_label, "settings are for the answer 'boxes' alone"),
    "empty settings of labels": (other(of_one_label, set_in("task", "settings", to={})), "answer 'boxes' alone"),
    "unknown key": (setting("soft", to=True), f"{SETTINGS} has the unknown key 'soft'"),
    **{
        f"no {key}": (lacking(key), f"{SETTINGS} lacks {key}")
        for key in ("size", "weights", "score", "overlap", "most")
    },
    "size a number": (setting("size", to=24), "size must be a list of two integers"),
    "size of floats": (setting("size", to=[24.0, 32]), "size must be an integer from 1 to 32768"),
    "size of another image": (setting("size", to=[32, 24]), r"size is \(32, 24\), the network's input \(24, 32\)"),
    "anchors null": (setting("anchors", to=None), "anchors must be a list of 1 to 100 grids"),
    "no anchors in the list": (setting("anchors", to=[]), "anchors must be a list of 1 to 100 grids"),
    "101 grids": (
        lambda p: setting("anchors", to=p[0]["task"]["settings"]["anchors"] * 51)(p),
        "list of 1 to 100 grids",
    ),
    "fewer anchors than rows": (lambda p: p[0]["task"]["settings"]["anchors"].pop(), "anchors are 96, .* has 132 rows"),
    "more anchors than rows": (grid("map", [3, 5]), "anchors are 141, the output scores has 132 rows"),
    "grid a list": (setting("anchors", 0, to=[6, 8]), r"anchors\[0\] must be an object"),
    "grid without a map": (lacking("anchors", 1, "map"), r"anchors\[1\] lacks map"),
    "grid without a step": (lacking("anchors", 1, "step"), r"anchors\[1\] lacks step"),
    "grid without boxes": (lacking("anchors", 1, "boxes"), r"anchors\[1\] lacks boxes"),
    "grid with a scale": (grid("scale", 1), "unknown key 'scale'"),
    "map of 0": (grid("map", [0, 4]), "map must be an integer from 1 to 32768"),
    "map too large": (grid("map", [3, 2**15 + 1]), "map must be an integer from 1 to 32768"),
    "map of three": (grid("map", [3, 4, 3]), "map must be a list of two integers"),
    "step of one": (grid("step", [8]), "step must be a list of two numbers"),
    "step of 0": (grid("step", [8, 0]), "step must be a number above 0"),
    "step beyond float32": (grid("step", [8, 1e39]), "step must be a finite number"),
    "no boxes of a cell": (grid("boxes", []), "boxes must be a list of 1 to 1000 boxes"),
    "1001 boxes": (grid("boxes", [[1, 1]] * 1001), "boxes must be a list of 1 to 1000 boxes"),
    "a box of three": (grid("boxes", [[1, 1, 1]] * 3), r"boxes\[0\] must be a list of two numbers"),
    "a box of no width": (grid("boxes", [[9, 9], [0, 7], [7, 14]]), r"boxes\[1\] must be a number above 0"),
    "a negative box": (grid("boxes", [[9, 9], [14, -7], [7, 14]]), r"boxes\[1\] must be a number above 0"),
    "a box a text": (grid("boxes", [[9, 9], ["14", 7], [7, 14]]), r"boxes\[1\] must be a finite number"),
    "three weights": (setting("weights", to=[10, 10, 5]), "weights must be a list of 4 numbers"),
    "a weight of 0": (setting("weights", 2, to=0), "weights must be a number above 0"),
    "a weight true": (setting("weights", 2, to=True), "weights must be a finite number"),
    "score above 1": (setting("score", to=1.5), "score must be a number from 0 to 1"),
    "score below 0": (setting("score", to=-0.01), "score must be a number from 0 to 1"),
    "score a text": (setting("score", to="0.1"), "score must be a finite number"),
    "score null": (setting("score", to=None), "score must be a finite number"),
    "overlap above 1": (setting("overlap", to=45), "overlap must be a number from 0 to 1"),
    "overlap a list": (setting("overlap", to=[0.45]), "overlap must be a finite number"),
    "candidates of 0": (setting("candidates", to=0), "candidates must be an integer from 1 to 16777216"),
    "candidates null": (setting("candidates", to=None), "candidates must be an integer"),
    "candidates a float": (setting("candidates", to=400.0), "candidates must be an integer"),
    "smallest below 0": (setting("smallest", to=-1), "smallest must be a number from 0 on"),
    "smallest null": (setting("smallest", to=None), "smallest must be a finite number"),
    "most of 0": (setting("most", to=0), "most must be an integer from 1 to 16777216"),
    "most too large": (setting("most", to=2**24 + 1), "most must be an integer from 1 to 16777216"),
    "labels with the background": (
        set_in("task", "labels", to=list("abcd")),
        "4 labels for the 3 channels .* background",
    ),
    "a label too few": (set_in("task", "labels", to=list("ab")), "2 labels for the 3 channels"),
    "outputs in another order": (lambda p: p[0]["outputs"].reverse(), "the outputs scores, offsets, in this order"),
    "an output of another name": (output(1, "name", "boxes"), "got scores, boxes"),
    "a third output": (lambda p: p[0]["outputs"].append({"name": "x", "node": "relu1"}), "got scores, offsets, x"),
    "no offsets": (lambda p: p[0]["outputs"].pop(), "in this order, got scores"),
    "scores that are a map": (output(0, "node", "relu1"), r"scores must be \(rows, 1, 1 \+ labels\)"),
    "scores that are a vector": (vector, r"scores must be \(rows, 1, 1 \+ labels\)"),
    "offsets that are a map": (output(1, "node", "relu1"), "the output offsets must be"),
    "scores of the background alone": (
        lambda p: instead(detector(labels=0))(p),
        r"scores must be \(rows, 1, 1 \+ labels\)",
    ),
    "two images": (second_image, "is for networks of one image"),
    "floats": (floats, "is for networks of one image"),
    "proposals and anchors": (
        of_proposals(lambda p: setting("anchors", to=detector()[0]["task"]["settings"]["anchors"])(p)),
        "got scores, offsets, proposals",
    ),
    "anchors left out": (lacking("anchors"), "scores, offsets, proposals, in this order, got scores, offsets"),
    "proposals of other rows": (
        of_proposals(lambda p: p[1].update({k: a[1:] for k, a in p[1].items() if k.startswith("constant")})),
        "the output proposals must be",
    ),
    "proposals of five": (
        of_proposals(
            lambda p: p[1].update(
                {k: np.repeat(a, 2, -1)[..., :5] for k, a in p[1].items() if k.startswith("constant")}
            )
        ),
        "the output proposals must be",
    ),
}


@pytest.mark.parametrize("proposals", [False, True])
def test_the_unchanged_file_is_accepted(tmp_path: Path, proposals: bool) -> None:
    """And says the same again, however it is read."""
    source, tensors = detector(proposals=proposals)
    (tmp_path / "good").write_bytes(raw(source, tensors))
    graph, tensors = file_format.read(tmp_path / "good")
    assert file_format.decode(file_format.encode(graph, tensors))[0] == graph
    found = [load(tmp_path / "good", backend=backend) for backend in ("reference", "engine")[: 1 + native.available()]]
    for model in found:
        assert model.task == graph.task and model.task.settings == source["task"]["settings"]
        assert json.dumps(model.graph["task"]["settings"]) == json.dumps(dict(graph.task.settings))
        assert model.labels == ("a", "b", "c")


def test_what_may_be_absent(tmp_path: Path) -> None:
    for change in (
        lacking("candidates"),
        without("task", "labels"),
        setting("smallest", to=0),
        setting("score", to=0),
        setting("overlap", to=1),
        setting("most", to=2**24),
    ):
        source = parts()
        change(source)
        (tmp_path / "good").write_bytes(raw(*source))
        for backend in ("reference", "engine")[: 1 + native.available()]:
            load(tmp_path / "good", backend=backend)


@pytest.mark.parametrize("name", MUTATIONS)
def test_hostile_graphs(tmp_path: Path, name: str) -> None:
    refuse_changed(tmp_path, raw, parts(), MUTATIONS[name])


def test_version_1_has_no_boxes(tmp_path: Path) -> None:
    from test_runtime_hostile import parts as parts1
    from test_runtime_hostile import raw as raw1

    graph, tensors = parts1()
    graph["task"] = {"name": "detection", "answer": "boxes"}
    refuse(tmp_path, raw1(graph, tensors), "lacks settings")
    graph["task"]["settings"] = detector()[0]["task"]["settings"]
    refuse(tmp_path, raw1(graph, tensors), "unknown key 'settings'")
