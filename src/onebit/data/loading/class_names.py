"""Names of classes: what a packed file can hold, checked before anything is trained on them."""

import re
from collections.abc import Sequence
from pathlib import Path

from onebit.errors import FormatError, UserError
from onebit.runtime import fields
from onebit.runtime.contents import text_of


def check_names(names: Sequence[str], where: str, remedy: str) -> tuple[str, ...]:
    """The names, if a packed file can hold them (docs/format.md). Raises UserError, which starts with `where`."""
    if len(names) > fields.MAX_LABELS:
        raise UserError(f"{where}: {len(names)} classes; a packed file holds at most {fields.MAX_LABELS}")
    for name in names:
        try:
            fields.text(name, f"{where}: the name of a class")
        except FormatError as error:
            raise UserError(f"{error}; {remedy}") from error
    return tuple(names)


def read_names(path: Path) -> tuple[str, ...]:
    """The lines of a text file in UTF-8, with or without a byte order mark; lines at its end may be empty.

    Raises UserError for another encoding, an empty line between others, and names that no packed file can hold.
    """
    names = [line.strip() for line in re.split("\r\n|\n|\r", text_of(path).rstrip())]
    if not all(names):
        empty = f"line {names.index('') + 1} is empty" if any(names) else "it is empty"
        raise UserError(f"{path}: {empty}; it must hold a name for each class, the first for class 0, a line each")
    return check_names(names, str(path), "change the line")
