"""Tables of names: methods, models, data sets, tasks, importers, peers. A row is imported when it is used."""

import difflib
from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any, Generic, TypeVar

from onebit.errors import UserError

Row = TypeVar("Row")


class Table(MutableMapping[str, Row], Generic[Row]):
    """{name: row}, where a row is an object, or the text "module:attribute" that names one.

    So the names are known, for help and error messages, without importing what the rows need.

    Args:
        kind: what a row is called in messages, such as "method"
        rows: rows by name, in the order in which they are listed

    Raises UserError, with the known names, for a name that is not in the table.
    """

    def __init__(self, kind: str, rows: dict[str, str | Row]):
        self.kind, self.rows = kind, dict(rows)

    def check(self, name: str) -> None:
        """Raise UserError for an unknown name, without importing anything."""
        if name not in self.rows:
            close = difflib.get_close_matches(str(name), self.rows, 1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise UserError(f"{self.kind} {name!r} is unknown{hint}; choose one of {', '.join(sorted(self.rows))}")

    def __getitem__(self, name: str) -> Row:
        self.check(name)
        row = self.rows[name]
        if isinstance(row, str):
            module, _, attribute = row.partition(":")
            row = self.rows[name] = getattr(import_module(module), attribute)
        return row

    def __setitem__(self, name: str, row: Row) -> None:
        self.rows[name] = row

    def __delitem__(self, name: str) -> None:
        del self.rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __contains__(self, name: object) -> bool:
        return name in self.rows

    def __len__(self) -> int:
        return len(self.rows)

    def get(self, name: str, default: Any = None) -> Any:
        """The row, or default for an unknown name."""
        if name not in self.rows:
            return default
        return self[name]
