"""Changes a valid file a little and writes it back: one field, one tensor, one node.

Such a file passes most checks and reaches the later ones, which random bytes never do.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable
from random import Random
from typing import Any

INTEGERS = [0, 1, -1, 2, 3, 4, 7, 8, 15, 17, 31, 64, 255, 1000, 4095, 2**15 - 1, 2**15, 2**15 + 1, 2**24, 2**24 + 1]
INTEGERS += [2**28, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**300]
NUMBERS = [0.5, -0.0, 1.0, 1e-13, 1e-45, 3.4e38, 3.41e38, -1e39, 1e308, -2.5]
TEXTS = [
    "",
    "input",
    "tokens",
    "sample_mean",
    "boxes",
    "one",
    "channel",
    "median",
    "height",
    "width",
    "channels",
    "reflect",
    "circular",
    "nearest",
    "bilinear",
    "F32",
    "U8",
    "I64",
    "\ud800",
    "x" * 1001,
    "\x00",
    "ü",
    "a.b",
]
FLOATS = [math.nan, math.inf, -math.inf, 3.4e38, -3.4e38, 1e-45, -0.0, 0.0, 1.0]
DEEP = "@deep{}@"  # stands for so many nested lists, which json.dumps would not write
_DEEP = re.compile(r'"@deep(\d+)@"')
DEPTHS = [10, 200, 900, 940, *range(955, 1000)]  # around the interpreter's limit of recursion
SIZES = {"F32": 4, "U8": 1, "I8": 1}  # bytes of an element
PLAIN = [
    "relu",
    "hardtanh",
    "add",
    "concat",
    "flatten",
    "global_avg_pool",
    "max_pool",
    "avg_pool",
    "option_a",
    "slice",
    "channel_shuffle",
    "to_sequence",
    "pad",
    "upsample",
    "attention",
    *("hardsigmoid", "hardswish", "sigmoid", "tanh", "silu", "elu", "gelu", "gelu_tanh", "softmax", "clip", "multiply"),
]  # no tensors


class File:
    """A file taken apart: graph, metadata and tensors [dtype, shape, bytes] by name."""

    def __init__(self, data: bytes) -> None:
        """Raises ValueError, KeyError or TypeError if there is nothing to take apart."""
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        self.metadata = header.pop("__metadata__")
        self.graph: Any = json.loads(self.metadata["graph"])
        self.tensors: dict[str, list[Any]] = {}
        for name, entry in header.items():
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            self.tensors[name] = [entry["dtype"], list(entry["shape"]), data[begin:end]]

    def join(self, change_header: Callable[[dict[str, Any]], None] | None = None) -> bytes:
        """The bytes of the file; `change_header` may make the header disagree with the tensors."""
        header: dict[str, Any] = {"__metadata__": self.metadata | {"graph": _text(self.graph)}}
        offset = 0
        for name, (dtype, shape, blob) in self.tensors.items():
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(blob)]}
            offset += len(blob)
        if change_header:
            change_header(header)
        encoded = _text(header).encode()
        return struct.pack("<Q", len(encoded)) + encoded + b"".join(blob for _, _, blob in self.tensors.values())


def mutate(data: bytes, random: Random) -> bytes:
    """A changed file; if there is nothing to take apart, changed bytes."""
    try:
        file = File(data)
        for _ in range(random.choice([1, 1, 1, 2, 4])):
            random.choice(CHANGES)(file, random)
        header = _change_header(random) if random.random() < 0.1 else None
        changed = file.join(header)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, struct.error, RecursionError):
        changed = data
    return _change_bytes(changed, random) if changed == data or random.random() < 0.05 else changed


def _text(value: Any) -> str:
    return _DEEP.sub(lambda found: "[" * int(found[1]) + "]" * int(found[1]), json.dumps(value))


def _value(random: Random) -> Any:
    kind = random.random()
    if kind < 0.45:
        return random.choice(INTEGERS)
    if kind < 0.6:
        return [random.choice(INTEGERS[:16]), random.choice(INTEGERS[:16])]
    if kind < 0.7:
        return random.choice(NUMBERS)
    if kind < 0.85:
        return random.choice(TEXTS)
    if kind < 0.92:
        return DEEP.format(random.choice(DEPTHS))
    return random.choice([True, False, None, [], {}, [[]], [1, 2, 3], {"op": "relu"}])


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a JSON value."""
    found = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found.append((value, key))
        found += _places(item)
    return found


