"""Safetensors files on which two readers might not agree: nearly right ones, and changed ones."""

import json
import struct
import sys
from pathlib import Path
from random import Random
from typing import Any

from onebit.errors import FormatError
from onebit.runtime import format as file_format

FUZZ = Path(__file__).parent / "fuzz"
sys.path.append(str(FUZZ))

from hostile_files import mutate  # noqa: E402


def entry(dtype: Any = "U8", shape: Any = (1,), offsets: Any = (0, 1), **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def files() -> list[bytes]:
    """Headers that are nearly right."""
    found = []

    def add(header: Any, data: bytes = b"\1", space: str = "", length: int = 0) -> None:
        text = (header if isinstance(header, str) else json.dumps(header)) + space
        found.append(struct.pack("<Q", len(text.encode()) + length) + text.encode() + data)

    for sizes in ((0,), (2,), (1, 1), (1, 0), (-1,), (2**32,), (2**32 + 1,), (2**32, 2**32), (2**32, 2**32, 0)):
        add({"a": entry(shape=sizes)})
        add({"a": entry(shape=sizes, offsets=(0, 0))}, b"")
        add({"a": entry("F32", shape=sizes, offsets=(0, 4))}, b"1234")
    add({"a": entry("F32", (2**31, 2**31), (0, 0))}, b"")
    add({"a": entry("F32", (2**31 + 1 - 2**16, 2**31 + 1 + 2**16), (0, 4))}, b"1234")  # 2^62 + 1 elements
    add({"a": entry(shape=(0, 2**32, 2**32), offsets=(0, 0))}, b"")
    add({"a": entry(shape=(2**31, 2**32, 2**32, 0), offsets=(0, 0))}, b"")
    add({"a": entry(shape=(2**31, 2**32, 0), offsets=(0, 0))}, b"")
    for value in (None, True, 1, 1.0, "1", [], [[]], {}, [1.0], [True], [None], ["1"], [1.5], [-0.0]):
        add({"a": entry(shape=value)})
        add({"a": entry(offsets=value)})
        add({"a": entry(dtype=value)})
        add({"a": value})
        add({"__metadata__": value, "a": entry()})
        add({"__metadata__": {"a": value}, "a": entry()})
        add(json.dumps(value), b"")
    for offsets in (
        (0,),
        (0, 1, 1),
        (1, 0),
        (0, 0),
        (1, 1),
        (1, 2),
        (0, 2),
        (-1, 0),
        (0, 2**32),
        (0, 2**63),
        (0, 2**64),
        (0.0, 1.0),
    ):
        add({"a": entry(offsets=offsets)})
        add({"a": entry(shape=[0], offsets=offsets)}, b"")
    pair = ((0, 1), (1, 2), (1, 1), (0, 0), (2, 2), (0, 2), (2, 3), (3, 4))
    for first in pair:
        for second in pair:
            sizes = [[max(end - begin, 0)] for begin, end in (first, second)]
            for data in (b"\1\2", bytes(max(*first, *second))):
                add({"b": entry("I8", sizes[0], first), "a": entry("U8", sizes[1], second)}, data)
    for dtype in ("F32", "U8", "I8", "u8", "U8 ", "", "F16", "BF16", "I64", "BOOL", "F4", "U\u0130"):
        add({"a": entry(dtype)})
        add({"a": entry(dtype, offsets=(0, 4))}, b"1234")
    text = json.dumps({"a": entry()})
    for space in ("", " ", "\n\r\t ", "\0", "\x0b", "}", " {}", ","):
        add(text, space=space)
        add(space + text)
    add({"a": entry(), "__metadata__": {"b": "\ud800"}})
    add({"a": entry(), "__metadata__": {"b": "é", "": "", "\x00": "\x00"}})
    add({"\ud800": entry()})
    add({"": entry()})
    add({"é😀": entry()})
    add({"a": entry(more=1)})
    add({"a": entry(more="[" * 10)})
    for key in ("dtype", "shape", "data_offsets"):
        add({"a": {name: value for name, value in entry().items() if name != key}})
        add({"a": {name.replace(key, key.upper()): value for name, value in entry().items()}})
    add(text.replace("[1]", "[-0]"), b"")
    add(text.replace("[1]", "[-0]").replace("1", "0"), b"")
    add(text.replace("[0, 1]", "[-0, 1]"))
    add(text.replace("[1]", "[1e0]"))
    add(text.replace('"a"', '"\\u0061"'))
    add(f"{text[:-1]}, {text[1:]}")
    add('{"__metadata__":{"a":"1","a":"2"}}', b"")
    add('{"__metadata__":{},"__metadata__":{}}', b"")
    add('{"__metadata\\u005f_":{}}', b"")
    add('{"a":["U8",[1],[0,1]]}')
    add('{"a":{"dtype":{"U8":null},"shape":[1],"data_offsets":[0,1]}}')
    for length in (-1, 1, 2, 2**24, 2**24 - len(text), 2**24 - len(text) + 1):
        add(text, length=length)
    whole = found[0]
    return [
        *found,
        *(whole[:size] for size in range(12)),
        whole + b"\1",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 1) + b"{}",
    ]


def changed_files(count: int) -> list[bytes]:
    """Networks after a change of a field, a tensor or a byte, and headers that are nearly right after one more."""
    random = Random(3)
    networks, nearly = small_networks(), files()
    pieces = [b"0", b"1", b"2", b"-", b"[", b"]", b"", b'"', b",", b"{}", b" ", b"e0"]
    changed = []
    while len(changed) < count:
        if random.random() < 0.5:
            data = mutate(random.choice(networks), random)
        else:
            source = random.choice(nearly)
            header = bytearray(header_text(source))
            rest = source[8 + len(header) :]
            at = random.randrange(len(header) + 1)
            header[at : at + random.randrange(3)] = random.choice(pieces)
            data = struct.pack("<Q", len(header)) + header + rest
        if len(data) < 2**16:
            changed.append(data)
    return changed


def header_text(data: bytes) -> bytes:
    """The header of a safetensors file, as far as it goes."""
    (length,) = struct.unpack_from("<Q", data.ljust(8, b"\0"))
    return data[8 : 8 + length]


def small_networks() -> list[bytes]:
    """Those of the corpus that are valid."""
    found = []
    for path in sorted((FUZZ / "corpus").iterdir()):
        try:
            file_format.decode(path.read_bytes())
        except FormatError:
            continue
        found.append(path.read_bytes())
    return found
