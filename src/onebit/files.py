"""Writing files so that a crash or a full disk loses nothing: to a temporary name, then renamed."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from onebit.errors import UserError


def write(path: str | os.PathLike[str], fill: Callable[[IO[bytes]], object]) -> None:
    """Let `fill` write a file that then takes the place of `path`. UserError if it fails; `path` is then as it was."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # PyTorch's writer turns a full disk into RuntimeError
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise UserError(f"cannot write {path}: {reason}; free space or choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file, as `write` does."""
    write(path, lambda file: file.write(text.encode()))
