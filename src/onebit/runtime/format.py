"""Reading, checking and writing onebit files (docs/format.md is the specification).

A file is a safetensors file whose metadata hold the graph. Everything the header claims is checked before the tensors
are read, and the writer runs the same checks as the reader, so what it writes can be read.
"""

from __future__ import annotations

import json
import os
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from onebit import files
from onebit.errors import FormatError, UserError
from onebit.runtime import graph as graphs
from onebit.runtime.bits import tail_is_zero
from onebit.runtime.graph import Graph
from onebit.runtime.operators import OPERATORS, Shape, Tensors, infer_shapes, products
from onebit.runtime.recognition import explained, recognized

FORMAT, VERSION = "onebit", "1"
MAX_HEADER = 16 * 2**20  # bytes
MAX_FILE = 4 * 2**30  # bytes
MAX_SCALE = 1e30  # of weights in 8 bits: 128 times as much is still finite
_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "U8": np.dtype("u1"), "I8": np.dtype("i1")}


def read(path: str | os.PathLike[str]) -> tuple[Graph, dict[str, np.ndarray]]:
    """The checked graph and its tensors ("<node>.<what>"). Raises FormatError, or UserError on an unreadable path."""
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"a packed file is named by its path, got {type(path).__name__}")
    path = Path(path)
    data = _read_bytes(path)
    try:
        return decode(data)
    except FormatError as error:
        damaged = recognized(path).name == "safetensors" and "by onebit" not in str(error)
        other = None if damaged else explained(path, "packed")
        raise FormatError(other or f"{path}: {error}") from None


def decode(data: bytes) -> tuple[Graph, dict[str, np.ndarray]]:
    """As `read`, of the bytes of a file."""
    graph_source, found = _split_header(_header(data))
    graph, shapes = _check_header(graph_source, Tensors(found))
    try:
        tensors = safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
        raise FormatError(f"the tensors are damaged ({str(error)[:200]}); copy or export the file again") from None
    _check_values(graph, shapes, tensors)
    return graph, tensors


def validate(source: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Graph:
    """Checks a graph (as JSON object) together with its tensors; raises FormatError, returns the typed graph."""
    graph, shapes = _check_header(source, Tensors.of(tensors))
    _check_values(graph, shapes, tensors)
    return graph


def write(path: str | os.PathLike[str], graph: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a file, or raises UserError and leaves whatever was at `path` as it was.

    graph    the JSON object of docs/format.md; attributes that have their default value may be given or left out
    tensors  arrays by "<node>.<what>", float32, uint8 or int8

    The same input gives the same bytes.
    """
    path = Path(path)
    checked = validate(graph, tensors)
    data = encode(checked, tensors)
    files.write(path, lambda file: file.write(data), follow=True)


def encode(graph: Graph, tensors: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a file. Float tensors come first, so that all stay aligned; then by name."""
    text = json.dumps(graphs.to_dict(graph, OPERATORS), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    header: dict[str, Any] = {"__metadata__": {"format": FORMAT, "version": VERSION, "graph": text}}
    blobs: list[bytes] = []
    offset = 0  # bytes
    for code, dtype in _DTYPES.items():
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
    return b"".join([struct.pack("<Q", len(encoded)), encoded, *blobs])


def _read_bytes(path: Path) -> bytes:
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):
            raise UserError(f"{path} is not a regular file; give the path of a file made by onebit pack")
        if info.st_size > MAX_FILE:
            raise FormatError(f"{path} has {info.st_size} bytes, at most {MAX_FILE} are supported")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def _header(data: bytes) -> dict[str, Any]:
    """The JSON header of a safetensors file: 8 bytes little-endian length, then the header."""
    if not data:
        raise FormatError("the file is empty; copy or export it again")
    if len(data) < 8:
        raise FormatError(f"the file has only {len(data)} bytes and is truncated; copy it again")
    (length,) = struct.unpack_from("<Q", data)
    if not 2 <= length <= MAX_HEADER:
        raise FormatError(f"the header length {length} is not from 2 to {MAX_HEADER} bytes; this is not a onebit file")
    if 8 + length > len(data):
        raise FormatError(f"the header claims {length} bytes, the file has {len(data)} in all: it is truncated")
    header = _json(data[8 : 8 + length], "the header")
    if not isinstance(header, dict):
        raise FormatError("the header is not a JSON object; this is not a onebit file")
    return header


def _json(data: bytes | str, where: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise FormatError(f"{where} has a duplicate key")
        return result

    def refuse(constant: str) -> None:
        raise FormatError(f"{where} contains {constant}, which is not JSON")

    try:
        return json.loads(data, object_pairs_hook=unique, parse_constant=refuse)
    except FormatError:
        raise
    except RecursionError:
        raise FormatError(f"{where} is nested too deeply") from None
    except ValueError as error:  # JSON, UTF-8 and oversized integers
        raise FormatError(f"{where} is not valid JSON ({str(error)[:80]}); this is not a onebit file") from None


def _split_header(header: dict[str, Any]) -> tuple[Any, dict[str, tuple[str, Shape]]]:
    """Header -> (graph as JSON object, dtype and shape of every tensor)."""
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise FormatError("this safetensors file was not written by onebit; make one with onebit pack")
    if metadata.get("version") != VERSION:
        raise FormatError(
            f"format version {graphs.show(metadata.get('version'))}, this onebit reads {VERSION!r}; update it"
        )
    if not isinstance(metadata.get("graph"), str) or set(metadata) != {"format", "version", "graph"}:
        raise FormatError("the metadata must be format, version and graph; export the file again")
    found = {}
    for name, entry in header.items():
        where = f"tensor {name[:80]!r}"
        entry = graphs.fields(entry, where, {"dtype", "shape", "data_offsets"})
        shape = entry["shape"]
        if not isinstance(entry["dtype"], str) or entry["dtype"] not in _DTYPES or not isinstance(shape, list):
            raise FormatError(f"{where} must have dtype {' or '.join(_DTYPES)} and a shape, got {graphs.show(entry)}")
        if not all(type(size) is int and 0 <= size <= MAX_FILE for size in shape):
            raise FormatError(f"{where} has an impossible shape {graphs.show(shape)}")
        found[name] = (entry["dtype"], tuple(shape))
    return _json(metadata["graph"], "the graph"), found


def _check_header(source: Any, tensors: Tensors) -> tuple[Graph, dict[str, Shape]]:
    graph = graphs.parse(source, OPERATORS)
    _, height, width = graph.input_shape
    shapes = infer_shapes(graph, tensors, height, width)
    tensors.check_all_used()
    output = shapes[graph.output]
    if graph.labels is not None and len(graph.labels) != output[-1]:
        raise FormatError(f"{len(graph.labels)} labels for {output[-1]} outputs; give one label per output or null")
    return graph, shapes


def _check_values(graph: Graph, shapes: Mapping[str, Shape], tensors: Mapping[str, np.ndarray]) -> None:
    for name, array in tensors.items():
        if array.dtype == np.float32 and not np.isfinite(array).all():
            raise FormatError(f"tensor {name} contains NaN or infinity; train again with a lower learning rate")
        if name.endswith(".weight_scale") and not np.abs(array).max() <= MAX_SCALE:
            raise FormatError(f"tensor {name} holds scales above {MAX_SCALE:.0e}; pack the model again")
    for node in graph.nodes:
        if node.op not in ("binary_conv", "binary_linear"):
            continue
        if not tail_is_zero(tensors[f"{node.name}.bits"], products(node, shapes[node.inputs[0]][-1])):
            raise FormatError(f"tensor {node.name}.bits has bits set past its last weight; pack the weights again")
