"""`onebit list`: the names that recipes and commands take."""

import argparse
import ast
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from onebit.cli.arguments import verb
from onebit.data import DATA
from onebit.methods import METHODS
from onebit.models import MODELS
from onebit.tables import Table
from onebit.tasks import TASKS


def add(verbs: Any) -> None:
    parser = verb(
        verbs,
        "list",
        run,
        "List methods, models, data sets, tasks, recipes, importers, corruptions or the zoo",
        "  onebit list recipes",
    )
    parser.add_argument("what", metavar="WHAT", choices=WHAT, help=f"one of {', '.join(WHAT)}")


def run(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    rows = OTHERS[options.what]() if options.what in OTHERS else rows_of(TABLES[options.what])
    width = max(map(len, rows), default=0)
    return {options.what: rows}, "\n".join(f"{name:{width}}  {what}".rstrip() for name, what in rows.items())


def rows_of(table: Table[Any]) -> dict[str, str]:
    """What each row is: the first line of its module, which is read and not imported."""
    return {name: first_line(row) if isinstance(row, str) else "" for name, row in table.rows.items()}


def first_line(row: str) -> str:
    spec = find_spec(row.partition(":")[0])
    assert spec is not None and spec.origin is not None
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].replace("\n", " ").rstrip(".:")


def recipes() -> dict[str, str]:
    """Each recipe that comes with onebit, and the first sentence of its comment."""
    from onebit.training.recipe import find, shipped

    comments = {name: find(name).read_text(encoding="utf-8").split("\n# ") for name in shipped()}
    return {
        name: re.split(r"(?<=[^A-Z])\. ", " ".join(lines).removeprefix("# ").split("\n")[0])[0]
        for name, lines in comments.items()
    }


def importers() -> dict[str, str]:
    """Each kind of file that `onebit import` reads, and where such files come from."""
    from onebit.checkpoints.importers import IMPORTERS

    return {name: importer.source for name, importer in IMPORTERS.items()}


def corruptions() -> dict[str, str]:
    """Each corruption of `onebit eval --corruptions`, and its group, whose name stands for all of it."""
    from onebit.analysis.corruptions import COMMON, GROUPS

    groups = {name: group for group, names in GROUPS.items() for name in names}
    return {name: f"{group}, common" if name in COMMON else group for name, group in groups.items()}


def networks() -> dict[str, str]:
    """Each network of the zoo: what it is, how good, how it was trained, and its size."""
    from onebit.runtime import inspection, zoo

    rows = {}
    for name in zoo.names():
        found = inspection.describe(f"{zoo.PREFIX}{name}")
        training = found["training"]
        parts = [
            f"{found['model']} by {found['method']} for {training.get('data', '?')}",
            *(f"{key} {value:.2f} %" for key, value in found["scores"].items()),
            f"{training.get('epochs_done', '?')} epochs, seed {training.get('seed', '?')}",
            f"{found['bytes']} bytes",
        ]
        rows[f"{zoo.PREFIX}{name}"] = "; ".join(parts)
    return rows


TABLES: dict[str, Table[Any]] = {"methods": METHODS, "models": MODELS, "data": DATA, "tasks": TASKS}
OTHERS = {"recipes": recipes, "importers": importers, "corruptions": corruptions, "zoo": networks}
WHAT = (*TABLES, *OTHERS)
