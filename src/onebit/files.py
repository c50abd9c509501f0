"""Writing files so that a crash or a full disk loses nothing: to a temporary name, then renamed; never over what is read."""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from onebit.errors import UserError

REMEDIES = {  # by errno; of all others, a full disk is the likeliest
    errno.ENOENT: "create its folder first",
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR), "choose another place"),
}


@contextmanager
def failures(path: str | os.PathLike[str]) -> Iterator[None]:
    """Inside, a failing write becomes a UserError that names `path`, the reason and the remedy."""
    try:
        yield
    except (
        OSError,
        RuntimeError,
    ) as error:  # PyTorch's writer turns a full disk into RuntimeError, and keeps the reason
        inner = error.__context__ if isinstance(error.__context__, OSError) else error
        reason = getattr(inner, "strerror", None) or str(error).split("\n")[0]
        remedy = REMEDIES.get(getattr(inner, "errno", None) or 0, "free space or choose another place")
        raise UserError(f"cannot write {path}: {reason}; {remedy}") from error


def write(path: str | os.PathLike[str], fill: Callable[[IO[bytes]], object], follow: bool = False) -> None:
    """Let `fill` write a file that then takes the place of `path`; with follow, of the file that the link `path` leads to.

    A file that is replaced keeps its permissions, a new one has those of the process. Raises UserError if it fails; `path`
    is then as it was. A folder, device or pipe is never replaced.
    """
    check_name(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"cannot write {path}: it is not a file; give the name of one")
    path = Path(os.path.realpath(path) if follow else os.path.abspath(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with failures(path):
        try:
            temporary.unlink(missing_ok=True)
            with open(temporary, "xb") as file:  # never through a link that somebody else put there
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            if path.is_file() and not path.is_symlink():
                with suppress(OSError):
                    os.chmod(temporary, stat.S_IMODE(path.stat().st_mode))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    synchronize(path.parent)


def link(source: str | os.PathLike[str], path: str | os.PathLike[str]) -> bool:
    """Let `path` be the file `source` under a second name, in place of what it was; False where that cannot be.

    Whoever replaces one of the names later leaves the other as it is. Raises UserError as `write` does.
    """
    path = Path(os.path.abspath(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        os.link(source, temporary)
    except OSError:  # a file system without links, or on another device
        return False
    with failures(path):
        try:
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    synchronize(path.parent)
    return True


def synchronize(folder: Path) -> None:
    """Make a rename in the folder survive a power failure, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: str | os.PathLike[str], text: str, follow: bool = False) -> None:
    """Write a text file, as `write` does."""
    write(path, lambda file: file.write(text.encode()), follow)


def clean(folder: Path) -> None:
    """Remove what killed processes left half written in the folder."""
    for temporary in folder.glob(".*.tmp"):
        if temporary.name.split(".")[-2].isdigit():
            temporary.unlink(missing_ok=True)


def check_name(path: str | os.PathLike[str]) -> None:
    """Raise UserError for a name that no file can have."""
    text = os.fspath(path)
    if text == "" or text.endswith(("/", os.sep)) or "\0" in text:
        raise UserError(f"cannot write {text!r}: it is not a file; give the name of one")


def check_output(path: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]], option: str = "--out") -> None:
    """Raise UserError where writing `path`, which `option` names, would replace one of the inputs, under whatever name, through
    links too."""
    check_name(path)
    for given in inputs:
        try:
            same = os.path.samefile(path, given)
        except (OSError, ValueError):  # one of them does not exist
            same = False
        if same:
            raise UserError(
                f"{option} {os.fspath(path)} would replace its own input {os.fspath(given)}; give another name"
            )
