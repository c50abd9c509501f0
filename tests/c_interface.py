"""csrc/bindings/c/onebit.h through ctypes, for tests: numpy arrays in and out, failures as exceptions with code and text."""

import ctypes
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_float, c_int32, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

CODES = ("ok", "bad file", "bad argument", "cannot run", "no memory", "no threads", "cannot read")
TYPES, ANSWERS = ("image", "tokens", "floats"), ("one", "several", "values", "boxes")
BYTES, CHANNELS_FIRST, CHANNELS_LAST, INTEGERS = range(4)


class Shape(Structure):
    _fields_ = [(name, c_int32) for name in ("height", "width", "channels", "vector")]

    def sizes(self) -> tuple[int, ...]:
        """(H, W, C) or (C)."""
        return (self.channels,) if self.vector else (self.height, self.width, self.channels)


class Description(Structure):
    _fields_ = [
        *((name, c_char_p) for name in ("name", "method", "recipe", "task")),
        *((name, c_int32) for name in ("answer", "inputs", "outputs", "labels")),
        ("isa", c_char_p),
        ("threads", c_int32),
    ]


class Input(Structure):
    _fields_ = [
        ("name", c_char_p),
        ("type", c_int32),
        ("shape", Shape),
        ("count", c_int32),
        ("resize", c_int32),
        ("mean", POINTER(c_double)),
        ("std", POINTER(c_double)),
    ]


class Output(Structure):
    _fields_ = [("name", c_char_p), ("shape", Shape)]


class Values(Structure):
    _fields_ = [("form", c_int32), ("data", c_void_p), ("size", c_size_t), ("shape", Shape)]


class Buffer(Structure):
    _fields_ = [("data", c_void_p), ("size", c_size_t)]


class Box(Structure):
    _fields_ = [*((name, c_float) for name in ("x1", "y1", "x2", "y2", "score")), ("label", c_int32)]


class Failure(Exception):
    """A code's name, and the text of the failure."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


def values(array: np.ndarray, form: int | None = None) -> Values:
    """A batch as the interface takes it: uint8 (B, H, W, C), int32 (B, T), float32 (B, C, H, W) or (B, C), or another form of
    four axes. The array must live on."""
    assert array.flags.c_contiguous
    if form is None:
        form = {"uint8": BYTES, "int32": INTEGERS}.get(
            array.dtype.name, CHANNELS_FIRST if array.ndim == 4 else CHANNELS_LAST
        )
    sizes = array.shape[1:]
    if form == INTEGERS:
        shape = Shape(sizes[0], 1, 1, 0)
    elif len(sizes) == 1:
        shape = Shape(1, 1, sizes[0], 1)
    else:
        shape = Shape(*(sizes[1:] + sizes[:1] if form == CHANNELS_FIRST else sizes), 0)
    return Values(form, array.ctypes.data, array.size, shape)


class Library:
    def __init__(self, path: Path) -> None:
        self.c = ctypes.CDLL(str(path))
        self.c.onebit_failure.restype = self.c.onebit_version.restype = c_char_p
        self.c.onebit_free.argtypes = [c_void_p]

    def check(self, code: int) -> None:
        if code:
            raise Failure(CODES[code], self.c.onebit_failure().decode())

    def load(self, source: Path | bytes, threads: int = 1, isa: str | None = None) -> "Network":
        handle, name = c_void_p(1), None if isa is None else isa.encode()
        if isinstance(source, bytes):
            code = self.c.onebit_load_bytes(source, c_size_t(len(source)), c_int32(threads), name, byref(handle))
        else:
            code = self.c.onebit_load(str(source).encode(), c_int32(threads), name, byref(handle))
        assert (handle.value is None) == (code != 0)
        self.check(code)
        return Network(self, handle)


class Network:
    def __init__(self, library: Library, handle: c_void_p) -> None:
        self.library, self.handle = library, handle

    def __del__(self) -> None:
        self.library.c.onebit_free(self.handle)

    def call(self, name: str, *arguments: Any) -> None:
        """An onebit_ function of this network."""
        self.library.check(getattr(self.library.c, f"onebit_{name}")(self.handle, *arguments))

    def about(self) -> Description:
        found = Description()
        self.call("describe", byref(found))
        return found

    def input(self, index: int) -> Input:
        found = Input()
        self.call("describe_input", index, byref(found))
        return found

    def output(self, index: int) -> Output:
        found = Output()
        self.call("describe_output", index, byref(found))
        return found

    def label(self, index: int) -> str:
        found = c_char_p()
        self.call("label", index, byref(found))
        assert found.value is not None
        return found.value.decode()

    def shapes(self, inputs: list[Shape], outputs: int | None = None) -> list[tuple[int, ...]]:
        count = self.about().outputs if outputs is None else outputs
        found = (Shape * count)()
        self.call("output_shapes", (Shape * len(inputs))(*inputs), len(inputs), found, count)
        return [shape.sizes() for shape in found]

    def run_raw(self, inputs: list[Values], batch: int, outputs: list[np.ndarray]) -> None:
        buffers = (Buffer * len(outputs))(*(Buffer(array.ctypes.data, array.size) for array in outputs))
        self.call("run", (Values * len(inputs))(*inputs), len(inputs), batch, buffers, len(outputs))

    def run(self, *arrays: np.ndarray, forms: tuple[int, ...] | None = None) -> list[np.ndarray]:
        """By output: (B, H, W, C) or (B, C)."""
        inputs = [values(array, form) for array, form in zip(arrays, forms or [None] * len(arrays))]
        batch = len(arrays[0])
        outputs = [np.full((batch, *shape), np.nan, np.float32) for shape in self.shapes([x.shape for x in inputs])]
        self.run_raw(inputs, batch, outputs)
        return outputs

    def answer(self, row: np.ndarray, top: int) -> list[tuple[int, float]]:
        """(Number of the label, score), the best first."""
        assert row.dtype == np.float32 and row.ndim == 1 and row.flags.c_contiguous
        places, scores = (c_int32 * top)(*[-1] * top), (c_float * top)()
        self.call("answer", c_void_p(row.ctypes.data), row.size, top, places, scores)
        return [(place, score) for place, score in zip(places, scores) if place >= 0]

    def boxes(self, outputs: list[np.ndarray], most: int = 1000) -> list[tuple[float, ...]]:
        """(x1, y1, x2, y2, score, label), the best first, of one image."""
        buffers = (Buffer * len(outputs))(*(Buffer(array.ctypes.data, array.size) for array in outputs))
        found, count = (Box * most)(), c_int32(-1)
        self.call("boxes", buffers, len(outputs), most, found, byref(count))
        return [tuple(getattr(box, name) for name, _ in Box._fields_) for box in found[: count.value]]
