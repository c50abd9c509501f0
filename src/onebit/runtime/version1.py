"""Files of version 1: the graph of one image and one output, as the version 2 graph that it stands for."""

from __future__ import annotations

from typing import Any

from onebit.errors import FormatError
from onebit.runtime.fields import fields, number, optional
from onebit.runtime.graph import INPUT, OUTPUT, TaskRecord

REQUIRED = {"name", "method", "input", "nodes", "output"}
OPTIONAL = {"labels", "recipe", "accuracy", "task"}


def translated(source: Any) -> dict[str, Any]:
    """The JSON object of version 2, whose fields `graph.parse` checks. Raises FormatError for keys that version 1 has not,
    and for what the two versions say differently.

    A file without a task holds a classifier, whose only score is its accuracy.
    """
    top = fields(source, "graph", REQUIRED, OPTIONAL)
    image = fields(top["input"], "graph.input", {"shape", "mean", "std"}, {"resize"})
    accuracy = optional(top.get("accuracy"), number, "graph.accuracy")
    task: dict[str, Any] = {"name": TaskRecord.name, "answer": TaskRecord.answer}
    if "task" in top:
        task = dict(fields(top["task"], "graph.task", {"name", "answer"}, {"scores"}))
        if task["name"] == TaskRecord.name or accuracy is not None:
            raise FormatError(
                f"graph.task is for other tasks than {TaskRecord.name}, whose score is graph.accuracy; leave one out"
            )
    elif accuracy is not None:
        task["scores"] = {"accuracy": accuracy}
    return {
        "name": top["name"],
        "method": top["method"],
        "recipe": top.get("recipe"),
        "inputs": [{"name": INPUT, "type": "image", **image}],
        "nodes": top["nodes"],
        "outputs": [{"name": OUTPUT, "node": top["output"]}],
        "task": {**task, "labels": top.get("labels")},
    }
