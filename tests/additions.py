"""What docs/adding.md adds to the package: its code as files, its lines as rows of the tables. (The operator, which the engine
is built with, is `test_operator_addition.py`'s.)"""

import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from onebit.tables import Table
from onebit.training import recipe

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")


class Addition(NamedTuple):
    """A section of the page.

    file    new: its path in the repository, and its text
    table   the file that gets a line, and that line; None where there is none
    """

    file: tuple[str, str]
    table: tuple[str, str] | None

    @property
    def places(self) -> list[str]:
        return [self.file[0], *([] if self.table is None else [self.table[0]])]


def sections() -> dict[str, str]:
    """The page's sections by kind."""
    return dict(re.findall(r"^## An? ([a-z ]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def read() -> dict[str, Addition]:
    """The page's additions by kind: "method", "model", "data set", "task", "recipe"."""
    found = {}
    for kind, section in sections().items():
        if kind == "operator":
            continue
        (text,) = re.findall(r"^```\w+\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        (path,) = re.findall(r"^`(src/onebit/\w+/[\w<>.-]+)`", section, re.MULTILINE)
        if lines := re.findall(r"^The line, in `([\w/.]+)`: `([^`]+)`", section, re.MULTILINE):
            ((table, line),) = lines
            names = {"name": re.findall(r'^"(\w+)":', line)[0]}
        else:
            table, line = None, None
            names = dict(re.findall(r'^(\w+) = "(\w+)"$', text, re.MULTILINE))
        for key, name in names.items():
            path = path.replace(f"<{key}>", name)
        found[kind] = Addition((path, text), None if table is None else (table, line))
    return found


def table_of(text: str) -> tuple[str, Table[Any]]:
    """(name, table) that a module with this text defines."""
    names: dict[str, Any] = {"__name__": "a_table"}
    exec(compile(text, "a table's module", "exec"), names)
    ((name, table),) = ((name, value) for name, value in names.items() if isinstance(value, Table))
    return name, table


@contextmanager
def made(folder: Path) -> Iterator[dict[str, Any]]:
    """Inside, the package is as if the additions were made, and no more: {kind: module of its file, or path of the recipe}.

    The files lie in `folder`, where the package finds them as if they lay beside the others.
    """
    with pytest.MonkeyPatch.context() as patch:
        places: dict[str, Any] = {}
        for kind, addition in read().items():
            path = folder / addition.file[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(addition.file[1], encoding="utf-8")
            if addition.table is None:
                shutil.copytree(str(recipe.SHIPPED), path.parent, dirs_exist_ok=True)
                patch.setattr(recipe, "SHIPPED", path.parent)
                places[kind] = path
                continue
            name = f"onebit.{path.parent.name}"
            room = import_module(name)
            patch.setattr(room, "__path__", [*room.__path__, str(path.parent)])
            variable, table = table_of(with_line(*addition.table))
            rows = getattr(room, variable).rows
            (row,) = table.rows.keys() - rows.keys()
            patch.setitem(rows, row, table.rows[row])
            places[kind] = import_module(f"{name}.{path.stem}")
        try:
            yield places
        finally:
            for module in (place for place in places.values() if not isinstance(place, Path)):
                sys.modules.pop(module.__name__)
                parent, _, child = module.__name__.rpartition(".")
                delattr(sys.modules[parent], child)


def with_line(path: str, line: str) -> str:
    """The text of a table's file with the line as its last row."""
    text = (ROOT / path).read_text(encoding="utf-8")
    row, count = re.subn(
        r'^( +)"\w+": "onebit\.[\w.]+:\w+",\n(?! +")', rf"\g<0>\g<1>{line}\n", text, flags=re.MULTILINE
    )
    assert count == 1, f"{path} holds no table, or several"
    return row
