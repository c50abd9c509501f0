"""The task table: what networks are for. One task, one file, one line here."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onebit.tables import Table
from onebit.tasks.options import TaskOptions

if TYPE_CHECKING:
    from onebit.tasks.task import Task

TASKS: "Table[type[Task]]" = Table(
    "task",
    {
        "classification": "onebit.tasks.classification:Classification",
    },
)


def create(name: str, labels: Sequence[str], options: TaskOptions | None = None) -> "Task":
    """The task `name` of TASKS for these labels. Raises UserError for an unknown name."""
    return TASKS[name](labels, options or TaskOptions())


__all__ = ["TASKS", "TaskOptions", "create"]
