"""The C++ readers of JSON and of safetensors say the same as those of Python, and of files as the safetensors library says."""

import json
import resource
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
import safetensors

from builds import build
from json_documents import changed_documents, documents, numbers
from onebit.errors import FormatError
from onebit.runtime import format as file_format
from onebit.runtime import strict_json
from safetensors_files import changed_files, entry, files

ROOT = Path(__file__).parents[1]


def shown(value: Any) -> str:
    """A value as json_verdicts prints it: numbers by their bits, texts by their bytes."""
    match value:
        case None | True | False:
            return json.dumps(value)
        case int() if -(2**63) <= value < 2**63:
            return str(value)
        case int():
            return shown(float(str(value)))
        case float():
            return f"d{struct.pack('>d', value).hex()}"
        case str():
            return f"s{value.encode().hex()}"
        case list():
            return f"[{''.join(shown(item) + ' ' for item in value)}]"
    return "{" + "".join(f"{key.encode().hex()}:{shown(item)} " for key, item in value.items()) + "}"


def expected(data: bytes) -> str:
    """The beginning of the line that json_verdicts prints for a document."""
    try:
        return f"accepted {shown(strict_json.loads(data, 'the header'))}\n"
    except FormatError:
        return "refused the header "


def expected_file(data: bytes) -> str:
    """As `expected`, of a safetensors file, whose tensors the library finds where Python's reader does."""
    try:
        header, start = file_format._header(data)
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
            return "refused "
        places = {name: file_format._place(entry, name) for name, entry in header.items()}
        file_format._check_places(places, len(data) - start)
    except FormatError:
        return "refused "
    tensors = safetensors.deserialize(data)
    line = "".join(f"{key.encode().hex()}={text.encode().hex()} " for key, text in in_order(metadata.items()))
    for name, tensor in in_order(tensors):
        shape = "".join(f"{size}," for size in tensor["shape"])
        line += f"{name.encode().hex()}:{tensor['dtype']}({shape}){bytes(tensor['data']).hex()} "
    return f"accepted {line}\n"


def in_order(pairs: Any) -> list[tuple[str, Any]]:
    return sorted(pairs, key=lambda pair: pair[0].encode())


@pytest.fixture(scope="module", params=["", "-DONEBIT_STRTOD"], ids=["from_chars", "strtod"])
def verdicts(request, tmp_path_factory):
    """verdicts("json" or "safetensors", documents) -> a line for each; with either way to read decimals.

    The fuzz target, built beside, takes its corpus and a second of changes.
    """
    folder = tmp_path_factory.mktemp("json_verdicts")
    options = ("-DONEBIT_PYTHON=OFF", f"-DCMAKE_CXX_FLAGS={request.param}")
    for target in ("json_verdicts", "json_fuzz"):
        build(ROOT, folder, target, *options)
    program = folder / "json_verdicts"

    seeds = sorted((ROOT / "tests" / "fuzz" / "corpus").iterdir())
    subprocess.run([folder / "json_fuzz", "1", "1", folder / "finding", *seeds], check=True)

    def run(kind: str, data: list[bytes], memory: int = 0, seconds: float = 120) -> list[str]:
        path = folder / "documents"
        path.write_bytes(b"".join(struct.pack("<I", len(document)) + document for document in data))
        limit = (lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory))) if memory else None
        command = [program, kind, path]
        done = subprocess.run(command, capture_output=True, check=True, timeout=seconds, preexec_fn=limit)
        return done.stdout.decode().splitlines(keepends=True)

    return run


def agree(data: list[bytes], expect: Any, lines: list[str]) -> int:
    """How many are accepted, where the readers agree on every one."""
    assert len(lines) == len(data)
    for document, line in zip(data, lines):
        wanted = expect(document)
        assert line == wanted if wanted.startswith("accepted") else line.startswith(wanted), document[:200]
    return sum(line.startswith("accepted") for line in lines)


def test_tricky_documents(verdicts):
    data = documents()
    assert len(set(data)) > 500
    assert agree(data, expected, verdicts("json", data)) > 150


def test_changed_documents(verdicts):
    data = changed_documents(20_000)
    assert agree(data, expected, verdicts("json", data)) > 2000


def test_numbers(verdicts):
    """All are accepted, and equal bit for bit."""
    data = numbers(20_000)
    assert agree(data, expected, verdicts("json", data)) == len(data)


def test_files(verdicts):
    data = files()
    assert len(set(data)) > 200
    assert agree(data, expected_file, verdicts("safetensors", data)) > 20


