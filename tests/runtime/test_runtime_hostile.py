"""Files of version 1, and bytes of any, that must be refused, each with a message that says what is wrong."""

import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from nets import Builder
from onebit.errors import FormatError, UserError
from onebit.runtime import format as file_format
from onebit.runtime import load, native, version1

Parts = tuple[dict[str, Any], dict[str, np.ndarray]]


def parts() -> Parts:
    """A valid network of version 1: binary_conv "b" -> maxout "m" -> max_pool "p" -> flatten "f" -> linear "l"."""
    net = Builder(0, (3, 8, 8))
    renamed = {}
    x = net.binary_conv("input", 3, 5, 3, padding=[1, 1], threshold="channel")
    x = net.node("maxout", [x], {"channels": net.floats(2, 5)})
    x = net.node("max_pool", [x], kernel=[2, 2], stride=[2, 2])
    x = net.node("flatten", [x])
    x = net.node("linear", [x], {"weight": net.floats(4, 80)})
    graph = net.graph1(x)
    for node, short in zip(graph["nodes"], "bmpfl"):
        renamed[node["name"]] = short
        node["name"] = short
        node["inputs"] = [renamed.get(name, name) for name in node["inputs"]]
    graph["output"] = "l"
    tensors = {}
    for name, array in net.tensors.items():
        node_name, _, what = name.rpartition(".")
        tensors[f"{renamed[node_name]}.{what}"] = array
    return graph, tensors


def of(which: str, **changes: Any) -> Callable[[Parts], Any]:
    """The node of this name, or the first of this operator, with other attributes; None leaves one out."""

    def change(source: Parts) -> None:
        node = next(node for node in source[0]["nodes"] if which in (node["name"], node["op"]))
        for key, value in changes.items():
            if value is None:
                del node[key]
            else:
                node[key] = value

    return change


def raw(graph: Any, tensors: dict[str, np.ndarray], **metadata: str) -> bytes:
    text = graph if isinstance(graph, str) else json.dumps(graph)
    return safetensors.numpy.save(tensors, {"format": "onebit", "version": "1", "graph": text} | metadata)


def header_only(header: str) -> bytes:
    encoded = header.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def refuse(tmp_path: Path, data: bytes, message: str) -> None:
    """Both readers refuse the file, for the same reason."""
    path = tmp_path / "hostile.onebit"
    path.write_bytes(data)
    for backend in ("reference", "engine") if native.available() else ("reference",):
        with pytest.raises(FormatError) as caught:
            load(path, backend=backend)
        found = str(caught.value)
        assert re.search(message.replace('"', "'"), found.replace('"', "'")), f"{backend}: {found}"
        assert len(found) < 500 + len(str(path))


def refuse_graph(tmp_path: Path, data: bytes, made: Callable[[], Parts], message: str) -> None:
    """Both readers refuse the file, and the writer writes none of the graph and tensors that are made."""
    refuse(tmp_path, data, message)
    with pytest.raises(FormatError):
        file_format.write(tmp_path / "written.onebit", *made())
    assert not (tmp_path / "written.onebit").exists()


def refuse_changed(tmp_path: Path, make: Callable[..., bytes], source: Any, mutation: tuple[Any, str]) -> None:
    """`refuse_graph` of a graph and tensors after a change of them."""
    change, message = mutation
    change(source)
    refuse_graph(tmp_path, make(*source), lambda: source, message)


def accept(tmp_path: Path, data: bytes) -> None:
    """The file is read, and written as it was read."""
    (tmp_path / "good").write_bytes(data)
    graph, tensors = file_format.read(tmp_path / "good")
    assert file_format.decode(file_format.encode(graph, tensors))[0] == graph


def test_the_unchanged_file_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "good.onebit").write_bytes(raw(*parts()))
    file_format.read(tmp_path / "good.onebit")


