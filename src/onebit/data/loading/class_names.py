"""Names of classes: what a packed file can hold, checked before anything is trained on them."""

import re
from collections.abc import Sequence
from pathlib import Path

from onebit.errors import FormatError, UserError
from onebit.runtime import fields

MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}  # with which other encodings begin


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
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    if encoding := MARKS.get(content[:2]):
        raise UserError(f"{path} is {encoding} text; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
        if "\0" in text:
            raise UserError(f"{path} holds zero bytes, as UTF-16 text does; save it as UTF-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path} is not UTF-8 text (line {line}); save it as UTF-8") from error
    names = [line.strip() for line in re.split("\r\n|\n|\r", text.rstrip())]
    if not all(names):
        empty = f"line {names.index('') + 1} is empty" if any(names) else "it is empty"
        raise UserError(f"{path}: {empty}; it must hold a name for each class, the first for class 0, a line each")
    return check_names(names, str(path), "change the line")
