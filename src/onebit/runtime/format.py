"""Reading, checking and writing onebit files (docs/format.md is the specification).

A file is a safetensors file whose metadata hold the graph. Everything the header claims is checked before the tensors
are read, and the writer runs the same checks as the reader, so what it writes can be read.
"""

from __future__ import annotations

import json
import math
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from onebit import files
from onebit.errors import FormatError, UserError
from onebit.runtime import graph as graphs
from onebit.runtime import strict_json, version1, vocabulary, zoo
from onebit.runtime.answers import ANSWERS
from onebit.runtime.binary import products
from onebit.runtime.bits import tail_is_zero
from onebit.runtime.fields import fields, show
from onebit.runtime.graph import Graph
from onebit.runtime.inputs import PIECES, Input, Tokens
from onebit.runtime.operators import OPERATORS, infer_shapes
from onebit.runtime.recognition import explained, recognized
from onebit.runtime.tensors import DTYPES, Arrays, Shape, Tensors, vocabulary_of

FORMAT, VERSION = "onebit", "2"
VERSIONS = ("1", VERSION)  # that are read
MAX_HEADER = 16 * 2**20  # bytes
MAX_FILE = 4 * 2**30  # bytes
MAX_SCALE = 1e30  # of weights in 8 bits: 128 times as much is still finite


class Place(NamedTuple):
    """Where the header says a tensor lies: bytes begin to end behind the header."""

    dtype: str
    shape: Shape
    begin: int
    end: int


def read(path: str | os.PathLike[str]) -> tuple[Graph, Arrays]:
    """The checked graph and its tensors ("<node>.<what>"). Raises FormatError, or UserError on an unreadable path."""
    data = read_bytes(path)
    with explaining(path):
        return decode(data)


@contextmanager
def explaining(path: str | os.PathLike[str]) -> Iterator[None]:
    """What is wrong with the bytes of a file names the file, or says what it is instead."""
    try:
        yield
    except FormatError as error:
        damaged = recognized(path).name == "safetensors" and "by onebit" not in str(error)
        other = None if damaged else explained(path, "packed")
        raise FormatError(other or f"{os.fspath(path)}: {error}") from None


def decode(data: bytes) -> tuple[Graph, Arrays]:
    """As `read`, of the bytes of a file."""
    header, start = _header(data)
    source, _, places = _split_header(header)
    graph, shapes = _check_header(source, Tensors({name: place[:2] for name, place in places.items()}))
    _check_places(places, len(data) - start)
    tensors = {}
    for name, (code, shape, begin, _) in places.items():
        array = np.frombuffer(data, DTYPES[code], math.prod(shape), start + begin)
        tensors[name] = array.reshape(shape).astype(array.dtype.newbyteorder("="))  # a copy that is aligned
    _check_values(graph, shapes, tensors)
    return _with_words(graph, tensors), tensors


def graph_of(data: bytes) -> Graph:
    """The graph of a file's bytes that were checked already."""
    return graphs.parse(_split_header(_header(data)[0])[0], OPERATORS)


def version(data: bytes) -> str:
    """The format's version of a file's bytes."""
    return _split_header(_header(data)[0])[1]


def validate(source: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Graph:
    """Checks a graph (as JSON object of version 2) together with its tensors; raises FormatError, returns the typed graph."""
    graph, shapes = _check_header(source, Tensors.of(tensors))
    _check_values(graph, shapes, tensors)
    return _with_words(graph, tensors)


def write(path: str | os.PathLike[str], graph: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a file, or raises UserError and leaves whatever was at `path` as it was.

    graph    the JSON object of docs/format.md; attributes that have their default value may be given or left out
    tensors  arrays by "<node>.<what>", float32, uint8 or int8

    The same input gives the same bytes.
    """
    data = encode(validate(graph, tensors), tensors)
    files.write(Path(path), lambda file: file.write(data), follow=True)


def encode(graph: Graph, tensors: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a file. Float tensors come first, so that all stay aligned; then by name."""
    text = json.dumps(graphs.to_dict(graph, OPERATORS), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    header: dict[str, Any] = {"__metadata__": {"format": FORMAT, "version": VERSION, "graph": text}}
    blobs: list[bytes] = []
    offset = 0  # bytes
    for code, dtype in DTYPES.items():
        for name in sorted(name for name, array in tensors.items() if array.dtype == dtype):
            array = tensors[name]
            blobs.append(array.astype(dtype).tobytes())
            end = offset + len(blobs[-1])
            header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [offset, end]}
            offset = end
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)
    if len(encoded) > MAX_HEADER:
        raise FormatError(f"the graph takes {len(encoded)} bytes, at most {MAX_HEADER} are supported")
    if 8 + len(encoded) + offset > MAX_FILE:
        raise FormatError(f"the file would have {8 + len(encoded) + offset} bytes, at most {MAX_FILE} are supported")
    return b"".join([struct.pack("<Q", len(encoded)), encoded, *blobs])


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """What is in a file, or in that of the zoo that is named so. Raises UserError for one that cannot be read, FormatError for one that is too large."""
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"a packed file is named by its path, got {type(path).__name__}")
    path = Path(zoo.located(path))
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):
            raise UserError(f"{path} is not a regular file; give the path of a file made by onebit pack")
        if info.st_size > MAX_FILE:
            raise FormatError(f"{path} has {info.st_size} bytes, at most {MAX_FILE} are supported")
        return path.read_bytes()
    except UserError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    """(The JSON header, where the tensors start): 8 bytes little-endian length, then the header."""
    if not data:
        raise FormatError("the file is empty; copy or export it again")
    if len(data) < 8:
        raise FormatError(f"the file has only {len(data)} bytes and is truncated; copy it again")
    if len(data) > MAX_FILE:
        raise FormatError(f"the file has {len(data)} bytes, at most {MAX_FILE} are supported")
    (length,) = struct.unpack_from("<Q", data)
    if not 2 <= length <= MAX_HEADER:
        raise FormatError(f"the header length {length} is not from 2 to {MAX_HEADER} bytes; this is not a onebit file")
    if 8 + length > len(data):
        raise FormatError(f"the header claims {length} bytes, the file has {len(data)} in all: it is truncated")
    header = strict_json.loads(data[8 : 8 + length], "the header")
    if not isinstance(header, dict) or data[8:9] != b"{":
        raise FormatError("the header is not a JSON object; this is not a onebit file")
    return header, 8 + length