GOOD = raw(*parts())
BYTES = {
    "empty": (b"", "empty"),
    "short": (b"\x10\x00", "truncated"),
    "header beyond the end": (struct.pack("<Q", 1000) + b"{}", "truncated"),
    "huge header": (struct.pack("<Q", 2**63) + b"{}", "header length"),
    "zero header": (struct.pack("<Q", 0) + b"{}", "header length"),
    "data cut off": (GOOD[:-10], "damaged"),
    "header cut off": (GOOD[:100], "truncated"),
    "trailing bytes": (GOOD + b"x", "damaged"),
    "not JSON": (header_only("hello, this is text"), "not valid JSON"),
    "not UTF-8": (struct.pack("<Q", 4) + b'{"\xff"', "not valid JSON"),
    "not an object": (header_only("[1, 2]"), "not a JSON object"),
    "deep nesting": (header_only("[" * 100_000), "nested too deeply"),
    "duplicate key": (header_only('{"a": 1, "a": 2}'), "duplicate key"),
    "huge integer": (header_only('{"a": ' + "9" * 5000 + "}"), "not valid JSON"),
    "a zip file": (b"PK\x03\x04" + b"\x00" * 60, "header length|truncated"),
    "foreign safetensors": (safetensors.numpy.save({"x": np.zeros(3, np.float32)}), "not written by onebit"),
    "other format": (raw(*parts(), format="gguf"), "not written by onebit"),
    "next version": (raw(*parts(), version="3"), "format version '3'"),
    "version 1 called 2": (raw(*parts(), version="2"), "graph lacks inputs"),
    "a byte order mark": (header_only("\ufeff{}"), "not valid JSON"),
    "a space first": (header_only(" {}"), "not a JSON object"),
    "UTF-16": (struct.pack("<Q", 8) + "{ } ".encode("utf-16-le"), "not written by onebit|not valid JSON"),
    "half a character": (header_only('{"\\ud800": 1}'), "not valid Unicode"),
    "half a character in the graph": (raw('{"a": "\\ud83d!"}', parts()[1]), "not valid Unicode"),
    "an integer of 41 digits": (header_only('{"a": ' + "9" * 41 + "}"), "not valid JSON"),
    "65 lists": (header_only('{"a": ' + "[" * 64 + "]" * 64 + "}"), "nested too deeply"),
    "a graph of 65 lists": (raw("[" * 65 + "]" * 65, parts()[1]), "nested too deeply"),
    "a tab in a text": (raw('{"a": "\t"}', parts()[1]), "not valid JSON"),
    "extra metadata": (raw(*parts(), more="x"), "metadata must be"),
    "graph not JSON": (raw("{", parts()[1]), "graph is not valid JSON"),
    "graph with NaN": (raw('{"a": NaN}', parts()[1]), "contains NaN"),
    "graph nested deeply": (raw("[" * 100_000, parts()[1]), "nested too deeply"),
    "graph a list": (raw([], parts()[1]), "graph must be an object"),
}


@pytest.mark.parametrize("name", BYTES)
def test_hostile_bytes(tmp_path: Path, name: str) -> None:
    refuse(tmp_path, *BYTES[name])


def places(change: Callable[[dict[str, Any]], None]) -> bytes:
    """The good file with another header, of the same length."""
    (length,) = struct.unpack_from("<Q", GOOD)
    header = json.loads(GOOD[8 : 8 + length])
    change(header)
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + GOOD[8 + length :]


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0], "two data_offsets"),
        (None, "two data_offsets"),
        ([0, 1.0], "two data_offsets"),
        ([True, 4], "two data_offsets"),
        ([0, 4], "damaged"),
        ([-4, 1276], "damaged|two data_offsets"),
        ([2**70, 2**70 + 1280], "damaged|two data_offsets"),
    ],
)
def test_hostile_places(tmp_path: Path, offsets: Any, message: str) -> None:
    refuse(tmp_path, places(lambda header: header["l.weight"].update(data_offsets=offsets)), message)


def test_tensors_that_share_bytes(tmp_path: Path) -> None:
    refuse(tmp_path, places(lambda h: h["b.threshold"].update(data_offsets=h["b.channels"]["data_offsets"])), "damaged")


@pytest.mark.parametrize(
    ("shape", "message"),
    [([2**40, 2**40], "impossible shape"), ([-1], "impossible shape"), ([1.5], "impossible shape"), ("x", "must have")],
)
def test_hostile_tensor_shapes(tmp_path: Path, shape: Any, message: str) -> None:
    metadata = {"format": "onebit", "version": "1", "graph": json.dumps(parts()[0])}
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}
    refuse(tmp_path, header_only(json.dumps({"__metadata__": metadata, "b.bits": entry})), message)


def test_a_claimed_size_is_not_allocated(tmp_path: Path) -> None:
    graph, tensors = parts()
    data = raw(graph, tensors)
    data = data.replace(b'"shape":[4,80]', b'"shape":[9,80]')
    refuse(tmp_path, data, "damaged")