def test_changed_files(verdicts):
    data = changed_files(10_000)
    assert agree(data, expected_file, verdicts("safetensors", data)) > 1000


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":2}', '{"b":{"a":1,"a":1}}', "[NaN]", "[Infinity]", '{"a":-Infinity}', "[" * 100_000 + "]" * 100_000],
    ids=lambda text: text[:20],
)
def test_messages_are_those_of_python(verdicts, text):
    with pytest.raises(FormatError) as refusal:
        strict_json.loads(text, "the header")
    assert verdicts("json", [text.encode()]) == [f"refused {refusal.value}\n"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1234567",
        bytes(8),
        struct.pack("<Q", 2**24 + 1) + b"{}",
        struct.pack("<Q", 3) + b"{}",
        struct.pack("<Q", 2) + b"[]",
    ],
)
def test_messages_about_the_header_are_those_of_python(verdicts, data):
    with pytest.raises(FormatError) as refusal:
        file_format._header(data)
    assert verdicts("safetensors", [data]) == [f"refused {refusal.value}\n"]


@pytest.mark.parametrize(
    "header, message",
    [
        ({"a": {"dtype": "U8", "shape": [1]}}, 'tensor "a" lacks data_offsets'),
        ({"a": entry(more=1)}, 'tensor "a" has the unknown key "more"; write the file with a matching onebit'),
        ({"a": 1}, 'tensor "a" must be an object, got 1'),
        ({"a": entry("F16")}, 'tensor "a" must have dtype F32 or U8 or I8 and a shape, got {"dtype": "F16", '),
        ({"a": entry(shape=[1.5, "x", None])}, 'tensor "a" has an impossible shape [1.5, "x", null]'),
        ({"a": entry(offsets=[0, 1, 1])}, 'tensor "a" must have two data_offsets, got [0, 1, 1]'),
        ({"a": entry(offsets=[0, 2])}, 'the tensors are damaged (tensor "a" has impossible data_offsets [0, 2]); copy'),
        ({"a": entry(offsets=[1, 0])}, 'the tensors are damaged (tensor "a" has impossible data_offsets [1, 0]); copy'),
        (
            {"a": entry(), "b": entry(offsets=[1, 0])},
            'the tensors are damaged (tensor "b" has impossible data_offsets [1, 0])',
        ),
        ({"a": entry(shape=[2])}, 'the tensors are damaged (tensor "a" has another size than its data_offsets); copy'),
        ({}, "the tensors are damaged (1 bytes after the last tensor); copy"),
        ({"__metadata__": []}, "this safetensors file was not written by onebit; make one with onebit pack"),
        ({"__metadata__": {"a": [True]}}, 'the metadata "a" must be a text, got [true]'),
        ({"x" * 100: 1}, f'tensor "{"x" * 76}... must be an object, got 1'),
        ({"é" * 100: 1}, f'tensor "{"é" * 76}... must be an object, got 1'),
        ({'\n\x7f\x9b\\"': {}}, r'tensor "\u000a\u007f\u009b\\\"" lacks data_offsets'),
    ],
    ids=range(16),
)
def test_messages_about_tensors(verdicts, header, message):
    text = json.dumps(header).encode()
    (line,) = verdicts("safetensors", [struct.pack("<Q", len(text)) + text + b"\1"])
    assert line.startswith(f"refused {message}")


@pytest.mark.parametrize(
    "piece", ["[],", "1,", "[0],", '{"":0},', "0.1,", '"",', "1e400,", "[" * 60 + "]" * 60 + ",", f"[{'0,' * 512}0],"]
)
def test_the_longest_header_costs_little(verdicts, piece):
    """16 MiB of the smallest values take less than 1 GiB, seconds on any machine."""
    text = f'["{"x" * 100}",' + piece * ((2**24 - 200) // len(piece))
    lines = verdicts(
        "safetensors", [struct.pack("<Q", len(text)) + text[:-1].encode() + b"]"], memory=2**30, seconds=10
    )
    assert lines == ["refused the header is not a JSON object; this is not a onebit file\n"]


def test_the_most_keys_cost_little(verdicts):
    text = ",".join(f'"{i:x}":0' for i in range(1_300_000))
    assert 2**23 < len(text) < 2**24 - 10
    for last, message in (("x", 'tensor "0" must be an object, got 0'), ("0", "the header has a duplicate key")):
        header = f'{{{text},"{last}":1}}'.encode()
        lines = verdicts("safetensors", [struct.pack("<Q", len(header)) + header], memory=2**30, seconds=10)
        assert lines == [f"refused {message}\n"]
