"""Files that must be refused for what is wrong with an elementwise operator, a product or a normalisation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nets import Builder
from onebit.runtime import load, native
from test_runtime_hostile import Parts, accept, node, poke, refuse, refuse_changed, tensor
from test_runtime_hostile_several import raw

WITHOUT = ("hardsigmoid", "hardswish", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh", "softmax")  # attributes


def parts() -> Parts:
    """A valid network: clip 0 -> elu 1 -> layer_norm 2 -> group_norm 3 of a map (5, 4, 6), its mean 4, the product 5 of both; then
    the operators of WITHOUT, one behind the other, from 6 on."""
    net = Builder(0, (6, 5, 4))
    net.nodes = [
        {"op": "clip", "name": "c", "inputs": ["input"], "low": -1.5, "high": 6},
        {"op": "elu", "name": "e", "inputs": ["c"], "alpha": 0.5},
        {"op": "layer_norm", "name": "n", "inputs": ["e"], "eps": 1e-5},
        {"op": "group_norm", "name": "g", "inputs": ["n"], "eps": 1, "groups": 3},
        {"op": "global_avg_pool", "name": "p", "inputs": ["g"]},
        {"op": "multiply", "name": "m", "inputs": ["g", "p"]},
    ]
    for op in WITHOUT:
        net.nodes.append({"op": op, "name": op, "inputs": [net.nodes[-1]["name"]]})
    net.tensors = {"n.channels": net.floats(2, 6), "g.channels": net.floats(2, 6)}
    return net.graph("softmax", vector="p"), net.tensors


def without(index: int, key: str) -> Callable[[Parts], Any]:
    return lambda source: source[0]["nodes"][index].pop(key)


def image(shape: list[int]) -> Callable[[Parts], Any]:
    def change(source: Parts) -> None:
        ones = [1.0] * shape[0]
        source[0]["inputs"][0].update(shape=shape, mean=ones, std=ones)

    return change


def second(*shape: int) -> Callable[[Parts], Any]:
    """Another value as the second that is multiplied: an input of floats."""

    def change(source: Parts) -> None:
        source[0]["inputs"].append({"name": "z", "type": "floats", "shape": list(shape)})
        source[0]["nodes"][5]["inputs"] = ["g", "z"]

    return change


MUTATIONS: dict[str, tuple[Callable[[Parts], Any], str]] = {
    "clip without low": (without(0, "low"), "lacks low"),
    "clip without high": (without(0, "high"), "lacks high"),
    "low a string": (node(0, "low", "-1"), "low must be a finite number"),
    "low null": (node(0, "low", None), "low must be a finite number"),
    "low beyond float32": (node(0, "low", -3.5e38), "low must be a finite number"),
    "high a pair": (node(0, "high", [6, 6]), "high must be a finite number"),
    "high true": (node(0, "high", True), "high must be a finite number"),
    "low above high": (node(0, "low", 6.5), "needs low <= high"),
    "clip with alpha": (node(0, "alpha", 1), "unknown key 'alpha'"),
    "clip of two": (node(0, "inputs", ["input", "input"]), r"takes 1 input\(s\)"),
    "clip with a tensor": (
        lambda p: p[1].update({"c.channels": np.zeros((2, 6), np.float32)}),
        "'c.channels' belongs to no node",
    ),
    "alpha zero": (node(1, "alpha", 0), "alpha must be a number above 0"),
    "alpha minus zero": (node(1, "alpha", -0.0), "alpha must be a number above 0"),
    "alpha negative": (node(1, "alpha", -0.5), "alpha must be a number above 0"),
    "alpha a string": (node(1, "alpha", "0.5"), "alpha must be a finite number"),
    "alpha beyond float32": (node(1, "alpha", 1e39), "alpha must be a finite number"),
    "elu with low": (node(1, "low", 0), "unknown key 'low'"),
    "layer_norm without eps": (without(2, "eps"), "lacks eps"),
    "eps zero": (node(2, "eps", 0), "eps must be a number above 0"),
    "eps negative": (node(2, "eps", -1e-5), "eps must be a number above 0"),
    "eps null": (node(2, "eps", None), "eps must be a finite number"),
    "layer_norm with groups": (node(2, "groups", 3), "unknown key 'groups'"),
    "layer_norm of two": (node(2, "inputs", ["e", "e"]), r"takes 1 input\(s\)"),
    "layer_norm without parameters": (lambda p: p[1].pop("n.channels"), "n.channels is missing"),
    "parameters of other channels": (tensor("n.channels", lambda a: a[:, :5]), r"shape \(2, 6\)"),
    "three rows of parameters": (tensor("n.channels", lambda a: a[[0, 1, 1]]), r"shape \(2, 6\)"),
    "parameters of one row": (tensor("n.channels", lambda a: a[0]), r"shape \(2, 6\)"),
    "parameters in 8 bits": (tensor("n.channels", lambda a: a.astype(np.int8)), "must be F32, got I8"),
    "a scale that is NaN": (poke("n.channels", np.nan), "n.channels contains NaN"),
    "another number of channels": (image([9, 5, 4]), r"shape \(2, 9\)"),
    "group_norm without eps": (without(3, "eps"), "lacks eps"),
    "group_norm without groups": (without(3, "groups"), "lacks groups"),
    "groups zero": (node(3, "groups", 0), "groups must be an integer from 1 to 32768"),
    "groups a float": (node(3, "groups", 3.0), "groups must be an integer"),
    "groups that do not divide": (node(3, "groups", 4), "groups 4 must divide 6 channels"),
    "more groups than channels": (node(3, "groups", 12), "groups 12 must divide 6 channels"),
    "eps of group_norm zero": (node(3, "eps", 0), "eps must be a number above 0"),
    "group_norm of a vector": (
        lambda p: p[0]["nodes"][6].update(op="group_norm", inputs=["p"], eps=1, groups=1),
        "map",
    ),
    "group_norm without parameters": (lambda p: p[1].pop("g.channels"), "g.channels is missing"),
    "a bias that is infinite": (poke("g.channels", np.inf), "g.channels contains NaN or infinity"),
    "product of one": (node(5, "inputs", ["g"]), r"takes 2 input\(s\)"),
    "product of three": (node(5, "inputs", ["g", "p", "p"]), r"takes 2 input\(s\)"),
    "product with an attribute": (node(5, "axis", 1), "unknown key 'axis'"),
    "a vector by a map": (node(5, "inputs", ["p", "g"]), "needs a second input whose sizes are the first's or 1"),
    "a vector by a map of a pixel": (
        lambda p: (second(6, 1, 1)(p), node(5, "inputs", ["p", "z"])(p)),
        r"the first's or 1, got \(6(,)?\) and \(1, 1, 6\)",
    ),
    "a vector of other channels": (second(5), r"the first's or 1, got \(5, 4, 6\) and \(5(,)?\)"),
    "a map of other channels": (second(3, 5, 4), "the first's or 1"),
    "a map of another height": (second(6, 2, 4), "the first's or 1"),
    "a map of another width": (second(6, 5, 2), "the first's or 1"),
    **{
        f"l2_norm {what}": (lambda p, change=change: (p[0]["nodes"][2].update(op="l2_norm"), change(p)), message)
        for what, change, message in (
            ("with eps", tensor("n.channels", lambda a: a[:1]), "unknown key 'eps'"),
            ("of two rows", without(2, "eps"), r"n.channels must have shape \(1, 6\)"),
            (
                "without parameters",
                lambda p: (without(2, "eps")(p), p[1].pop("n.channels")),
                "n.channels is missing",
            ),
            (
                "of other channels",
                lambda p: (without(2, "eps")(p), tensor("n.channels", lambda a: a[:1, :5])(p)),
                r"shape \(1, 6\)",
            ),
            (
                "with a scale that is NaN",
                lambda p: (without(2, "eps")(p), tensor("n.channels", lambda a: a[:1] * np.nan)(p)),
                "contains NaN",
            ),
        )
    },
    **{f"{op} with an attribute": (node(6 + i, "alpha", 1.0), "unknown key 'alpha'") for i, op in enumerate(WITHOUT)},
    **{f"{op} of two": (node(6 + i, "inputs", ["g", "g"]), r"takes 1 input\(s\)") for i, op in enumerate(WITHOUT)},
}


def test_the_unchanged_file_is_accepted(tmp_path: Path) -> None:
    accept(tmp_path, raw(*parts()))


@pytest.mark.parametrize(
    "change", [second(6), second(1), second(1, 1, 1), second(6, 5, 1), second(1, 1, 4), without(1, "alpha")]
)
def test_what_is_allowed(tmp_path: Path, change: Callable[[Parts], Any]) -> None:
    source = parts()
    change(source)
    (tmp_path / "good").write_bytes(raw(*source))
    for backend in ("reference", "engine") if native.available() else ("reference",):
        load(tmp_path / "good", backend=backend)


@pytest.mark.parametrize("name", MUTATIONS)
def test_hostile_graphs(tmp_path: Path, name: str) -> None:
    refuse_changed(tmp_path, raw, parts(), MUTATIONS[name])


def test_an_eps_that_is_0_in_float64(tmp_path: Path) -> None:
    graph, tensors = parts()
    text = json.dumps(graph).replace("1e-05", "1e-400")
    assert "1e-400" in text
    refuse(tmp_path, raw(text, tensors), "eps must be a number above 0")
