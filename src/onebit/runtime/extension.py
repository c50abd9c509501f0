"""The compiled engine as a module of Python, if it was built."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from onebit.errors import UserError
from onebit.machine import installation

MODULE = "onebit.runtime._engine"


def available() -> bool:
    """Whether the compiled engine is installed."""
    return find_spec(MODULE) is not None


def extension() -> Any:
    """The compiled engine. Raises UserError where it was not built."""
    try:
        return import_module(MODULE)
    except ImportError as error:
        raise UserError(
            f"the engine is not built ({error}); run {installation.command()}, or use backend='reference'"
        ) from None