def set_in(*path: Any, to: Any) -> Callable[[Parts], Any]:
    def change(source: Parts) -> None:
        at: Any = source[0]
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = to

    return change


def node(index: int, key: str, to: Any) -> Callable[[Parts], Any]:
    return set_in("nodes", index, key, to=to)


def tensor(name: str, function: Callable[[np.ndarray], np.ndarray]) -> Callable[[Parts], Any]:
    return lambda source: source[1].update({name: np.ascontiguousarray(function(source[1][name]))})


def poke(name: str, value: float) -> Callable[[Parts], Any]:
    def change(source: Parts) -> None:
        source[1][name].flat[0] = value

    return change


MUTATIONS: dict[str, tuple[Callable[[Parts], Any], str]] = {
    "missing field": (lambda p: p[0].pop("method"), "graph lacks method"),
    "unknown field": (set_in("evil", to=1), "unknown key 'evil'"),
    "name not a string": (set_in("name", to=5), "graph.name must be a string"),
    "long name": (set_in("name", to="x" * 5000), "graph.name must be a string"),
    "accuracy a string": (set_in("accuracy", to="high"), "graph.accuracy must be a finite number"),
    "labels not strings": (set_in("labels", to=[1, 2, 3, 4]), "graph.task.labels"),
    "too few labels": (set_in("labels", to=["a"]), "1 labels for the 4 channels"),
    "image shape short": (set_in("input", "shape", to=[3, 8]), "input 'input': shape must be"),
    "image of a type": (set_in("input", "type", to="image"), "unknown key 'type'"),
    "image without std": (lambda p: p[0]["input"].pop("std"), "graph.input lacks std"),
    "outputs": (set_in("outputs", to=[{"name": "output", "node": "l"}]), "unknown key 'outputs'"),
    "task beside accuracy": (
        lambda p: p[0].update(task={"name": "tags", "answer": "several"}, accuracy=1),
        "leave one out",
    ),
    "task of classification": (set_in("task", to={"name": "classification", "answer": "one"}), "leave one out"),
    "task with labels": (set_in("task", to={"name": "tags", "answer": "one", "labels": []}), "unknown key 'labels'"),
    "task null": (set_in("task", to=None), "graph.task must be an object"),
    "image shape zero": (set_in("input", "shape", to=[3, 0, 8]), "from 1 to"),
    "image shape huge": (set_in("input", "shape", to=[3, 10**9, 8]), "from 1 to"),
    "image shape true": (set_in("input", "shape", to=[3, True, 8]), "must be an integer"),
    "mean too short": (set_in("input", "mean", to=[0.5]), "list of 3 numbers"),
    "std zero": (set_in("input", "std", to=[1, 0, 1]), "must not contain 0"),
    "no nodes": (set_in("nodes", to=[]), "graph.nodes"),
    "node a string": (set_in("nodes", 1, to="relu"), "must be an object"),
    "unknown operator": (node(1, "op", "exec"), "unknown operator 'exec'"),
    "operator a list": (node(1, "op", ["relu"]), "must be an object"),
    "unknown attribute": (node(1, "alpha", 1), "unknown key 'alpha'"),
    "bad name": (node(1, "name", "../../etc passwd"), "letters, digits"),
    "name input": (node(0, "name", "input"), "two nodes are named 'input'"),
    "duplicate name": (node(1, "name", "b"), "two nodes are named 'b'"),
    "refers to itself": (node(1, "inputs", ["m"]), "cyclic or unknown"),
    "refers ahead": (node(1, "inputs", ["p"]), "cyclic or unknown"),
    "refers nowhere": (node(1, "inputs", ["zzz"]), "cyclic or unknown"),
    "two inputs": (node(1, "inputs", ["b", "b"]), r"takes 1 input\(s\)"),
    "input a dict": (node(1, "inputs", [{}]), "must be a string"),
    "unknown output": (set_in("output", to="zzz"), "unknown node 'zzz'"),
    "output the image": (set_in("output", to="input"), "unknown node 'input'"),
    "stride zero": (node(0, "stride", [0, 1]), "stride must be an integer"),
    "stride float": (node(0, "stride", [1.0, 1]), "stride must be an integer"),
    "stride of three": (node(0, "stride", [1, 1, 1]), "list of two integers"),
    "padding negative": (node(0, "padding", [-1, 1]), "padding must be an integer"),
    "padding huge": (node(0, "padding", [2**40, 1]), "padding must be an integer"),
    "output too large": (node(0, "padding", [2**15, 2**15]), "the image is too small or big"),
    "dilation too wide": (node(0, "dilation", [20, 20]), "the image is too small or big"),
    "kernel too large": (node(0, "kernel", [2**15, 2**15]), "products per output"),
    "kernel missing": (lambda p: p[0]["nodes"][0].pop("kernel"), "lacks kernel"),
    "groups": (node(0, "groups", 2), "must divide"),
    "in_channels": (node(0, "in_channels", 4), "the map has 3"),
    "shift infinite": (node(0, "shift", 1e300), "finite number"),
    "threshold unknown": (node(0, "threshold", "median"), "threshold must be"),
    "threshold a list": (node(0, "threshold", [0]), "finite number"),
    "threshold not per channel": (node(0, "threshold", 0), "'b.threshold' belongs to no node"),
    "pool padding": (node(2, "padding", [2, 2]), "at most half"),
    "pool without stride": (lambda p: p[0]["nodes"][2].pop("stride"), "lacks stride"),
    "ceil_mode a number": (node(2, "ceil_mode", 1), "true or false"),
    "linear on a map": (node(4, "inputs", ["p"]), "needs a vector"),
    "flatten twice": (node(3, "inputs", ["b"]), r"shape \(any, 320\)"),
    "tensor missing": (lambda p: p[1].pop("m.channels"), "m.channels is missing"),
    "tensor extra": (lambda p: p[1].update(extra=np.zeros(2, np.float32)), "'extra' belongs to no node"),
    "bits as float": (tensor("b.bits", lambda a: a.astype(np.float32)), "must be U8, got F32"),
    "bits as int64": (tensor("b.bits", lambda a: a.astype(np.int64)), "must have dtype"),
    "bits too short": (tensor("b.bits", lambda a: a[:, :-1]), r"shape \(any, 4\)"),
    "scales for other channels": (tensor("b.channels", lambda a: a[:, :-1]), r"shape \(any, 5\)"),
    "one row of scales": (tensor("b.channels", lambda a: a[:1]), "2 rows"),
    "weight transposed": (tensor("l.weight", lambda a: a.T), r"shape \(any, 80\)"),
    "8 bits without scale": (tensor("l.weight", lambda a: a.astype(np.int8)), "l.weight_scale is missing"),
    "scale of float weights": (
        lambda p: p[1].update({"l.weight_scale": np.ones(len(p[1]["l.weight"]), np.float32)}),
        "'l.weight_scale' belongs to no node",
    ),
    "scale too large": (
        lambda p: p[1].update(
            {"l.weight": p[1]["l.weight"].astype(np.int8), "l.weight_scale": np.full(len(p[1]["l.weight"]), 1e31, "f4")}
        ),
        "scales above 1e\\+30",
    ),
    "no outputs": (tensor("l.weight", lambda a: a[:0]), "impossible shape"),
    "tail bits": (tensor("b.bits", lambda a: a | 0x80), "past its last weight"),
    "NaN scale": (poke("b.channels", np.nan), "b.channels contains NaN"),
    "infinite threshold": (poke("b.threshold", np.inf), "b.threshold contains NaN or infinity"),
    "NaN weight": (poke("l.weight", np.nan), "l.weight contains NaN"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_hostile_graphs(tmp_path: Path, name: str) -> None:
    source = parts()
    change, message = MUTATIONS[name]
    change(source)
    refuse_graph(tmp_path, raw(*source), lambda: (version1.translated(source[0]), source[1]), message)


def test_tail_bits_of_a_binary_linear(tmp_path: Path) -> None:
    net = Builder(0, (10, 1, 1))
    tensors = {"bits": np.full((2, 2), 255, np.uint8), "channels": net.floats(2, 2)}
    graph = net.graph1(net.node("binary_linear", [net.node("flatten", ["input"])], tensors))
    refuse(tmp_path, raw(graph, net.tensors), "past its last weight")


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="not a regular file"):
        file_format.read(tmp_path / "pipe")


def test_every_flipped_header_byte_is_refused_or_read(tmp_path: Path) -> None:
    """No damage to the header raises anything but a FormatError."""
    path = tmp_path / "flipped.onebit"
    random = np.random.default_rng(0)
    (length,) = struct.unpack_from("<Q", GOOD)
    for at in random.integers(0, 8 + length, 300):
        data = bytearray(GOOD)
        data[at] ^= 1 << random.integers(8)
        path.write_bytes(data)
        try:
            file_format.read(path)
        except FormatError as error:
            assert str(error)
