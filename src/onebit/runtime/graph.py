"""The graph of a file: typed, checked field by field, with every default filled in.

A graph is in static single assignment form: a node's output is named by the node, the image is named "input", and a
node may refer only to nodes above it.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from onebit.errors import FormatError
from onebit.runtime.answers import ANSWERS

MAX_NODES = 10_000
MAX_LABELS = 100_000
MAX_SCORES = 100
MAX_TEXT = 1_000  # characters of a name or label
MAX_SIZE = 2**15  # any height, width, stride, kernel, padding, number of channels of the image
INPUT = "input"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./\-]{0,199}")

_HALF = re.compile("[\ud800-\udfff]")  # of a character: JSON can escape one alone, and then it cannot be printed

REQUIRED: Any = object()

_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxlong, _REPR.maxother = 3, 80, 80, 80


@dataclass(frozen=True)
class Attribute:
    """How one attribute is checked (`check(value, where)` returns the value to keep) and what it is when absent."""

    check: Callable[[Any, str], Any]
    default: Any = REQUIRED


@dataclass(frozen=True)
class Node:
    """One operator. `attributes` holds every attribute of the operator, defaults included."""

    op: str
    name: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.attributes[key]


@dataclass(frozen=True)
class TaskRecord:
    """What the network is for.

    name     of the task
    answer   what a person reads of its outputs, a row of `answers.ANSWERS`
    scores   in percent, by name, as far as they are known
    """

    name: str = "classification"
    answer: str = "one"
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """A checked graph. `input_shape` is (C, H, W); H and W may differ at run time where the operators allow it."""

    name: str
    method: str
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None
    labels: tuple[str, ...] | None
    recipe: str | None
    task: TaskRecord
    nodes: tuple[Node, ...]
    output: str


def integer(low: int, high: int) -> Callable[[Any, str], int]:
    def check(value: Any, where: str) -> int:
        if type(value) is not int or not low <= value <= high:
            raise FormatError(f"{where} must be an integer from {low} to {high}, got {show(value)}")
        return value

    return check


def pair(low: int, high: int) -> Callable[[Any, str], tuple[int, int]]:
    one = integer(low, high)

    def check(value: Any, where: str) -> tuple[int, int]:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise FormatError(f"{where} must be a list of two integers, got {show(value)}")
        return one(value[0], where), one(value[1], where)

    return check


def boolean(value: Any, where: str) -> bool:
    if type(value) is not bool:
        raise FormatError(f"{where} must be true or false, got {show(value)}")
    return value


def number(value: Any, where: str) -> float:
    """A finite number that is also finite as float32."""
    if type(value) not in (int, float) or not abs(value) <= 3.4e38:
        raise FormatError(f"{where} must be a finite number, got {show(value)}")
    return float(value)


def text(value: Any, where: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise FormatError(f"{where} must be a string of at most {MAX_TEXT} characters, got {show(value)}")
    if _HALF.search(value):
        raise FormatError(f"{where} is not valid Unicode: {show(value)}")
    return value


def fields(value: Any, where: str, required: set[str], optional: set[str] = frozenset()) -> dict[str, Any]:  # type: ignore[assignment]
    """The value as a dict that has all required keys and no unknown one."""
    if not isinstance(value, dict):
        raise FormatError(f"{where} must be an object, got {show(value)}")
    if missing := sorted(required - value.keys()):
        raise FormatError(f"{where} lacks {', '.join(missing)}")
    if unknown := sorted(map(str, value.keys() - required - optional)):
        raise FormatError(f"{where} has the unknown key {show(unknown[0])}; write the file with a matching onebit")
    return value


def parse(source: Any, operators: Mapping[str, Any]) -> Graph:
    """JSON object -> Graph. Raises FormatError at the first missing, unknown, mistyped or out-of-range field."""
    top = fields(
        source, "graph", {"name", "method", "input", "nodes", "output"}, {"labels", "recipe", "accuracy", "task"}
    )
    image = fields(top["input"], "graph.input", {"shape", "mean", "std"}, {"resize"})
    shape = image["shape"]
    if not isinstance(shape, list | tuple) or len(shape) != 3:
        raise FormatError(f"graph.input.shape must be [channels, height, width], got {show(shape)}")
    channels, height, width = (integer(1, MAX_SIZE)(size, "graph.input.shape") for size in shape)
    std = _numbers(image["std"], channels, "graph.input.std")
    if any(math.fabs(value) < 1e-12 for value in std):
        raise FormatError(f"graph.input.std must not contain 0, got {list(std)}")
    nodes = _nodes(top["nodes"], operators)
    output = text(top["output"], "graph.output")
    if output not in {node.name for node in nodes}:
        raise FormatError(f"graph.output names the unknown node {show(output)}")
    return Graph(
        name=text(top["name"], "graph.name"),
        method=text(top["method"], "graph.method"),
        input_shape=(channels, height, width),
        mean=_numbers(image["mean"], channels, "graph.input.mean"),
        std=std,
        resize=_optional(image.get("resize"), integer(1, MAX_SIZE), "graph.input.resize"),
        labels=_labels(top.get("labels")),
        recipe=_optional(top.get("recipe"), text, "graph.recipe"),
        task=_task(top),
        nodes=nodes,
        output=output,
    )


def to_dict(graph: Graph, operators: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `parse`, in one canonical key order and without attributes that have their default value."""
    task, classifies = graph.task, graph.task.name == TaskRecord.name
    others = {} if classifies else {"task": {"name": task.name, "answer": task.answer, "scores": dict(task.scores)}}
    image: dict[str, Any] = {"shape": list(graph.input_shape), "mean": list(graph.mean), "std": list(graph.std)}
    if graph.resize is not None:
        image["resize"] = graph.resize
    nodes = []
    for node in graph.nodes:
        entry: dict[str, Any] = {"op": node.op, "name": node.name, "inputs": list(node.inputs)}
        for key, attribute in operators[node.op].attributes.items():
            value = node[key]
            if attribute.default is REQUIRED or value != attribute.default:
                entry[key] = list(value) if isinstance(value, tuple) else value
        nodes.append(entry)
    return {
        "name": graph.name,
        "method": graph.method,
        "input": image,
        "labels": None if graph.labels is None else list(graph.labels),
        "recipe": graph.recipe,
        "accuracy": task.scores.get("accuracy") if classifies else None,
        **others,
        "nodes": nodes,
        "output": graph.output,
    }


