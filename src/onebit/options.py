"""Keys that a user sets, in a recipe file or on the command line: each is declared once, with default, bounds and help."""

import dataclasses
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from onebit.errors import UserError


class Bounds(NamedTuple):
    """Which values a key takes, beyond its type, and how a message says so."""

    valid: Callable[[Any], bool]
    words: str


LARGEST = 1e30  # of any number: float32 holds it, and its square root has room beside it
POSITIVE = Bounds(lambda v: v > 0, "greater than 0")
NATURAL = Bounds(lambda v: v >= 0, "at least 0")
FRACTION = Bounds(lambda v: 0 <= v < 1, "in [0, 1)")
SHARE = Bounds(lambda v: 0 < v <= 1, "in (0, 1]")


def key(default: Any, help: str, bounds: Bounds | None = None, *, free: bool = False, extends: bool = False) -> Any:
    """A field of a group of options.

    default   a number, text, or None; lists and dicts are copied for each group
    help      one line for `--help`
    bounds    beyond the type of the field
    free      whether a run that continues may have another value: where files lie, how fast they are read, on what and in
              which parts it computes
    extends   whether --extend may change it: how long and how fast the same network learns from the same data
    """
    metadata = {"help": help, "bounds": bounds, "free": free, "extends": extends}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass
class Options:
    """A group of keys. Raises UserError, with the key and its value, for a value of another type or out of bounds."""

    def __post_init__(self) -> None:
        for name, kind in typing.get_type_hints(type(self)).items():
            if not fits(getattr(self, name), kind):
                raise UserError(f"recipe: {name} = {getattr(self, name)!r} must be {words(kind)}")
        for field in dataclasses.fields(self):
            bounds = field.metadata["bounds"]
            value = getattr(self, field.name)
            if bounds is not None and value is not None and not bounds.valid(value):
                raise UserError(f"recipe: {field.name} = {getattr(self, field.name)!r} must be {bounds.words}")


def fits(value: object, kind: Any) -> bool:
    """Whether value has the declared type; whole numbers are floats too."""
    if typing.get_origin(kind) is Literal:
        return value in typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return any(fits(value, part) for part in typing.get_args(kind))
    if typing.get_origin(kind) is list:
        return type(value) is list and all(fits(item, typing.get_args(kind)[0]) for item in value)
    if typing.get_origin(kind) is dict:
        return isinstance(value, dict)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
    return type(value) is (typing.get_origin(kind) or kind)


def words(kind: Any) -> str:
    """A declared type, for people."""
    if typing.get_origin(kind) is Literal:
        return " or ".join(map(repr, typing.get_args(kind)))
    if isinstance(kind, types.UnionType):
        return " or ".join(words(part) for part in typing.get_args(kind) if part is not types.NoneType)
    if typing.get_origin(kind) is list:
        return f"a list, each {words(typing.get_args(kind)[0])}"
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a finite number",
        str: "text",
        dict: "a table of keys",
    }
    return names[typing.get_origin(kind) or kind]
