"""The C++ engine behind the same methods as the reference."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from onebit.errors import UserError
from onebit.machine import installation, processor
from onebit.runtime.binary import CHANNEL, SAMPLE_MEAN
from onebit.runtime.byte_conv import byte_conv
from onebit.runtime.graph import Description, Graph, Node
from onebit.runtime.operators import infer_shapes
from onebit.runtime.tensors import Tensors, float_weight

_MODULE = "onebit.runtime._engine"
# Of the architecture the engine is built for; the other's do not exist.
ISAS = (
    ("scalar", "neon")
    if platform.machine() in ("aarch64", "arm64")
    else (
        "scalar",
        "avx2",
        "avx512",
        "avx512vnni",
        "avx512vp",
        "amx",
    )
)
ONE = (1, 1)
_CONV = ("weight", "weight_scale", "bias")


def available() -> bool:
    """Whether the compiled engine is installed."""
    return find_spec(_MODULE) is not None


def runs(description: Description) -> bool:
    """Whether the engine runs such a network: of one image and one output."""
    return description.image is not None and len(description.outputs) == 1


def supported() -> list[str]:
    """The instruction sets this processor has, slowest first; each one includes those before it."""
    return list(ISAS[: ISAS.index(extension().best_isa()) + 1])


def extension() -> Any:
    """The compiled engine. Raises UserError where it was not built."""
    try:
        return import_module(_MODULE)
    except ImportError as error:
        raise UserError(
            f"the engine is not built ({error}); run {installation.command()}, or use backend='reference'"
        ) from None


@contextmanager
def refusals() -> Iterator[None]:
    """What the engine refuses is an error of the file's or the caller's."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"the engine cannot run this: {error}") from None
    except RuntimeError as error:  # of the system: a child of a fork starts its threads with its first run
        raise UserError(f"threads cannot be started ({error}); load with fewer threads=") from None


