"""The graph of a file: typed, checked field by field, with every default filled in.

A graph is in static single assignment form: a node's output is named by the node, an input's value by the input, and a
node may refer only to inputs and to nodes above it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from onebit.errors import FormatError
from onebit.runtime import inputs as kinds
from onebit.runtime.answers import ANSWERS
from onebit.runtime.fields import MAX_LABELS, fields, name, number, optional, show, text
from onebit.runtime.inputs import PIECES, Image, Input, Tokens

MAX_NODES = 10_000
MAX_INPUTS = 16
MAX_OUTPUTS = 64
MAX_SCORES = 100
MAX_TRAINING = 100  # entries
INPUT, OUTPUT = "input", "output"  # names where there is one image and one output, as in all files of version 1

REQUIRED: Any = object()


@dataclass(frozen=True)
class Attribute:
    """How one attribute is checked (`check(value, where)` returns the value to keep) and what it is when absent."""

    check: Callable[[Any, str], Any]
    default: Any = REQUIRED


class Signature(Protocol):
    """What the graph's checks need of an operator: how many inputs it has and may have more, which are tokens, and its attributes."""

    @property
    def inputs(self) -> int: ...

    @property
    def more(self) -> int: ...

    @property
    def tokens(self) -> tuple[int, ...]: ...

    @property
    def attributes(self) -> Mapping[str, Attribute]: ...


@dataclass(frozen=True)
class Node:
    """One operator. `attributes` holds every attribute of the operator, defaults included."""

    op: str
    name: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.attributes[key]


class Output(NamedTuple):
    """A value that a call of the network returns under `name`: that of a node."""

    name: str
    node: str


