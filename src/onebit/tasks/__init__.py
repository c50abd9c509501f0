"""The task table: what networks are for. One task, one file, one line here."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from onebit.tables import Table
from onebit.tasks.options import TaskOptions

if TYPE_CHECKING:
    from onebit.data.dataset import Data
    from onebit.tasks.task import Task

TASKS: "Table[type[Task]]" = Table(
    "task",
    {
        "classification": "onebit.tasks.classification:Classification",
        "detection": "onebit.tasks.detection:Detection",
        "text": "onebit.tasks.text:Text",
    },
)


def create(
    name: str,
    labels: Sequence[str],
    options: TaskOptions | None = None,
    settings: Mapping[str, Any] | None = None,
    scores: Sequence[str] = (),
) -> "Task":
    """The task `name` of TASKS for these labels; settings: what is known of how a network's outputs are read; scores: names of
    those that a data set wants, where the task leaves them to it. Raises UserError for an unknown name."""
    return TASKS[name](labels, options or TaskOptions(), settings, scores)


def of_data(source: "Data", options: TaskOptions | None = None, settings: Mapping[str, Any] | None = None) -> "Task":
    """The task of a data set."""
    return create(source.task, source.labels, options, settings, source.scores)


__all__ = ["TASKS", "TaskOptions", "create", "of_data"]
