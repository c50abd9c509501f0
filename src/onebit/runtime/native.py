"""The C++ engine behind the same two methods as the reference."""

from __future__ import annotations

from importlib.util import find_spec


def available() -> bool:
    """Whether the compiled engine is installed."""
    return find_spec("onebit.runtime._engine") is not None
