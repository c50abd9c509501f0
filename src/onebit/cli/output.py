"""What the command prints: results on the standard output, errors in one line each."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from onebit.errors import UserError
from onebit.machine import processor


def show(text: str) -> None:
    """Print to the standard output. UserError where it cannot be written; BrokenPipeError where its reader has gone."""
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer goes nowhere
        if isinstance(error, BrokenPipeError):
            raise
        raise UserError(f"cannot write to the standard output: {error.strerror}") from error


def warn(text: str) -> None:
    """A line on standard error about something that does not end the command."""
    print(f"onebit: warning: {one_line(text)}", file=sys.stderr, flush=True)


def usable_threads(threads: int | None) -> int | None:
    """The number of threads that was asked for, or of the CPUs where those are fewer, which is said."""
    if threads is None or threads == (usable := processor.usable(threads)):
        return threads
    warn(f"--threads {threads}: this process may use {usable} CPUs; {usable} threads run")
    return usable


@contextmanager
def bar(what: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, where that is a terminal; it is told what is done, and of how much."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        row = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(row, completed=done, total=total)


def one_line(text: str) -> str:
    """As `printable`, without line breaks: a name may hold those too."""
    return printable(text).replace("\n", "\\x0a")


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
