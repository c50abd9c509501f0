"""Images in, logits or answers out: what the user holds after `onebit.runtime.load`."""

from __future__ import annotations

import os
from typing import Any, NamedTuple, Protocol

import numpy as np

from onebit.errors import UserError
from onebit.machine import processor
from onebit.runtime import format as file_format
from onebit.runtime.answers import Answer
from onebit.runtime.graph import MAX_SIZE, Graph, TaskRecord, to_dict
from onebit.runtime.operators import OPERATORS, Tensors, infer_shapes
from onebit.runtime.reference import Reference, normalized

BACKENDS = ("auto", "engine", "reference")
RAW = 8  # times what normalised pixels can reach: beyond it, values from 0 to 255 are pixels that nobody normalised


class Request(NamedTuple):
    """How a network was asked to run: the arguments of `load`."""

    threads: int | None = None
    isa: str | None = None
    backend: str = "auto"


DEFAULT = Request()


class Backend(Protocol):
    @property
    def isa(self) -> str: ...

    @property
    def threads(self) -> int: ...

    def run(self, images: np.ndarray) -> np.ndarray:
        """Normalised float32 (B, C, H, W) -> logits (B, classes) or a map (B, H, W, C)."""
        ...

    def run_bytes(self, images: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
        """As `run`, for uint8 (B, H, W, C), which become (byte / 255 - mean) / std."""
        ...

    def trace(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Every node's output for normalised float32 (B, H, W, C)."""
        ...


def load(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    isa: str | None = None,
    backend: str = "auto",
) -> Model:
    """Loads a onebit file.

    threads  of the engine; default, and at most: the CPUs this process may use. The result does not depend on it.
    isa      the name of one instruction set forces it: "scalar", "avx2", "avx512", "avx512vnni", "avx512vp", "amx", on
             ARM "scalar", "neon"; default: $ONEBIT_ISA, else the best.
    backend  "engine" (C++), "reference" (numpy, slow), or "auto": the engine if it was built, else the reference.

    Raises FormatError for a bad file, UserError for a bad argument.
    """
    if backend not in BACKENDS:
        raise UserError(f"unknown backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    if threads is not None and (type(threads) is not int or not 1 <= threads <= 1024):
        raise UserError(f"threads must be an integer from 1 to 1024, got {threads!r}")
    return _model(file_format.read(path), Request(threads, isa, backend))


def _model(content: tuple[Graph, dict[str, np.ndarray]], request: Request) -> Model:
    return Model(*content, _backend(*content, request), request)


def _restored(data: bytes, request: tuple[int | None, str | None, str]) -> Model:
    """A network that was pickled, in another process or on another machine."""
    return _model(file_format.decode(data), Request(*request))


def _backend(graph: Graph, tensors: dict[str, np.ndarray], request: Request) -> Backend:
    from onebit.runtime import native

    threads, isa, name = request
    if name == "reference" or (name == "auto" and not native.available()):
        if isa is not None:
            raise UserError(f"isa={isa!r} needs the engine, but the reference runs; build the engine or leave isa out")
        return Reference(graph, tensors)
    return native.Engine(graph, tensors, None if threads is None else processor.usable(threads), isa)


class Model:
    """A loaded network. `model(images)` gives float32 logits (B, classes), or (B, C, H, W) if the output is a map;
    `model.predict(pictures)` gives answers.

    It can be pickled and copied: what travels are the file's bytes and the arguments of `load`, from which the other side
    makes its own engine. In the child of a fork it starts its own threads.
    """

    def __init__(
        self, graph: Graph, tensors: dict[str, np.ndarray], backend: Backend, request: Request = DEFAULT
    ) -> None:
        self._graph = graph
        self._backend = backend
        self._arrays = tensors
        self._request = request
        self._tensors = Tensors.of(tensors)
        self._sizes: set[tuple[int, int]] = set()
        self._mean = np.array(graph.mean, np.float32)
        self._std = np.array(graph.std, np.float32)
        reach = max(max(abs(mean), abs(1 - mean)) / abs(std) for mean, std in zip(graph.mean, graph.std, strict=True))
        plain = not any(graph.mean) and set(graph.std) == {1.0}  # the file does not say how its images are normalised
        self._raw = float("inf") if plain else RAW * reach

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (file_format.encode(self._graph, self._arrays), tuple(self._request))

    @property
    def name(self) -> str:
        return self._graph.name

    @property
    def method(self) -> str:
        return self._graph.method

    @property
    def labels(self) -> tuple[str, ...] | None:
        return self._graph.labels

    @property
    def task(self) -> TaskRecord:
        """What the network is for, how its outputs are read, and its scores."""
        return self._graph.task

    @property
    def input_kind(self) -> str:
        """What goes in: "image"."""
        return "image"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the image the network was made for."""
        return self._graph.input_shape

    @property
    def resize(self) -> int | None:
        """Pixels of the shorter side before the centre crop; None where pictures are resized to the network's input."""
        return self._graph.resize

    @property
    def isa(self) -> str:
        """The instruction set in use, or "reference"."""
        return self._backend.isa

    @property
    def threads(self) -> int:
        return self._backend.threads

    @property
    def backend(self) -> Backend:
        """What computes: a `native.Engine` or a `reference.Reference`."""
        return self._backend

    @property
    def graph(self) -> dict[str, Any]:
        """The graph as in the file's metadata."""
        return to_dict(self._graph, OPERATORS)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Logits of some images.

        uint8 (B, H, W, C) or (H, W, C)  are scaled to 0..1 and normalised by the file's mean and std; resizing is the
                                         caller's duty, or that of `predict`
        float32 (B, C, H, W)             are taken as normalised already, as the PyTorch model sees them; from 0 to 255
                                         and 8 times beyond what (0..1 - mean) / std can be, they are refused
        """
        images = self._checked(images)
        if images.dtype == np.uint8:
            return _channels_first(self._backend.run_bytes(images, self._mean, self._std))
        return _channels_first(self._backend.run(images))

    def predict(self, x: Any, top: int = 1) -> list[Any]:
        """The answer to a picture, [{"label", "score"}, ...] with the `top` best labels, the best first; for several
        pictures a list of answers.

        x    a path, a Pillow image, or an array uint8 (H, W, C); or several: a list of these, or uint8 (B, H, W, C).
             Each is decoded, turned upright, resized and cut as `onebit run` does, so any size will do.

        Needs Pillow. Raises UserError for what is no picture, and for a network whose outputs are maps.
        """
        from onebit.runtime.run import predict

        if type(top) is not int or top < 1:
            raise UserError(f"top must be an integer from 1, got {top!r}")
        if isinstance(x, list | tuple):
            return predict(self, x, top)
        if not isinstance(x, str | os.PathLike) and hasattr(x, "__array__") and len(np.shape(x)) == 4:
            return predict(self, np.asarray(x), top)  # type: ignore[arg-type]
        found: list[Answer] = predict(self, [x], top)
        return found[0]

    def trace(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Output of every node by name, (B, C, H, W) or (B, C); int32 A·B of binary nodes as "<node>:accumulator".

        uint8 images are normalised first. (A call takes them to a first convolution with weights in 8 bits as they are,
        which may differ in the last bits.)"""
        values = self._backend.trace(normalized(self._checked(images), self._mean, self._std))
        return {name: _channels_first(value) for name, value in values.items()}

    def normalized(self, images: np.ndarray) -> np.ndarray:
        """float32 (B, C, H, W), as the PyTorch model sees them, of uint8 (B, H, W, C)."""
        return _channels_first(normalized(self._checked(images), self._mean, self._std))

    def _checked(self, images: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, C) or float32 (B, C, H, W), of a size that the network takes."""
        if hasattr(images, "__array__"):  # torch tensors and Pillow images too
            images = np.asarray(images)
        if not isinstance(images, np.ndarray):
            raise UserError(f"images must be a numpy array, got {type(images).__name__}")
        channels = self.input_shape[0]
        if images.dtype == np.uint8:
            if images.ndim == 3:
                images = images[None]  # (1, H, W, C)
            if images.ndim != 4 or images.shape[-1] != channels:
                raise UserError(f"uint8 images must be (B, H, W, {channels}) or (H, W, {channels}), got {images.shape}")
            self._check_size(images.shape)
        elif images.dtype == np.float32:
            if images.ndim != 4 or images.shape[1] != channels:
                raise UserError(f"float32 images must be (B, {channels}, H, W), got {images.shape}")
            self._check_size((images.shape[0], *images.shape[2:], channels))
            if self._raw < images.max() <= 255 and images.min() >= 0:  # never true of NaN
                raise UserError(
                    f"float32 images must be normalised, (pixel / 255 - mean) / std, got values from {images.min():g} to "
                    f"{images.max():g}; give pixels as uint8 (B, H, W, {channels}), or normalise them (model.normalized)"
                )
        else:
            raise UserError(f"images must be uint8 (B, H, W, C) or float32 (B, C, H, W), got {images.dtype}")
        return images

    def _check_size(self, shape: tuple[int, ...]) -> None:
        batch, height, width, _ = shape
        if batch < 1:
            raise UserError("the batch is empty; give at least one image")
        if (height, width) in self._sizes:
            return
        if not (1 <= height <= MAX_SIZE and 1 <= width <= MAX_SIZE):
            raise UserError(f"images of {height} × {width} pixels; height and width must be from 1 to {MAX_SIZE}")
        try:
            infer_shapes(self._graph, self._tensors, height, width)
        except UserError as error:
            _, h, w = self.input_shape
            raise UserError(
                f"images of {height} × {width} do not fit, the network was made for {h} × {w}: {error}"
            ) from None
        self._sizes.add((height, width))


def _channels_first(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x  # (B, C, H, W)
