"""The C++ engine behind the same methods as the reference. It reads the file by itself."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from onebit.errors import FormatError, UserError
from onebit.machine import processor
from onebit.runtime import vocabulary
from onebit.runtime.answers import ANSWERS
from onebit.runtime.extension import available as available
from onebit.runtime.extension import extension as extension
from onebit.runtime.graph import Description, Output, TaskRecord
from onebit.runtime.inputs import PIECES, Floats, Image, Input, Tokens

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


def supported() -> list[str]:
    """The instruction sets this processor has, slowest first; each one includes those before it."""
    return list(ISAS[: ISAS.index(extension().best_isa()) + 1])


def answered(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of the engine answers; what it refuses is an error of the file's or the caller's."""
    try:
        return call(*arguments)
    except ValueError as error:
        raise UserError(f"the engine cannot run this: {error}") from None
    except RuntimeError as error:  # of the system: a child of a fork starts its threads with its first run
        raise UserError(f"threads cannot be started ({error}); load with fewer threads=") from None


class Engine:
    """Runs the bytes of a file: the methods of `backend.Backend`.

    Raises FormatError for what is no packed file, UserError for what the engine cannot run.
    """

    def __init__(self, data: bytes, threads: int | None, isa: str | None) -> None:
        module = extension()
        if threads is None:
            threads = processor.count()
        try:
            isa = module.chosen_isa(isa or "")
        except ValueError as error:
            raise UserError(f"{error} (from isa= or the variable ONEBIT_ISA)") from None
        try:
            self._engine = answered(module.Network, data, isa, threads)
        except module.FormatError as error:
            raise FormatError(str(error)) from None
        self.description = _description(self._engine.description)
        self._names = [source.name for source in self.description.inputs]
        self._outputs = [output.name for output in self.description.outputs]
        self._values = self._engine.values  # names of inputs, then of nodes

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
        answered(self._engine.out_shapes, [sizes[name] for name in self._names])

    def run(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = answered(self._engine.run, self._ordered(values))
        return dict(zip(self._outputs, found, strict=True))

    def trace(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        traced: dict[str, np.ndarray] = {}
        found = answered(self._engine.trace, self._ordered(values))
        for index, value, accumulator in found:
            traced[self._values[index]] = value
            if accumulator is not None:
                traced[f"{self._values[index]}:accumulator"] = accumulator
        return traced

    def profile(self, values: Mapping[str, np.ndarray], rounds: int = 20) -> list[dict[str, Any]]:
        """Where the time of the first of the values goes on one thread, by stage: the "node" it computes with its "op", those
        fused behind it ("fused_to"), the shape of its "output", "products", how many each output is a sum of, of a "kind" that
        `peaks` has (None: nothing is multiplied), and "seconds", the least of all rounds."""
        rows = answered(self._engine.profile, self._ordered(values), rounds)
        keys = ("node", "fused_to", "op", "output", "products", "kind", "seconds")
        return [dict(zip(keys, (self._values[row[0]], self._values[row[1]], *row[2:]), strict=True)) for row in rows]

    def memory(self, sizes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
        """Bytes of the weights as the kernels read them ("weights"), and of all that one thread keeps of inputs of such sizes
        and between layers ("maps")."""
        return answered(self._engine.memory, [sizes[name] for name in self._names])

    def peaks(self) -> dict[str, float]:
        """The most that this instruction set's kernels reach on one thread with operands in the L1 cache, in
        multiply-accumulates a second: "binary", "float" and "bytes"."""
        return self._engine.peaks()

    def _ordered(self, values: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return [np.ascontiguousarray(values[name]) for name in self._names]


def _description(found: Mapping[str, Any]) -> Description:
    task = found["task"]
    return Description(
        name=found["name"],
        method=found["method"],
        recipe=found["recipe"],
        inputs=tuple(_input(entry) for entry in found["inputs"]),
        outputs=tuple(Output(*output) for output in found["outputs"]),
        task=TaskRecord(
            task["name"],
            task["answer"],
            None if task["labels"] is None else tuple(task["labels"]),
            task["scores"],
            ANSWERS[task["answer"]].settings(task, "graph.task"),
        ),
        training=found["training"],
    )


def _input(entry: Mapping[str, Any]) -> Input:
    name, shape = entry["name"], entry["shape"]  # (H, W, C), or (C)
    if entry["type"] == Tokens.type:
        return _tokens(entry)
    channels_first = shape if len(shape) == 1 else (shape[2], *shape[:2])
    if entry["type"] == Floats.type:
        return Floats(channels_first, name)
    return Image(channels_first, tuple(entry["mean"]), tuple(entry["std"]), entry["resize"], name)


def _tokens(entry: Mapping[str, Any]) -> Tokens:
    pieces = vocabulary.split(entry["vocabulary"].decode()) if entry["holds"] == PIECES else ()
    length, count = entry["shape"][0], entry["count"]
    return Tokens(length, count, entry["name"], holds=entry["holds"], lowercase=entry["lowercase"], vocabulary=pieces)
