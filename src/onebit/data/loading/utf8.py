"""Files of text that people write: UTF-8, or one line that says what is there instead."""

from pathlib import Path

from onebit.errors import UserError

MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}  # with which other encodings begin


def text_of(path: Path, where: str = "") -> str:
    """The text of a file, without a byte order mark. Raises UserError, which starts with `where` and the path, for a file that
    cannot be read, another encoding and zero bytes, with the first such line."""
    named = f"{where}: {path}" if where else str(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{named} cannot be read: {error.strerror or error}") from error
    if encoding := MARKS.get(content[:2]):
        raise UserError(f"{named} is {encoding} text; save it as UTF-8")
    if (zero := content.find(b"\0")) >= 0:
        raise UserError(f"{named} holds zero bytes, as UTF-16 text does (line {line(content, zero)}); save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{named} is not UTF-8 text (line {line(content, error.start)}); save it as UTF-8") from error


def line(content: bytes, place: int) -> int:
    return content[:place].count(b"\n") + 1