@dataclass(frozen=True)
class TaskRecord:
    """What the network is for.

    name      of the task
    answer    what a person reads of the outputs, a row of `answers.ANSWERS`
    labels    a name for each channel of the first output, but for a detector's background
    scores    in percent, by name, as far as they are known
    settings  how the answer is made, where it needs them: of a detector's boxes
    """

    name: str = "classification"
    answer: str = "one"
    labels: tuple[str, ...] | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a caller needs to know of a network: all but its nodes.

    training   how the weights came to be, by name, a number or a text each: data, epochs, seed, keys of the recipe
    """

    name: str
    method: str
    recipe: str | None
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    task: TaskRecord
    training: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def image(self) -> Image | None:
        """The input of a network of one image, whatever its outputs."""
        first = self.inputs[0]
        return first if len(self.inputs) == 1 and isinstance(first, Image) else None

    @property
    def pieces(self) -> Tokens | None:
        """The input of word pieces of a network that takes a text, and nothing else."""
        held = {source.holds: source for source in self.inputs if isinstance(source, Tokens) and source.holds}
        return held.get(PIECES) if len(held) == len(self.inputs) else None

    def needs(self) -> str:
        """The inputs in words, for messages."""
        return f"{self.name} takes " + ", ".join(f"{source.name} ({source.words()})" for source in self.inputs)

    def takes(self) -> str:
        """The same, and how to give them."""
        given = ", ".join(f"{source.name}=..." for source in self.inputs)
        return f"{self.needs()}; call it from Python: onebit.runtime.load(FILE)({given})"


@dataclass(frozen=True, kw_only=True)
class Graph(Description):
    """A checked graph."""

    nodes: tuple[Node, ...]


def parse(source: Any, operators: Mapping[str, Signature]) -> Graph:
    """JSON object of version 2 -> Graph. Raises FormatError at the first missing, unknown, mistyped or out-of-range field."""
    top = fields(source, "graph", {"name", "method", "inputs", "nodes", "outputs", "task"}, {"recipe", "training"})
    inputs = tuple(kinds.parse(entry, f"graph.inputs[{i}]") for i, entry in enumerate(_list(top, "inputs", MAX_INPUTS)))
    check_texts(inputs)
    nodes = _nodes(_list(top, "nodes", MAX_NODES), inputs, operators)
    read = {source for node in nodes for source in node.inputs}
    if unread := [entry.name for entry in inputs if entry.name not in read]:
        raise FormatError(f"no node reads the input {show(unread[0])}; leave it out")
    return Graph(
        name=text(top["name"], "graph.name"),
        method=text(top["method"], "graph.method"),
        recipe=optional(top.get("recipe"), text, "graph.recipe"),
        inputs=inputs,
        nodes=nodes,
        outputs=_outputs(_list(top, "outputs", MAX_OUTPUTS), {node.name for node in nodes}),
        task=_task(top["task"]),
        training=_training(top.get("training", {})),
    )


def to_dict(graph: Graph, operators: Mapping[str, Signature]) -> dict[str, Any]:
    """Inverse of `parse`, in one canonical key order and without what has its default value."""
    task = graph.task
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
        **({} if graph.recipe is None else {"recipe": graph.recipe}),
        "inputs": [entry.to_dict() for entry in graph.inputs],
        "nodes": nodes,
        "outputs": [output._asdict() for output in graph.outputs],
        "task": {
            "name": task.name,
            "answer": task.answer,
            **({} if task.labels is None else {"labels": list(task.labels)}),
            **({"scores": dict(task.scores)} if task.scores else {}),
            **({"settings": dict(task.settings)} if task.settings else {}),
        },
        **({"training": dict(graph.training)} if graph.training else {}),
    }


def _list(top: Mapping[str, Any], key: str, most: int) -> list[Any]:
    found = top[key]
    if not isinstance(found, list | tuple) or not 1 <= len(found) <= most:
        raise FormatError(f"graph.{key} must be a list of 1 to {most} {key}, got {show(found)}")
    return list(found)


def check_texts(inputs: tuple[Input, ...]) -> None:
    """That of what texts give each is there at most once, beside the pieces, and all of one length. Raises FormatError."""
    of_texts = [source for source in inputs if isinstance(source, Tokens) and source.holds]
    held = [source.holds for source in of_texts]
    if twice := [what for what in held if held.count(what) > 1]:
        raise FormatError(f"two inputs hold {show(twice[0])}; at most one may")
    if held and PIECES not in held:
        raise FormatError(f'the input {show(of_texts[0].name)} holds {show(held[0])}, but none holds "{PIECES}"')
    if len({source.length for source in of_texts}) > 1:
        lengths = ", ".join(f"{source.name} {source.length}" for source in of_texts)
        raise FormatError(f"the inputs of texts must have the same length, got {lengths}")


def _nodes(entries: list[Any], inputs: tuple[Input, ...], operators: Mapping[str, Signature]) -> tuple[Node, ...]:
    nodes: list[Node] = []
    known: set[str] = set()
    for source in inputs:
        if source.name in known:
            raise FormatError(f"two inputs are named {show(source.name)}; names must be unique")
        known.add(source.name)
    tokens = {source.name for source in inputs if isinstance(source, Tokens)}
    for index, entry in enumerate(entries):
        node = _node(entry, f"graph.nodes[{index}]", operators)
        if node.name in known:
            raise FormatError(f"two nodes are named {show(node.name)}, or a node and an input; names must be unique")
        for place, source_name in enumerate(node.inputs):
            if source_name not in known:
                raise FormatError(f"node {show(node.name)} refers to {show(source_name)}, which is cyclic or unknown")
            wanted = place in operators[node.op].tokens
            if wanted and source_name not in tokens:
                raise FormatError(f"node {node.name!r} ({node.op}) reads an input of tokens, not {show(source_name)}")
            if source_name in tokens and not wanted:
                raise FormatError(
                    f"node {node.name!r} ({node.op}) reads the tokens {show(source_name)}; embed them first"
                )
        known.add(node.name)
        nodes.append(node)
    return tuple(nodes)


def _node(source: Any, where: str, operators: Mapping[str, Signature]) -> Node:
    if not isinstance(source, dict) or not isinstance(source.get("op"), str):
        raise FormatError(f'{where} must be an object with a string "op", got {show(source)}')
    op = source["op"]
    if op not in operators:
        raise FormatError(f"{where} has the unknown operator {show(op)}; a newer onebit may know it: update this one")
    operator = operators[op]
    required = {key for key, attribute in operator.attributes.items() if attribute.default is REQUIRED}
    entry = fields(source, where, {"op", "name", "inputs", *required}, set(operator.attributes))
    own = name(entry["name"], f"{where}.name")
    where = f"node {own!r}"
    inputs = entry["inputs"]
    least, most = operator.inputs, operator.inputs + operator.more
    if not isinstance(inputs, list | tuple) or not least <= len(inputs) <= most:
        count = f"{least} to {most} inputs" if operator.more else f"{least} input(s)"
        raise FormatError(f"{where} ({op}) takes {count}, got {show(inputs)}")
    attributes = {
        key: attribute.check(entry[key], f"{where}: {key}") if key in entry else attribute.default
        for key, attribute in operator.attributes.items()
    }
    return Node(op, own, tuple(text(value, f"{where}: inputs") for value in inputs), attributes)


def _outputs(entries: list[Any], nodes: set[str]) -> tuple[Output, ...]:
    outputs: list[Output] = []
    for index, source in enumerate(entries):
        where = f"graph.outputs[{index}]"
        entry = fields(source, where, {"name", "node"})
        output = Output(name(entry["name"], f"{where}.name"), text(entry["node"], f"{where}.node"))
        if output.node not in nodes:
            raise FormatError(f"{where} names the unknown node {show(output.node)}")
        if output.name in {other.name for other in outputs}:
            raise FormatError(f"two outputs are named {show(output.name)}; names must be unique")
        outputs.append(output)
    return tuple(outputs)


def _task(source: Any) -> TaskRecord:
    entry = fields(source, "graph.task", {"name", "answer"}, {"labels", "scores", "settings"})
    own, answer = text(entry["name"], "graph.task.name"), text(entry["answer"], "graph.task.answer")
    if answer not in ANSWERS:
        raise FormatError(f"graph.task.answer {show(answer)} is unknown; known: {', '.join(ANSWERS)}")
    labels, scores = entry.get("labels"), entry.get("scores", {})
    if labels is not None and (not isinstance(labels, list | tuple) or len(labels) > MAX_LABELS):
        raise FormatError(f"graph.task.labels must be null or a list of at most {MAX_LABELS} strings")
    if not isinstance(scores, dict) or len(scores) > MAX_SCORES:
        raise FormatError(f"graph.task.scores must be an object of at most {MAX_SCORES} numbers, got {show(scores)}")
    return TaskRecord(
        own,
        answer,
        None if labels is None else tuple(text(label, "graph.task.labels") for label in labels),
        {text(key, "graph.task.scores"): number(value, "graph.task.scores") for key, value in scores.items()},
        ANSWERS[answer].settings(entry, "graph.task"),
    )


def _training(source: Any) -> dict[str, float | str]:
    where = "graph.training"
    if not isinstance(source, dict) or len(source) > MAX_TRAINING:
        raise FormatError(
            f"{where} must be an object of at most {MAX_TRAINING} numbers and strings, got {show(source)}"
        )
    return {
        text(key, where): text(value, where) if isinstance(value, str) else number(value, where)
        for key, value in source.items()
    }