def _nodes(source: Any, operators: Mapping[str, Any]) -> tuple[Node, ...]:
    if not isinstance(source, list) or not 1 <= len(source) <= MAX_NODES:
        raise FormatError(f"graph.nodes must be a list of 1 to {MAX_NODES} nodes")
    nodes: list[Node] = []
    known = {INPUT}
    for index, entry in enumerate(source):
        node = _node(entry, f"graph.nodes[{index}]", operators)
        if node.name in known:
            raise FormatError(f"two nodes are named {show(node.name)}; names must be unique")
        for name in node.inputs:
            if name not in known:
                raise FormatError(f"node {show(node.name)} refers to {show(name)}, which is cyclic or unknown")
        known.add(node.name)
        nodes.append(node)
    return tuple(nodes)


def _node(source: Any, where: str, operators: Mapping[str, Any]) -> Node:
    if not isinstance(source, dict) or not isinstance(source.get("op"), str):
        raise FormatError(f'{where} must be an object with a string "op", got {show(source)}')
    op = source["op"]
    if op not in operators:
        raise FormatError(f"{where} has the unknown operator {show(op)}; known: {', '.join(operators)}")
    operator = operators[op]
    required = {key for key, attribute in operator.attributes.items() if attribute.default is REQUIRED}
    entry = fields(source, where, {"op", "name", "inputs", *required}, set(operator.attributes))
    name = entry["name"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise FormatError(f"{where}.name must be 1 to 200 letters, digits or _ . / -, got {show(name)}")
    where = f"node {name!r}"
    inputs = entry["inputs"]
    if not isinstance(inputs, list | tuple) or len(inputs) != operator.inputs:
        raise FormatError(f"{where} ({op}) takes {operator.inputs} input(s), got {show(inputs)}")
    attributes = {
        key: attribute.check(entry[key], f"{where}: {key}") if key in entry else attribute.default
        for key, attribute in operator.attributes.items()
    }
    return Node(op, name, tuple(text(value, f"{where}: inputs") for value in inputs), attributes)


def _numbers(value: Any, length: int, where: str) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or len(value) != length:
        raise FormatError(f"{where} must be a list of {length} numbers, one per channel, got {show(value)}")
    return tuple(number(item, where) for item in value)


def _task(top: Mapping[str, Any]) -> TaskRecord:
    """A file without a task holds a classifier, whose only score is its accuracy."""
    accuracy = _optional(top.get("accuracy"), number, "graph.accuracy")
    if "task" not in top:
        return TaskRecord(scores={} if accuracy is None else {"accuracy": accuracy})
    entry = fields(top["task"], "graph.task", {"name", "answer"}, {"scores"})
    name, answer = text(entry["name"], "graph.task.name"), text(entry["answer"], "graph.task.answer")
    if name == TaskRecord.name or accuracy is not None:
        raise FormatError(
            f"graph.task is for other tasks than {TaskRecord.name}, whose score is graph.accuracy; leave one out"
        )
    if answer not in ANSWERS:
        raise FormatError(f"graph.task.answer {show(answer)} is unknown; known: {', '.join(ANSWERS)}")
    scores = entry.get("scores", {})
    if not isinstance(scores, dict) or len(scores) > MAX_SCORES:
        raise FormatError(f"graph.task.scores must be an object of at most {MAX_SCORES} numbers, got {show(scores)}")
    checked = {text(key, "graph.task.scores"): number(value, "graph.task.scores") for key, value in scores.items()}
    return TaskRecord(name, answer, checked)


def _labels(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) > MAX_LABELS:
        raise FormatError(f"graph.labels must be null or a list of at most {MAX_LABELS} strings")
    return tuple(text(item, "graph.labels") for item in value)


def _optional(value: Any, check: Callable[[Any, str], Any], where: str) -> Any:
    return None if value is None else check(value, where)


def show(value: Any) -> str:
    """A short repr for messages: a hostile value must not flood the terminal, nor cost much to show."""
    shown = _REPR.repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
