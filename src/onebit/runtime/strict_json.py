"""JSON as files may hold it (docs/format.md, Limits): RFC 8259 in UTF-8, and of two ways to read something, neither.

Refused are a byte order mark, other encodings, NaN and Infinity, keys that come twice, escapes of half a character, more than
MAX_DEPTH lists and objects inside each other, and integers of more than MAX_DIGITS characters, which no field could hold.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from onebit.errors import FormatError

MAX_DEPTH = 64
MAX_DIGITS = 40  # with the sign; of integers, since the largest number of any field has 39
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)  # or what is left: never tried again from within
_NO_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))


def loads(data: bytes | str, where: str) -> Any:
    """The value of a text, or of its UTF-8. Raises FormatError, which names `where`."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise FormatError(f"{where} has a duplicate key")
        return result

    def refuse(constant: str) -> None:
        raise FormatError(f"{where} contains {constant}, which is not JSON")

    def integer(digits: str) -> int:
        if digits == "-0":  # which the safetensors library takes for a fraction
            raise FormatError(f"{where} is not valid JSON (the integer -0)")
        if len(digits) > MAX_DIGITS:
            raise FormatError(f"{where} is not valid JSON (an integer of {len(digits)} digits)")
        return int(digits)

    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        if _depth(text) > MAX_DEPTH:
            raise FormatError(f"{where} is nested too deeply; at most {MAX_DEPTH} levels are supported")
        value = json.loads(text, object_pairs_hook=unique, parse_constant=refuse, parse_int=integer)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # raises UnicodeEncodeError for half a character
    except FormatError:
        raise
    except UnicodeEncodeError:
        raise FormatError(f"{where} is not valid Unicode: it has an escape of half a character") from None
    except ValueError as error:  # JSON and UTF-8
        raise FormatError(f"{where} is not valid JSON ({str(error)[:80]}); this is not a onebit file") from None
    return value


def _depth(text: str) -> int:
    """The most lists and objects inside each other. (Of a text that is no JSON, some number.)"""
    brackets = _STRING.sub("", text).encode("utf-8", "replace").translate(None, _NO_BRACKETS)
    if not brackets:
        return 0
    codes = np.frombuffer(brackets, np.uint8)
    opens = (codes == ord("[")) | (codes == ord("{"))
    return int(np.cumsum(np.where(opens, 1, -1), dtype=np.int64).max())
