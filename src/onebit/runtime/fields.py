"""Checks of one field of a file's JSON: each returns the value to keep, or raises a FormatError that names the field."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable
from typing import Any

from onebit.errors import FormatError

MAX_LABELS = 100_000
MAX_TEXT = 1_000  # characters (code points) of a name or label
MAX_SIZE = 2**15  # any height, width, stride, kernel, padding, number of tokens, of channels of an input that is a map
MAX_CHANNELS = 2**24  # any size of a weight, of a vector that is an input; a count of tokens
MAX_NUMBER = 3.4e38  # finite as float32
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./\-]{0,199}")

_HALF = re.compile("[\ud800-\udfff]")  # of a character: JSON can escape one alone, and then it cannot be printed
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxlong, _REPR.maxother = 3, 80, 80, 80


def integer(low: int, high: int) -> Callable[[Any, str], int]:
    """A whole number, written without fraction and exponent; true and false are none."""

    def check(value: Any, where: str) -> int:
        if type(value) is not int or not low <= value <= high:
            raise FormatError(f"{where} must be an integer from {low} to {high}, got {show(value)}")
        return value

    return check


def pair(low: int, high: int) -> Callable[[Any, str], tuple[int, int]]:
    """[vertical, horizontal]."""
    one = integer(low, high)

    def check(value: Any, where: str) -> tuple[int, int]:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise FormatError(f"{where} must be a list of two integers, got {show(value)}")
        return one(value[0], where), one(value[1], where)

    return check


def integers(count: int, low: int, high: int) -> Callable[[Any, str], tuple[int, ...]]:
    """A list of so many."""
    one = integer(low, high)

    def check(value: Any, where: str) -> tuple[int, ...]:
        if not isinstance(value, list | tuple) or len(value) != count:
            raise FormatError(f"{where} must be a list of {count} integers, got {show(value)}")
        return tuple(one(item, where) for item in value)

    return check


def word(*words: str) -> Callable[[Any, str], str]:
    """One of some words."""

    def check(value: Any, where: str) -> str:
        if not isinstance(value, str) or value not in words:
            raise FormatError(f"{where} must be one of {', '.join(words)}, got {show(value)}")
        return value

    return check


def boolean(value: Any, where: str) -> bool:
    if type(value) is not bool:
        raise FormatError(f"{where} must be true or false, got {show(value)}")
    return value


def number(value: Any, where: str) -> float:
    """The float64 that is nearest to an integer or float, of magnitude at most MAX_NUMBER."""
    try:
        found = float(value) if type(value) in (int, float) else None
    except OverflowError:
        found = None
    if found is None or not abs(found) <= MAX_NUMBER:
        raise FormatError(f"{where} must be a finite number, got {show(value)}")
    return found


def positive(value: Any, where: str) -> float:
    """A number above 0."""
    found = number(value, where)
    if found <= 0:
        raise FormatError(f"{where} must be a number above 0, got {show(value)}")
    return found


def share(value: Any, where: str) -> float:
    found = number(value, where)
    if not 0 <= found <= 1:
        raise FormatError(f"{where} must be a number from 0 to 1, got {show(value)}")
    return found


def not_negative(value: Any, where: str) -> float:
    found = number(value, where)
    if found < 0:
        raise FormatError(f"{where} must be a number from 0 on, got {show(value)}")
    return found


def numbers(value: Any, length: int, where: str) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or len(value) != length:
        raise FormatError(f"{where} must be a list of {length} numbers, one per channel, got {show(value)}")
    return tuple(number(item, where) for item in value)


def text(value: Any, where: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise FormatError(f"{where} must be a string of at most {MAX_TEXT} characters, got {show(value)}")
    if _HALF.search(value):
        raise FormatError(f"{where} is not valid Unicode: {show(value)}")
    return value


def name(value: Any, where: str) -> str:
    """A name of a node, an input or an output."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise FormatError(f"{where} must be 1 to 200 letters, digits or _ . / -, got {show(value)}")
    return value


def fields(value: Any, where: str, required: set[str], optional: set[str] = frozenset()) -> dict[str, Any]:  # type: ignore[assignment]
    """The value as a dict that has all required keys and no unknown one."""
    if not isinstance(value, dict):
        raise FormatError(f"{where} must be an object, got {show(value)}")
    if missing := sorted(required - value.keys()):
        raise FormatError(f"{where} lacks {', '.join(missing)}")
    if unknown := sorted(map(str, value.keys() - required - optional)):
        raise FormatError(f"{where} has the unknown key {show(unknown[0])}; write the file with a matching onebit")
    return value


def optional(value: Any, check: Callable[[Any, str], Any], where: str) -> Any:
    """None as it is, all else as `check` has it."""
    return None if value is None else check(value, where)


def show(value: Any) -> str:
    """A short repr for messages: a hostile value must not flood the terminal, nor cost much to show."""
    shown = _REPR.repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