class Engine:
    """Runs a checked graph: the methods of `backend.Backend`."""

    def __init__(self, graph: Graph, tensors: Mapping[str, np.ndarray], threads: int | None, isa: str | None) -> None:
        module, image = extension(), graph.image
        if image is None or len(graph.outputs) != 1:
            raise UserError(f"the engine runs networks of one image and one output; {graph.takes()}")
        if threads is None:
            threads = processor.count()
        try:
            self._engine = module.Graph(isa or "", threads)
        except RuntimeError as error:
            raise UserError(f"{threads} threads cannot be started ({error}); give fewer with threads=") from None
        except ValueError as error:
            raise UserError(f"{error} (from isa= or the variable ONEBIT_ISA)") from None
        self._graph, self._tensors, self._image = graph, Tensors.of(tensors), image
        self._channels = image.shape[0]
        self._shapes = {image.name: image.map, **infer_shapes(graph, self._tensors)}
        self._names = [image.name]
        self.byte_convs: set[str] = set()  # those that take images of bytes as they are
        with refusals():
            self._build(graph, tensors)
        (self._output,) = graph.outputs
        self._weights = {
            name.removesuffix(".weight"): t.shape for name, t in tensors.items() if name.endswith(".weight")
        }

    def _build(self, graph: Graph, tensors: Mapping[str, np.ndarray]) -> None:
        index = {self._image.name: 0}
        for node in graph.nodes:
            index[node.name] = self._add(node, [index[name] for name in node.inputs], tensors)
            own = {what: tensors[f"{node.name}.{what}"] for what in _CONV if f"{node.name}.{what}" in tensors}
            if (form := byte_conv(node, own, self._image)) is not None:
                window = (node[key] for key in ("stride", "padding", "dilation"))
                self.byte_convs.add(node.name)
                self._engine.byte_conv(index[node.name], form.weight, form.a, form.b, form.bias, *window)
            self._names.append(node.name)
        self._engine.finish(index[graph.outputs[0].node], *self._image.map)

    @property
    def isa(self) -> str:
        return self._engine.isa

    @property
    def threads(self) -> int:
        return self._engine.threads

    @property
    def kernels(self) -> dict[str, str]:
        """Name of the kernel that runs, by kernel folder."""
        return self._engine.kernels

    def check(self, sizes: Mapping[str, tuple[int, ...]]) -> None:
        infer_shapes(self._graph, self._tensors, sizes)

    def run(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        images = np.ascontiguousarray(values[self._image.name])
        with refusals():
            if images.dtype == np.uint8:
                mean, std = (np.array(numbers, np.float32) for numbers in (self._image.mean, self._image.std))
                found = self._engine.run_bytes(images, mean, std)
            else:
                found = self._engine.run_channels_first(images)
        return {self._output.name: self._shaped(self._output.node, found)}

    def trace(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        images = np.ascontiguousarray(values[self._image.name].transpose(0, 2, 3, 1))  # (B, H, W, C)
        if not np.isfinite(images).all():
            raise UserError("images contain NaN or infinity; check how they were normalised")
        traced: dict[str, np.ndarray] = {}
        with refusals():
            found = self._engine.trace(images)
        for index, value, accumulator in found:
            name = self._names[index]
            traced[name] = self._shaped(name, value)
            if accumulator is not None:
                traced[f"{name}:accumulator"] = self._shaped(name, accumulator)
        return traced

    def profile(self, images: np.ndarray, rounds: int = 20) -> list[dict[str, Any]]:
        """Where the time of one image goes on one thread, by stage: the node it computes ("node"), those fused behind it
        ("fused_to"), "input" and "output" shapes (H, W, C), and "seconds", the least of all rounds. The image is
        normalised float32 (1, H, W, C), or uint8, then as with a mean of 0 and a standard deviation of 1."""
        if images.dtype == np.uint8:
            channels = images.shape[-1]
            rows = self._engine.profile_bytes(images, np.zeros(channels, "f4"), np.ones(channels, "f4"), rounds)
        else:
            rows = self._engine.profile(images, rounds)
        return [
            {"node": self._names[node], "fused_to": self._names[tail], "input": i, "output": o, "seconds": seconds}
            for node, tail, i, o, seconds in rows
        ]

    def memory(self, height: int, width: int) -> dict[str, int]:
        """Bytes of the weights as the kernels read them ("weights"), and of all that one thread keeps of an image and between
        layers ("maps")."""
        return self._engine.memory(height, width, self._channels)

    def weight_shape(self, node: str) -> tuple[int, ...] | None:
        """(O, I/g, KH, KW) or (O, I) of a node with float weights."""
        return self._weights.get(node)

    def peaks(self) -> dict[str, float]:
        """The most that this instruction set's kernels reach on one thread with operands in the L1 cache, in
        multiply-accumulates a second: "binary", "float" and "bytes"."""
        return self._engine.peaks()

    def _shaped(self, name: str, value: np.ndarray) -> np.ndarray:
        return value.reshape(len(value), -1) if len(self._shapes[name]) == 1 else value  # (B, C) or (B, H, W, C)

    def _add(self, node: Node, inputs: list[int], tensors: Mapping[str, np.ndarray]) -> int:
        """Adds the node to the engine's graph and returns its index there."""
        engine, first = self._engine, inputs[0]

        def tensor(what: str) -> np.ndarray | None:
            array = tensors.get(f"{node.name}.{what}")
            return None if array is None else np.ascontiguousarray(array)

        def weight() -> np.ndarray:
            return np.ascontiguousarray(
                float_weight(tensors[f"{node.name}.weight"], tensors.get(f"{node.name}.weight_scale"))
            )

        match node.op:
            case "conv":
                attributes = (node[key] for key in ("stride", "padding", "dilation", "groups"))
                return engine.conv(first, weight(), tensor("bias"), *attributes)
            case "linear":
                return engine.conv(
                    first, weight()[:, :, None, None], tensor("bias"), ONE, (0, 0), ONE, 1
                )  # (O, I, 1, 1)
            case "binary_conv" | "binary_linear":
                return self._add_binary(node, first, tensor)
            case "max_pool" | "avg_pool":
                include = node.attributes.get("count_include_pad", True)
                attributes = (node[key] for key in ("kernel", "stride", "padding", "ceil_mode"))
                return engine.pool(first, node.op == "max_pool", *attributes, include)
            case "global_avg_pool":
                return engine.global_avg_pool(first)
            case "flatten":
                return engine.flatten(first)
            case "option_a":
                return engine.option_a(first, node["stride"], node["pad"])
            case _:
                return engine.step(node.op, inputs, tensor("slope" if node.op == "prelu" else "channels"))

    def _add_binary(self, node: Node, first: int, tensor: Any) -> int:
        threshold = node["threshold"]
        kind = threshold if isinstance(threshold, str) else "constant"
        levels = np.zeros(1, np.float32)
        if threshold == CHANNEL:
            levels = tensor("threshold")
        elif threshold != SAMPLE_MEAN:
            levels[0] = threshold
        single = node.op == "binary_linear"
        if single:
            window = (self._shapes[node.inputs[0]][0], ONE, ONE, (0, 0), ONE, 1)
        else:
            names = ("in_channels", "kernel", "stride", "padding", "dilation", "groups")
            window = tuple(node[name] for name in names)
        arrays = (tensor("bits"), tensor("channels"), levels)
        return self._engine.binary_conv(first, *arrays, *window, node["shift"], kind, single)
