"""What is in files: bytes, and text that people write, which is UTF-8, or one line that says what is there instead."""

import os
import stat
from pathlib import Path

from onebit.errors import UserError

MAX_FILE = 2**30  # bytes
MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}  # with which other encodings begin


def content_of(path: str | os.PathLike[str]) -> bytes:
    """What is in a file. Raises OSError; opening a pipe does not wait for its writer."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode) or not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a file")
        if status.st_size > MAX_FILE:
            raise OSError(f"it has {status.st_size} bytes; at most {MAX_FILE} are read")
        return file.read()


def text_of(path: Path, where: str = "") -> str:
    """The text of a file, without a byte order mark. Raises UserError, which starts with `where` and the path, for a file that
    cannot be read, another encoding and zero bytes, with the first such line."""
    named = f"{where}: {path}" if where else str(path)
    try:
        content = content_of(path)
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise UserError(f"{named} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return decoded(content, named)


def decoded(content: bytes, named: str) -> str:
    """`text_of` of the bytes of what is called so."""
    if encoding := MARKS.get(content[:2]):
        raise UserError(f"{named} is {encoding} text; save it as UTF-8")
    if (zero := content.find(b"\0")) >= 0:
        raise UserError(f"{named} holds zero bytes, as UTF-16 text does (line {line(content, zero)}); save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{named} is not UTF-8 text (line {line(content, error.start)}); save it as UTF-8") from error


def lines_of(path: Path, where: str = "") -> list[str]:
    """The lines of a file, a byte order mark and the ends of lines left out. Lines end with a newline alone: some texts hold
    other characters that Python would cut at. Raises UserError, which starts with `where`."""
    text = text_of(path, where)
    if not text.strip():
        raise UserError(f"{where}: {path} is empty; copy it again" if where else f"{path} is empty; copy it again")
    return cut(text)


def cut(text: str) -> list[str]:
    """The lines of a text."""
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def line(content: bytes, place: int) -> int:
    return content[:place].count(b"\n") + 1
