"""Packed networks as files of other runtimes: what `onebit export` does.

A format is one module, or a folder of them, and one line of FORMATS. It is named as the package that its writer needs.
"""

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from onebit import files
from onebit.errors import UserError
from onebit.machine import installation
from onebit.tables import Table

FORMATS: Table[Callable[..., dict[str, Any]]] = Table(
    "format",
    {
        "onnx": "onebit.export.onnx.model:write",
        "openvino": "onebit.export.openvino:write",
    },
)
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
ONLY = {"qonnx": "onnx", "pixels": "onnx"}  # options that one format alone has


def write(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    to: str = "onnx",
    *,
    qonnx: bool = False,
    pixels: bool = False,
    batch: int | None = None,
) -> dict[str, Any]:
    """Write the network of a packed file, or of zoo:NAME, for another runtime; docs/export.md has what is in the files.

    to       "onnx", or "openvino": out ends in .xml, beside it is written .bin
    qonnx    ONNX: signs as QONNX's BipolarQuant and float32 weights, for FINN and hls4ml
    pixels   ONNX: images go in as bytes, uint8 (B, H, W, C); else as float32 (B, C, H, W), normalised already
    batch    samples of a call; if it is None, any number in ONNX, 1 in QONNX and OpenVINO

    Returns {"file", "format", "bytes", "inputs", "outputs"}, the shapes of inputs and outputs in words, and of ONNX "opset".
    Raises UserError for an unknown format, an option that it has not, a package that is not installed, a file that cannot be read
    or written, and what the format cannot say.
    """
    given = {"qonnx": qonnx, "pixels": pixels}
    check(to, batch=batch, **given)
    files.check_output(out, [path], "out")
    return FORMATS[to](path, out, batch=batch, **{key: value for key, value in given.items() if value})


def check(to: str, *, batch: int | None, **given: bool) -> None:
    """Raise UserError for an unknown format, for options that it has not, and where its package is not installed."""
    FORMATS.check(to)
    for name, value in given.items():
        if value and ONLY[name] != to:
            raise UserError(f"{name} is an option of {ONLY[name]}, not of {to}; leave it out")
    if batch is not None and (type(batch) is not int or batch < 1):
        raise UserError(f"batch must be an integer from 1, got {batch!r}")
    if find_spec(to) is None:
        raise UserError(installation.missing(to, f"writing files of {to}"))


def default_name(path: str | os.PathLike[str], to: str) -> str:
    """Where a network's file goes if nobody says it: beside the packed file or checkpoint; of zoo:NAME, in the working folder."""
    FORMATS.check(to)
    return os.path.splitext(os.fspath(path).removeprefix("zoo:"))[0] + SUFFIXES[to]
