"""Files of version 2 that must be refused: what is new in its inputs, outputs, task and embedding."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from nets import Builder
from onebit.runtime import format as file_format
from test_runtime_hostile import Parts, node, poke, refuse, refuse_changed, set_in, tensor

IDS = {"name": "ids", "type": "tokens", "length": 6, "count": 9}
SENSORS = {"name": "sensors", "type": "floats", "shape": [5]}


def parts() -> Parts:
    """A valid network of three inputs and two outputs: conv "c" -> relu "r" and global_avg_pool "p" of an image, embedding "e"
    (8 bits) -> global_avg_pool "m" of tokens, linear "l" of floats, "p" + "m" -> add "a", "a" + "l" -> add "s"."""
    net = Builder(0, (3, 8, 8))
    net.nodes = [
        {"op": "conv", "name": "c", "inputs": ["input"], "padding": [1, 1]},
        {"op": "relu", "name": "r", "inputs": ["c"]},
        {"op": "global_avg_pool", "name": "p", "inputs": ["r"]},
        {"op": "embedding", "name": "e", "inputs": ["ids"]},
        {"op": "global_avg_pool", "name": "m", "inputs": ["e"]},
        {"op": "linear", "name": "l", "inputs": ["sensors"]},
        {"op": "add", "name": "a", "inputs": ["p", "m"]},
        {"op": "add", "name": "s", "inputs": ["a", "l"]},
    ]
    net.tensors = {
        "c.weight": net.floats(4, 3, 3, 3),
        "e.weight": net.random.integers(-128, 128, (9, 4)).astype(np.int8),
        "e.weight_scale": net.floats(9),
        "l.weight": net.floats(4, 5),
    }
    graph = net.graph("s", dict(IDS), dict(SENSORS), map="r")
    graph["task"] |= {"labels": list("abcd"), "scores": {"accuracy": 90.5}}
    graph["training"] = {"data": "cifar10", "epochs_done": 40, "lr": 0.1}
    return graph, net.tensors


def raw(graph: Any, tensors: dict[str, np.ndarray]) -> bytes:
    text = graph if isinstance(graph, str) else json.dumps(graph)
    return safetensors.numpy.save(tensors, {"format": "onebit", "version": "2", "graph": text})


def test_the_unchanged_file_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "good.onebit").write_bytes(raw(*parts()))
    graph, tensors = file_format.read(tmp_path / "good.onebit")
    assert [source.name for source in graph.inputs] == ["input", "ids", "sensors"]
    assert file_format.decode(file_format.encode(graph, tensors))[0] == graph


def test_what_may_be_absent_or_null(tmp_path: Path) -> None:
    graph, tensors = parts()
    for change in (
        lambda g: (g["task"].pop("labels"), g["task"].pop("scores"), g.pop("recipe", None), g.pop("training")),
        lambda g: (g["task"].update(labels=None, scores={}), g.update(recipe=None), g["inputs"][0].update(resize=None)),
        lambda g: [entry.update(fixed=True) for entry in g["inputs"]],
        lambda g: [entry.update(fixed=False) for entry in g["inputs"]],
        lambda g: g.update(nodes=[n | {"stride": [1, 1]} if n["op"] == "conv" else n for n in g["nodes"]]),
    ):
        other = json.loads(json.dumps(graph))
        change(other)
        (tmp_path / "net").write_bytes(raw(other, tensors))
        file_format.read(tmp_path / "net")


def entry(kind: str, index: int, key: str, to: Any) -> Callable[[Parts], Any]:
    return set_in(kind, index, key, to=to)


def without(*path: Any) -> Callable[[Parts], Any]:
    def change(source: Parts) -> None:
        at: Any = source[0]
        for key in path[:-1]:
            at = at[key]
        del at[path[-1]]

    return change


def more(kind: str, *values: Any) -> Callable[[Parts], Any]:
    return lambda source: source[0][kind].extend(values)


def concat(*inputs: str) -> dict[str, Any]:
    return {"op": "concat", "name": "a", "inputs": list(inputs)}


MUTATIONS: dict[str, tuple[Callable[[Parts], Any], str]] = {
    # of the graph
    "no inputs key": (without("inputs"), "graph lacks inputs"),
    "input of version 1": (set_in("input", to={}), "unknown key 'input'"),
    "output of version 1": (set_in("output", to="s"), "unknown key 'output'"),
    "labels of version 1": (set_in("labels", to=None), "unknown key 'labels'"),
    "recipe a number": (set_in("recipe", to=1), "graph.recipe must be a string"),
    # of inputs
    "no inputs": (set_in("inputs", to=[]), "list of 1 to 16 inputs"),
    "inputs an object": (set_in("inputs", to={"image": {}}), "list of 1 to 16 inputs"),
    "17 inputs": (more("inputs", *({**SENSORS, "name": f"x{i}"} for i in range(14))), "list of 1 to 16 inputs"),
    "input a string": (set_in("inputs", 1, to="ids"), r'graph.inputs\[1\] must be an object with a string "type"'),
    "input without a type": (without("inputs", 1, "type"), 'a string "type"'),
    "input of an unknown type": (entry("inputs", 1, "type", "sound"), "unknown type 'sound'"),
    "fixed a number": (entry("inputs", 0, "fixed", 1), "fixed must be"),
    "fixed null": (entry("inputs", 1, "fixed", None), "fixed must be"),
    "fixed a text": (entry("inputs", 2, "fixed", "true"), "fixed must be"),
    "input without a name": (without("inputs", 1, "name"), r"graph.inputs\[1\].name must be"),
    "input with a bad name": (entry("inputs", 1, "name", "i ds"), "letters, digits"),
    "input with an empty name": (entry("inputs", 1, "name", ""), "letters, digits"),
    "input with a long name": (entry("inputs", 1, "name", "i" * 201), "letters, digits"),
    "input with other letters": (entry("inputs", 1, "name", "îds"), "letters, digits"),
    "input named as a node": (entry("inputs", 2, "name", "c"), "node and an input"),
    "inputs of one name": (entry("inputs", 2, "name", "ids"), "two inputs are named 'ids'"),
    "input that nobody reads": (more("inputs", {**SENSORS, "name": "idle"}), "no node reads the input 'idle'"),
    "unknown key of an input": (entry("inputs", 2, "mean", [0.0] * 5), "unknown key 'mean'"),
    "resize of tokens": (entry("inputs", 1, "resize", 8), "unknown key 'resize'"),
    "image without mean": (without("inputs", 0, "mean"), "lacks mean"),
    "image with a resize of 0": (entry("inputs", 0, "resize", 0), "resize must be an integer from 1"),
    "image with a resize of true": (entry("inputs", 0, "resize", True), "resize must be an integer"),
    "image shape of one": (entry("inputs", 0, "shape", [3]), "channels, height, width"),
    "mean a number": (entry("inputs", 0, "mean", 0.5), "list of 3 numbers"),
    "mean beyond float32": (entry("inputs", 0, "mean", [0, 3.5e38, 0]), "mean must be a finite number"),
    "std below 1e-12": (entry("inputs", 0, "std", [1, 1e-13, 1]), "must not contain 0"),
    "length zero": (entry("inputs", 1, "length", 0), "length must be an integer from 1 to 32768"),
    "length too large": (entry("inputs", 1, "length", 2**15 + 1), "length must be an integer from 1 to 32768"),
    "length a float": (entry("inputs", 1, "length", 6.0), "length must be an integer"),
    "count zero": (entry("inputs", 1, "count", 0), "count must be an integer from 1 to 16777216"),
    "count too large": (entry("inputs", 1, "count", 2**24 + 1), "count must be an integer from 1 to 16777216"),
    "count missing": (without("inputs", 1, "count"), "lacks count"),
    "floats of two sizes": (entry("inputs", 2, "shape", [5, 1]), "channels, height, width"),
    "floats of no size": (entry("inputs", 2, "shape", []), "channels, height, width"),
    "floats of zero": (entry("inputs", 2, "shape", [0]), "shape must be an integer from 1"),
    "floats a number": (entry("inputs", 2, "shape", 5), "channels, height, width"),
    "floats as a map": (entry("inputs", 2, "shape", [5, 1, 1]), "needs a vector"),
    "floats of another size": (entry("inputs", 2, "shape", [6]), r"shape \(any, 6\)"),
    "a vector beyond its limit": (entry("inputs", 2, "shape", [2**24 + 1]), "shape must be an integer from 1"),
    # of outputs
    "no outputs": (set_in("outputs", to=[]), "list of 1 to 64 outputs"),
    "outputs a string": (set_in("outputs", to="s"), "list of 1 to 64 outputs"),
    "65 outputs": (more("outputs", *({"name": f"x{i}", "node": "s"} for i in range(63))), "list of 1 to 64 outputs"),
    "output a string": (set_in("outputs", 0, to="s"), r"graph.outputs\[0\] must be an object"),
    "output without a node": (without("outputs", 0, "node"), "lacks node"),
    "output with a type": (entry("outputs", 0, "type", "floats"), "unknown key 'type'"),
    "output of an unknown node": (entry("outputs", 0, "node", "zzz"), "unknown node 'zzz'"),
    "output of an input": (entry("outputs", 1, "node", "sensors"), "unknown node 'sensors'"),
    "output of a number": (entry("outputs", 0, "node", 7), "node must be a string"),
    "output with a bad name": (entry("outputs", 0, "name", "-s"), "letters, digits"),
    "outputs of one name": (entry("outputs", 1, "name", "output"), "two outputs are named 'output'"),
    # of the task
    "no task": (without("task"), "graph lacks task"),
    "task null": (set_in("task", to=None), "graph.task must be an object"),
    "task without an answer": (without("task", "answer"), "graph.task lacks answer"),
    "task with an accuracy": (set_in("task", "accuracy", to=1), "unknown key 'accuracy'"),
    "answer unknown": (set_in("task", "answer", to="all"), "answer 'all' is unknown"),
    "answer a list": (set_in("task", "answer", to=["one"]), "answer must be a string"),
    "labels of the second output": (set_in("task", "labels", to=["a"] * 5), "5 labels for the 4 channels"),
    "labels an object": (set_in("task", "labels", to={}), "graph.task.labels must be null or a list"),
    "labels of half a character": (set_in("task", "labels", 0, to="\ud800"), "not valid Unicode"),
    "scores a list": (set_in("task", "scores", to=[90]), "graph.task.scores must be an object"),
    "scores null": (set_in("task", "scores", to=None), "graph.task.scores must be an object"),
    "score a string": (set_in("task", "scores", "accuracy", to="90"), "graph.task.scores must be a finite number"),
    "101 scores": (set_in("task", "scores", to={str(i): i for i in range(101)}), "at most 100 numbers"),
    # of the training
    "training null": (set_in("training", to=None), "graph.training must be an object"),
    "training a list": (set_in("training", to=["seed"]), "graph.training must be an object"),
    "training with a list": (set_in("training", "seed", to=[0]), "graph.training must be a finite number"),
    "training with true": (set_in("training", "seed", to=True), "graph.training must be a finite number"),
    "training too large": (set_in("training", "seed", to=1e39), "graph.training must be a finite number"),
    "training too long": (set_in("training", "data", to="x" * 1001), "at most 1000 characters"),
    "training of half a character": (set_in("training", "data", to="\ud800"), "not valid Unicode"),
    "101 entries of training": (
        set_in("training", to={str(i): i for i in range(101)}),
        "at most 100 numbers and strings",
    ),
    # of embedding
    "embedding of an image": (node(3, "inputs", ["input"]), "reads an input of tokens, not 'input'"),
    "embedding of a node": (node(3, "inputs", ["c"]), "reads an input of tokens, not 'c'"),
    "tokens into a pool": (node(4, "inputs", ["ids"]), "reads the tokens 'ids'"),
    "tokens into a sum": (node(6, "inputs", ["p", "ids"]), "reads the tokens 'ids'"),
    "embedding with an attribute": (node(3, "count", 9), "unknown key 'count'"),
    "embedding of two": (node(3, "inputs", ["ids", "ids"]), r"takes 1 input\(s\)"),
    "rows of another count": (entry("inputs", 1, "count", 8), r"shape \(8, any\)"),
    "embedding of bits": (tensor("e.weight", lambda a: a.astype(np.uint8)), "must be F32, got U8"),
    "embedding of three axes": (tensor("e.weight", lambda a: a[:, :, None]), r"shape \(9, any\)"),
    "embedding of no channels": (tensor("e.weight", lambda a: a[:, :0]), "impossible shape"),
    "embedding without scales": (lambda p: p[1].pop("e.weight_scale"), "e.weight_scale is missing"),
    "scales of other rows": (tensor("e.weight_scale", lambda a: a[:-1]), r"shape \(9\)"),
    "scales of float rows": (tensor("e.weight", lambda a: a.astype(np.float32)), "'e.weight_scale' belongs to no node"),
    "embedding with a bias": (
        lambda p: p[1].update({"e.bias": np.zeros(4, np.float32)}),
        "'e.bias' belongs to no node",
    ),
    "a row that is NaN": (poke("e.weight_scale", np.nan), "contains NaN"),
    "scale beyond 1e30": (poke("e.weight_scale", 1e31), "scales above"),
    # of concat
    "a map and a vector": (set_in("nodes", 6, to=concat("r", "m")), "two maps of one height and width, or two vectors"),
    "maps of two sizes": (set_in("nodes", 6, to=concat("c", "e")), "two maps of one height and width, or two vectors"),
    "a map and tokens": (set_in("nodes", 6, to=concat("r", "ids")), "reads the tokens 'ids'"),
    "concat of one": (set_in("nodes", 6, to=concat("p")), r"takes 2 input\(s\)"),
    "concat of three": (set_in("nodes", 6, to=concat("p", "m", "p")), r"takes 2 input\(s\)"),
    "concat with an axis": (
        set_in("nodes", 6, to=concat("p", "m") | {"axis": 1}),
        "axis must be one of channels, height, width",
    ),
    "channels of both into a sum": (set_in("nodes", 6, to=concat("p", "m")), "two equal shapes"),
    "concat with a tensor": (
        lambda p: p[1].update({"a.channels": np.zeros(8, np.float32)}),
        "'a.channels' belongs to no",
    ),
    "tensor of an input": (
        lambda p: p[1].update({"ids.weight": np.zeros(4, np.float32)}),
        "'ids.weight' belongs to no",
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_hostile_graphs(tmp_path: Path, name: str) -> None:
    refuse_changed(tmp_path, raw, parts(), MUTATIONS[name])


def test_sizes_that_no_activation_has(tmp_path: Path) -> None:
    """Of an input, and of what an embedding or concat makes of one."""
    graph, tensors = parts()
    graph["inputs"][0]["shape"] = [3, 2**15, 2**14]
    refuse(tmp_path, raw(graph, tensors), "has more than 268435456 values")
    net, x = Builder(0, (1, 2**15, 2**10)), "input"
    for _ in range(4):  # of 2^25 values; the fourth has twice as many as there may be
        x = net.node("concat", [x, x])
    refuse(tmp_path, raw(net.graph(x), {}), "the image is too small or big")
    graph, tensors = parts()
    graph["inputs"][1]["length"] = 2**15
    tensors["e.weight"], tensors["e.weight_scale"] = np.zeros((9, 2**14), np.int8), np.zeros(9, np.float32)
    refuse(tmp_path, raw(graph, tensors), "the image is too small or big")
