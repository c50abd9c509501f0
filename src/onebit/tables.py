"""Tables of names: methods, models, data sets, tasks, importers, peers. A row is imported when it is used."""

import difflib
from collections.abc import Iterator, Mapping, MutableMapping
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
        families: {prefix: "module:function"}: names "prefix:rest" are rows too, which the function makes of the rest. They
            are not listed

    Raises UserError, with the known names, for a name that is not in the table.
    """

    def __init__(self, kind: str, rows: dict[str, str | Row], families: Mapping[str, str] | None = None):
        self.kind, self.rows, self.families = kind, dict(rows), dict(families or {})

    def check(self, name: str) -> None:
        """Raise UserError for an unknown name, without importing anything."""
        if name not in self.rows and not self.family(name):
            close = difflib.get_close_matches(str(name), self.rows, 1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            known = [*sorted(self.rows), *(f"{prefix}:NAME" for prefix in self.families)]
            raise UserError(f"{self.kind} {name!r} is unknown{hint}; choose one of {', '.join(known)}")

    def family(self, name: object) -> str:
        """The prefix of a name "prefix:rest" of one of the families, "" of others."""
        prefix, _, rest = str(name).partition(":")
        return prefix if rest and prefix in self.families else ""

    def __getitem__(self, name: str) -> Row:
        self.check(name)
        if name not in self.rows:
            return imported(self.families[self.family(name)])(name.partition(":")[2])
        row = self.rows[name]
        if isinstance(row, str):
            row = self.rows[name] = imported(row)
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


def imported(place: str) -> Any:
    """The object that the text "module:attribute" names."""
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)
