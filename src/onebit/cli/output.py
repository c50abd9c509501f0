"""What the command prints: results on the standard output, errors in one line each."""

import os
import re
import sys

from onebit.errors import UserError


def show(text: str) -> None:
    """Print to the standard output. UserError where it cannot be written; BrokenPipeError where its reader has gone."""
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer goes nowhere
        if isinstance(error, BrokenPipeError):
            raise
        raise UserError(f"cannot write to the standard output: {error.strerror}") from error


def printable(text: str) -> str:
    """text with escapes for what steers a terminal and what is no character: names of files and labels may hold both."""
    escaped = re.sub("[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", text)
    encoding = sys.stdout.encoding or "utf-8"
    return escaped.encode(encoding, errors="backslashreplace").decode(encoding)


def scores(result: dict[str, object]) -> str:
    """The scores of a result, which names them under "scores": "accuracy 87.99 %"."""
    names = result["scores"]
    assert isinstance(names, list)
    return ", ".join(f"{name} {result[name]:.2f} %" for name in names)