def _field(file: File, random: Random) -> None:
    """Another value, none, or one more, somewhere in the graph."""
    container, key = random.choice(_places(file.graph))
    if isinstance(container, dict) and random.random() < 0.15:
        del container[key]
    elif isinstance(container, list) and random.random() < 0.1:
        container.insert(key, container[key])
    else:
        container[key] = _value(random)


def _number(file: File, random: Random) -> None:
    """Another number of the same kind where there is a number."""
    places = [(c, k) for c, k in _places(file.graph) if type(c[k]) in (int, float)]
    container, key = random.choice(places)
    if type(container[key]) is int:
        container[key] = random.choice([*INTEGERS, container[key] + 1, container[key] * 2])
    else:
        container[key] = random.choice(NUMBERS)


def _attribute(file: File, random: Random) -> None:
    """A valid attribute of some operator, on any node."""
    node = random.choice(file.graph["nodes"])
    pair = [random.choice(INTEGERS[:18]), random.choice(INTEGERS[:18])]
    key = random.choice(
        [
            *("stride", "padding", "dilation", "kernel", "groups", "in_channels", "shift", "threshold", "pad"),
            *("axis", "start", "stop", "step", "pixels", "mode", "scale", "align_corners", "output_padding", "heads"),
            *("low", "high", "alpha", "eps"),
        ]
    )
    node[key] = {
        "groups": random.choice(INTEGERS[:12]),
        "in_channels": random.choice(INTEGERS),
        "shift": random.choice(NUMBERS),
        "threshold": random.choice([0, 1e38, "sample_mean", "channel"]),
        **dict.fromkeys(("start", "stop", "step", "heads"), random.choice(INTEGERS[:12])),
        **dict.fromkeys(
            ("axis", "mode"), random.choice(["channels", "height", "width", "zeros", "circular", "nearest"])
        ),
        "pixels": [*pair, *pair],
        "align_corners": random.random() < 0.5,
        **{name: random.choice(NUMBERS) for name in ("low", "high", "alpha", "eps")},
    }.get(key, pair)


def _rewire(file: File, random: Random) -> None:
    nodes = file.graph["nodes"]
    node = random.choice(nodes)
    if random.random() < 0.2:
        container, key = random.choice(_outputs(file))
        container[key] = node["name"]
    else:
        values = [*_inputs(file), *(n["name"] for n in nodes)]
        at = random.randrange(len(node["inputs"]) or 1)
        node["inputs"][at : at + 1] = [random.choice(values)]  # of a constant, one where there was none