def _split_header(header: dict[str, Any]) -> tuple[Any, str, dict[str, Place]]:
    """Header -> (graph as JSON object of version 2, version, dtype and place of every tensor)."""
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise FormatError("this safetensors file was not written by onebit; make one with onebit pack")
    found_version = metadata.get("version")
    if found_version not in VERSIONS:
        raise FormatError(
            f"format version {show(found_version)}, this onebit reads {' and '.join(VERSIONS)}; update it"
        )
    if not isinstance(metadata.get("graph"), str) or set(metadata) != {"format", "version", "graph"}:
        raise FormatError("the metadata must be format, version and graph; export the file again")
    source = strict_json.loads(metadata["graph"], "the graph")
    places = {name: _place(entry, f"tensor {name[:80]!r}") for name, entry in header.items()}
    return version1.translated(source) if found_version == "1" else source, found_version, places


def _place(entry: Any, where: str) -> Place:
    entry = fields(entry, where, {"dtype", "shape", "data_offsets"})
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES or not isinstance(shape, list):
        raise FormatError(f"{where} must have dtype {' or '.join(DTYPES)} and a shape, got {show(entry)}")
    if not all(type(size) is int and 1 <= size <= MAX_FILE for size in shape):
        raise FormatError(f"{where} has an impossible shape {show(shape)}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(at) is int for at in offsets):
        raise FormatError(f"{where} must have two data_offsets, got {show(offsets)}")
    return Place(code, tuple(shape), *offsets)


def _check_places(places: Mapping[str, Place], size: int) -> None:
    """Tensors lie one behind the other, without holes, up to the end of the file: `size` bytes behind the header."""
    end = 0
    for name, place in sorted(places.items(), key=lambda item: item[1].begin):
        claimed = math.prod(place.shape) * DTYPES[place.dtype].itemsize
        if place.begin != end or place.end - place.begin != claimed:
            raise FormatError(
                f"the tensors are damaged ({show(name)} of {claimed} bytes at {place.begin} to {place.end}); "
                "copy or export the file again"
            )
        end = place.end
    if end != size:
        raise FormatError(f"the tensors are damaged ({end} bytes are claimed, {size} are there); copy the file again")


def _check_header(source: Any, tensors: Tensors) -> tuple[Graph, dict[str, Shape]]:
    """The graph, and the shape of every value by name: those of nodes and, as (H, W, C) and so on, of inputs."""
    graph = graphs.parse(source, OPERATORS)
    shapes = infer_shapes(graph, tensors)
    for source in graph.inputs:
        if isinstance(source, Tokens) and source.holds == PIECES:
            tensors.expect_vocabulary(source.name)
    tensors.check_all_used()
    kind, labels = ANSWERS[graph.task.answer], graph.task.labels
    image = None if graph.image is None else graph.image.shape
    kind.check(graph.task.settings, image, {output.name: shapes[output.node] for output in graph.outputs})
    channels = shapes[graph.outputs[0].node][-1] - kind.background
    if labels is not None and len(labels) != channels:
        raise FormatError(
            f"{len(labels)} labels for the {channels} channels of the first output, {graph.outputs[0].name}"
            f"{', behind the background' if kind.background else ''}; give one for each, or null"
        )
    return graph, {**{source.name: source.map for source in graph.inputs}, **shapes}


def _check_values(graph: Graph, shapes: Mapping[str, Shape], tensors: Mapping[str, np.ndarray]) -> None:
    for name, array in tensors.items():
        if array.dtype == np.float32 and not np.isfinite(array).all():
            raise FormatError(f"tensor {name} contains NaN or infinity; train again with a lower learning rate")
        if name.endswith(".weight_scale") and not np.abs(array).max() <= MAX_SCALE:
            raise FormatError(f"tensor {name} holds scales above {MAX_SCALE:.0e}; pack the model again")
    for node in graph.nodes:
        if node.op not in ("binary_conv", "binary_linear", "binary_embedding"):
            continue
        weights = node["width"] if node.op == "binary_embedding" else products(node, shapes[node.inputs[0]][-1])
        if not tail_is_zero(tensors[f"{node.name}.bits"], weights):
            raise FormatError(f"tensor {node.name}.bits has bits set past its last weight; pack the weights again")


def _with_words(graph: Graph, tensors: Mapping[str, np.ndarray]) -> Graph:
    """The graph whose inputs of word pieces know them. Raises FormatError for bytes that are no vocabulary."""
    found: list[Input] = []
    for source in graph.inputs:
        if isinstance(source, Tokens) and source.holds == PIECES:
            tensor = vocabulary_of(source.name)
            pieces = vocabulary.decoded(tensors[tensor].tobytes(), source.count, f"tensor {tensor}")
            source = replace(source, vocabulary=pieces)
        found.append(source)
    return replace(graph, inputs=tuple(found))
