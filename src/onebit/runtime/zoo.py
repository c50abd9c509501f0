"""The packed files that come with onebit: `zoo:NAME` stands for one wherever a packed file is read. Needs numpy alone."""

import difflib
import os
from importlib import resources
from pathlib import Path
from typing import Any

from onebit.errors import UserError

PREFIX, SUFFIX = "zoo:", ".safetensors"
SHIPPED = resources.files("onebit") / "zoo"


def is_named(path: Any) -> bool:
    """Whether this is the name of such a file. One of your own that is called so is named by ./zoo:..."""
    return isinstance(path, str) and path.startswith(PREFIX)


def names() -> list[str]:
    """Without the prefix."""
    return sorted(entry.name.removesuffix(SUFFIX) for entry in SHIPPED.iterdir() if entry.name.endswith(SUFFIX))


def located(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """The file of a name zoo:NAME; any other path as it is. Raises UserError for a name that there is not."""
    if not is_named(path):
        return path
    name, known = os.fspath(path).removeprefix(PREFIX), names()
    if name in known:
        return Path(str(SHIPPED / f"{name}{SUFFIX}"))
    close = difflib.get_close_matches(name, known, 1)
    hint = f" (did you mean {PREFIX}{close[0]}?)" if close else ""
    there = f"choose one of {', '.join(known)}" if known else "this onebit comes with none"
    raise UserError(f"the network {path} is unknown{hint}; {there}")