def _add_nodes(file: File, random: Random) -> None:
    """Nodes without tensors after another, whose readers may then read the last of them."""
    nodes = file.graph["nodes"]
    at = random.randrange(len(nodes))
    before = random.choice([*_inputs(file), *(node["name"] for node in nodes[:at])])
    for _ in range(random.choice([1, 1, 2, 5, 200])):
        op = random.choice(PLAIN)
        node: dict[str, Any] = {"op": op, "name": f"new{len(nodes)}.{random.randrange(10**6)}", "inputs": [before]}
        known = [before, *_inputs(file), *(n["name"] for n in nodes[:at])]
        node["inputs"] += random.choices(known, k={"add": 1, "concat": 1, "multiply": 1, "attention": 2}.get(op, 0))
        if op.endswith("max_pool") or op == "avg_pool":
            kernel = [random.choice([1, 1, 2, 3, 7, 2**15]) for _ in range(2)]
            node |= {"kernel": kernel, "stride": [random.choice([1, 2, 9]) for _ in range(2)]}
            node |= {"padding": [size // 2 for size in kernel], "ceil_mode": random.random() < 0.5}
        if op == "option_a":
            node |= {"stride": random.choice([1, 2, 100]), "pad": [random.choice([0, 1, 2**15]), random.choice([0, 3])]}
        if op == "clip":
            node |= {"low": random.choice([-1, 0, -0.0, 2.5]), "high": random.choice([0, 1, 6])}
        node |= _moving(op, random)
        nodes.insert(at, node)
        at, before = at + 1, node["name"]
    reader = nodes[at]
    if reader["inputs"] and random.random() < 0.7:
        reader["inputs"][random.randrange(len(reader["inputs"]))] = before


def _moving(op: str, random: Random) -> dict[str, Any]:
    """Attributes of the operators that move values, mostly such as fit small maps."""
    axis, groups = random.choice(["channels", "height", "width"]), random.choice([1, 1, 2, 3, 2**15])
    if op == "concat":
        return {"axis": axis} if random.random() < 0.5 else {}
    if op == "slice":
        start = random.choice([0, 0, 1, 5])
        return {
            "axis": axis,
            "start": start,
            "stop": start + random.choice([1, 1, 3]),
            "step": random.choice([1, 2, 9]),
        }
    if op == "channel_shuffle":
        return {"groups": groups}
    if op == "pad":
        mode = random.choice(["zeros", "reflect", "replicate", "circular"])
        return {"pixels": random.choices([0, 0, 1, 3, 2**15], k=4), "mode": mode}
    if op == "upsample":
        mode = random.choice([{"mode": "nearest"}, {"mode": "bilinear", "align_corners": random.random() < 0.5}])
        return {"scale": random.choices([1, 2, 3, 2**15], weights=[8, 4, 4, 1], k=2), **mode}
    return {"heads": groups, "scale": random.choice([0.5, -3, 1e38])} if op == "attention" else {}


def _drop_node(file: File, random: Random) -> None:
    """A node less; its readers read what it read, and its tensors go with it."""
    nodes = file.graph["nodes"]
    node = nodes.pop(random.randrange(len(nodes)))
    for other in nodes:
        other["inputs"] = [
            (node["inputs"] or _inputs(file))[0] if name == node["name"] else name for name in other["inputs"]
        ]
    for container, key in _outputs(file):
        if container[key] == node["name"]:
            container[key] = nodes[-1]["name"]
    for name in [name for name in file.tensors if name.rpartition(".")[0] == node["name"]]:
        del file.tensors[name]


def _inputs(file: File) -> list[str]:
    """Names of the inputs, of either version."""
    return ["input"] if "input" in file.graph else [entry["name"] for entry in file.graph["inputs"]]


def _outputs(file: File) -> list[tuple[Any, str]]:
    """Where the graph, of either version, says which nodes its outputs are."""
    return [(file.graph, "output")] if "output" in file.graph else [(entry, "node") for entry in file.graph["outputs"]]


def _size(file: File, random: Random) -> None:
    """Another size of an input."""
    size = random.choice([1, 2, 3, 31, 32, 33, 64, 500, 2**15])
    source = file.graph["input"] if "input" in file.graph else random.choice(file.graph["inputs"])
    if source.get("type") == "tokens":
        source["length"] = size
    else:
        source["shape"][random.choice([1, 2]) if len(source["shape"]) == 3 else 0] = size


def _input(file: File, random: Random) -> None:
    """An input more, less, of another type or name; version 1 has one."""
    inputs = file.graph["inputs"]
    at = random.randrange(len(inputs))
    name = random.choice(
        [f"new{random.randrange(100)}", inputs[at]["name"], random.choice(file.graph["nodes"])["name"]]
    )
    kinds: list[dict[str, Any]] = [
        {"type": "image", "shape": [1, 4, 4], "mean": [0], "std": [1]},
        {"type": "tokens", "length": random.choice([1, 7, 2**15]), "count": random.choice(INTEGERS)},
        {"type": "floats", "shape": random.choice([[4], [1, 4, 4], [2**24], [2, 2]])},
    ]
    match random.randrange(4):
        case 0:
            inputs.insert(at, {"name": name, **random.choice(kinds)})
        case 1:
            del inputs[at]
        case 2:
            inputs[at] = {"name": inputs[at]["name"], **random.choice(kinds)}
        case _:
            for node in file.graph["nodes"]:
                node["inputs"] = [name if source == inputs[at]["name"] else source for source in node["inputs"]]
            inputs[at]["name"] = name


def _output(file: File, random: Random) -> None:
    """An output more, less, or twice."""
    outputs = file.graph["outputs"]
    node = random.choice([*file.graph["nodes"], *file.graph["inputs"]])["name"]
    match random.randrange(3):
        case 0:
            outputs.append({"name": random.choice([node, "output", "more"]), "node": node})
        case 1:
            del outputs[random.randrange(len(outputs))]
        case _:
            outputs.append(dict(random.choice(outputs)))


def _task(file: File, random: Random) -> None:
    """Something of the task's record, or one where there is none."""
    task = file.graph.setdefault("task", {"name": "tags", "answer": "several"})
    key = random.choice(["name", "answer", "labels", "scores", "accuracy"])
    value = random.choice(["one", "several", "classification", None, {}, {"a": 1}, {"a": None}, ["x"], ["x"] * 7])
    task[key] = _value(random) if random.random() < 0.3 else value


def _constant(file: File, random: Random) -> None:
    """A constant, with its value, and an operator that reads it beside another value."""
    nodes = file.graph["nodes"]
    shape = random.choice([[4], [1, 1, 4], [7, 1, 3], [2, 2], [8, 8, 3], [8, 8, 4]])
    name, at = f"constant{random.randrange(100)}", random.randrange(len(nodes))
    op = random.choice(["add", "concat", "relu", "attention", "to_sequence"])
    others = [*_inputs(file), *(node["name"] for node in nodes[:at])]
    reads = [name, *random.choices([name, *others], k={"add": 1, "concat": 1, "attention": 2}.get(op, 0))]
    nodes.insert(at, {"op": "constant", "name": name, "inputs": []})
    nodes.insert(at + 1, {"op": op, "name": name + "r", "inputs": reads, **_moving(op, random)})
    file.tensors[f"{name}.value"] = ["F32", shape, bytes(4 * math.prod(shape))]


def _embed(file: File, random: Random) -> None:
    """An embedding, with its weight, of any value, and what may read it."""
    nodes = file.graph["nodes"]
    rows, channels = random.choice([1, 2, 7, 9]), random.choice([1, 4])
    source = random.choice([*_inputs(file), *_inputs(file), nodes[0]["name"]])
    name = f"embedded{random.randrange(100)}"
    at = random.randrange(len(nodes) + 1)
    nodes.insert(at, {"op": "embedding", "name": name, "inputs": [source]})
    file.tensors[f"{name}.weight"] = ["F32", [rows, channels], bytes(4 * rows * channels)]
    if random.random() < 0.3:
        file.tensors[f"{name}.weight"] = ["I8", [rows, channels], bytes(rows * channels)]
        file.tensors[f"{name}.weight_scale"] = ["F32", [rows], bytes(4 * rows)]
    if random.random() < 0.5:
        nodes.insert(at + 1, {"op": random.choice(PLAIN[:2]), "name": name + "r", "inputs": [name]})


def _norm(file: File, random: Random) -> None:
    """A normalisation of a value, with its parameters, and what may read it."""
    nodes = file.graph["nodes"]
    channels = random.choice([1, 2, 3, 4, 5, 8, 16])
    op = random.choice(["layer_norm", "group_norm"])
    node = {"op": op, "name": f"norm{random.randrange(100)}", "eps": random.choice([1e-5, 1, 0, *NUMBERS])}
    if op == "group_norm":
        node["groups"] = random.choice([1, 1, 2, 3, channels, 0])
    at = random.randrange(len(nodes))
    node["inputs"] = [random.choice([*_inputs(file), *(other["name"] for other in nodes[:at])])]
    nodes.insert(at, node)
    file.tensors[f"{node['name']}.channels"] = ["F32", [2, channels], bytes(8 * channels)]
    if random.random() < 0.7:
        reader = nodes[at + 1]
        reader["inputs"][random.randrange(len(reader["inputs"]))] = node["name"]


def _resize(file: File, random: Random) -> None:
    """A tensor of another shape, with all its bytes."""
    tensor = file.tensors[random.choice(list(file.tensors))]
    dtype, shape, blob = tensor
    axis = random.randrange(len(shape))
    sizes = [0, 1, 2, 3, shape[axis] + 1, shape[axis] - 1, shape[axis] * 2, 2**15 + 1]
    tensor[1] = [*shape[:axis], random.choice(sizes), *shape[axis + 1 :]]
    if random.random() < 0.2:
        tensor[1].insert(axis, 1)
    size = min(math.prod(tensor[1]) * SIZES[dtype], 2**18)
    tensor[2] = (blob * (size // max(len(blob), 1) + 1))[:size]


def _window(file: File, random: Random) -> None:
    """Another kernel of a convolution, weights and padding to match: border classes of any number."""
    node = random.choice(
        [node for node in file.graph["nodes"] if node["op"] in ("conv", "binary_conv", "transposed_conv")]
    )
    kernel = [random.choice([1, 2, 3, 5, 40, 300, 2**15 + 1]), random.choice([1, 2, 3, 5, 40, 300])]
    if math.prod(kernel) > 2**17:
        kernel[1] = 1
    name = f"{node['name']}.{'bits' if node['op'] == 'binary_conv' else 'weight'}"
    tensor = file.tensors[name]
    if node["op"] != "binary_conv":
        tensor[1][2:] = kernel
    else:
        channels = node["in_channels"] // (node.get("groups", 1) or 1)
        tensor[1][1] = (math.prod(kernel) * channels + 7) // 8
        node["kernel"] = kernel
    size = min(math.prod(tensor[1]) * SIZES[tensor[0]], 2**20)
    tensor[2] = bytes(size)
    node["padding"] = [min(random.choice([size // 2, size]), 2**15) for size in kernel]
    node["stride"] = [random.choice([1, 1, 2, 7]) for _ in range(2)]


def _element(file: File, random: Random) -> None:
    tensor = file.tensors[random.choice(list(file.tensors))]
    value = struct.pack("<f", random.choice(FLOATS)) if tensor[0] == "F32" else bytes([random.choice([0, 255, 128])])
    at = random.randrange(len(tensor[2]) // len(value)) * len(value)
    tensor[2] = tensor[2][:at] + value + tensor[2][at + len(value) :]


def _tensor_name(file: File, random: Random) -> None:
    name = random.choice(list(file.tensors))
    other = random.choice([*TEXTS, name + "x", *file.tensors])
    file.tensors[other] = file.tensors[name] if random.random() < 0.3 else file.tensors.pop(name)


def _metadata(file: File, random: Random) -> None:
    file.metadata[random.choice(["format", "version", "more"])] = _value(random)


def _change_header(random: Random) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        container, key = random.choice(_places(header))
        container[key] = _value(random)

    return change


def _change_bytes(data: bytes, random: Random) -> bytes:
    changed = bytearray(data or b"\0")
    at = random.randrange(len(changed))
    match random.randrange(4):
        case 0:
            changed[at] ^= 1 << random.randrange(8)
        case 1:
            del changed[at:]
        case 2:
            changed[at:at] = random.choice([b"\0", b"[" * 990, b"{", b'"', b"\xff\xfe", changed[at : at + 40]])
        case _:
            changed[:8] = struct.pack(
                "<Q", random.choice([0, 1, 2, max(len(changed) - 8, 0), len(changed), 2**24, 2**63])
            )
    return bytes(changed)


CHANGES: list[Callable[[File, Random], None]] = [_field, _number, _attribute, _rewire, _add_nodes, _drop_node, _size]
CHANGES += [_resize, _window, _element, _tensor_name, _metadata, _number, _rewire]
CHANGES += [_input, _input, _output, _task, _embed, _norm, _constant]
