"""Values in, outputs or answers out: what the user holds after `onebit.runtime.load`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from onebit.errors import UserError
from onebit.machine import processor
from onebit.runtime import format as file_format
from onebit.runtime.answers import Answer, Asked
from onebit.runtime.backend import Backend
from onebit.runtime.graph import Description, TaskRecord, to_dict
from onebit.runtime.inputs import Image, Input, Tokens
from onebit.runtime.operators import OPERATORS
from onebit.runtime.reference import Reference
from onebit.runtime.word_pieces import TextForm, WordPieces

MAX_SIZES = 1000  # of inputs that are remembered as fitting
BACKENDS = ("auto", "engine", "reference")


class Request(NamedTuple):
    """How a network was asked to run: the arguments of `load`."""

    threads: int | None = None
    isa: str | None = None
    backend: str = "auto"


def load(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    isa: str | None = None,
    backend: str = "auto",
) -> Model:
    """Loads a onebit file, or that of the zoo named "zoo:NAME" (`onebit list zoo`).

    threads  of the engine; default, and at most: the CPUs this process may use. The result does not depend on it.
    isa      the name of one instruction set forces it: "scalar", "avx2", "avx512", "avx512vnni", "avx512vp", "amx", on
             ARM "scalar", "neon"; default: $ONEBIT_ISA, else the best.
    backend  "engine" (C++), "reference" (numpy, slow), or "auto": the engine if it was built, else the reference.

    Raises FormatError for a bad file, UserError for a bad argument.
    """
    if backend not in BACKENDS:
        raise UserError(f"unknown backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    if isa is not None and not isinstance(isa, str):
        raise UserError(f"isa must be the name of an instruction set, got {isa!r}")
    if threads is not None and (type(threads) is not int or not 1 <= threads <= 1024):
        raise UserError(f"threads must be an integer from 1 to 1024, got {threads!r}")
    data = file_format.read_bytes(path)
    with file_format.explaining(path):
        return _model(data, Request(threads, isa, backend))


def _model(data: bytes, request: Request) -> Model:
    return Model(*_opened(data, request), data, request)


def _restored(data: bytes, request: tuple[int | None, str | None, str]) -> Model:
    """A network that was pickled, in another process or on another machine."""
    return _model(data, Request(*request))


def _opened(data: bytes, request: Request) -> tuple[Description, Backend]:
    """What a file's bytes describe, and what runs them."""
    from onebit.runtime import native

    threads, isa, name = request
    if name == "reference" or (name == "auto" and not native.available()):
        if isa is not None:
            raise UserError(f"isa={isa!r} needs the engine, but the reference runs; build the engine or leave isa out")
        graph, tensors = file_format.decode(data)
        return graph, Reference(graph, tensors)
    engine = native.Engine(data, None if threads is None else processor.usable(threads), isa)
    return engine.description, engine


class Model:
    """A loaded network. `model(images)` gives float32 logits (B, classes), or (B, C, H, W) if the output is a map;
    `model.predict(pictures)`, or of a network of texts `model.predict(texts)`, gives answers.

    It can be pickled and copied: what travel are the file's bytes and the arguments of `load`, from which the other side
    makes its own engine. In the child of a fork it starts its own threads.
    """

    def __init__(self, description: Description, backend: Backend, data: bytes, request: Request) -> None:
        self._description = description
        self._backend = backend
        self._data = data
        self._request = request
        self._fitting = {tuple(source.map for source in description.inputs)}  # sizes of the inputs, in order
        self._input = description.inputs[0] if len(description.inputs) == 1 else None
        self._output = description.outputs[0].name if len(description.outputs) == 1 else None

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._data, tuple(self._request))

    @property
    def name(self) -> str:
        return self._description.name

    @property
    def method(self) -> str:
        return self._description.method

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What goes in, in order: each an `Image`, `Tokens` or `Floats` with its name and shape."""
        return self._description.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what comes out, in order."""
        return tuple(output.name for output in self._description.outputs)

    @property
    def labels(self) -> tuple[str, ...] | None:
        """A name for each channel of the first output, but for a detector's background."""
        return self._description.task.labels

    @property
    def task(self) -> TaskRecord:
        """What the network is for, how its outputs are read, and its scores."""
        return self._description.task

    @property
    def training(self) -> Mapping[str, float | str]:
        """How the weights came to be, by name: the data, epochs, seed and so on, as far as the file says it."""
        return self._description.training

    @property
    def input_kind(self) -> str:
        """What goes in: "image" or "text". Raises UserError for a network of other or several inputs."""
        return "text" if self._description.pieces is not None else self._image().type

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the image the network was made for. Raises UserError for a network of other or several inputs."""
        return self._image().shape

    @property
    def resize(self) -> int | None:
        """Pixels of the shorter side before the centre crop; None where pictures are resized to the network's input. Raises
        UserError for a network of other or several inputs."""
        return self._image().resize

    @cached_property
    def texts(self) -> TextForm:
        """How texts become what goes in. Raises UserError for a network that takes no text."""
        source = self._description.pieces
        if source is None:
            raise UserError(self._description.takes())
        vocabulary = source.vocabulary
        holds = tuple(entry.holds for entry in self.inputs if isinstance(entry, Tokens))
        encoder = WordPieces(vocabulary, source.lowercase)
        return TextForm(encoder, vocabulary.index("[PAD]"), holds, source.length)

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
        """The graph as files of version 2 hold it, read from the file's bytes."""
        return to_dict(file_format.graph_of(self._data), OPERATORS)

    def __call__(self, /, *values: Any, **named: Any) -> Any:
        """The output, or of several outputs a dict by name: float32 (B, C), or (B, C, H, W) if it is a map.

        Inputs are given in order or by name, with batches of one size:

        images   uint8 (B, H, W, C) or (H, W, C), which are scaled to 0..1 and normalised by the file's mean and std;
                 resizing is the caller's duty, or that of `predict`. Or float32 (B, C, H, W), taken as normalised already, as
                 the PyTorch model sees them; from 0 to 255 and 8 times beyond what (0..1 - mean) / std can be, they are refused
        tokens   integers (B, T) or (T,), from 0 to the input's count - 1
        floats   float32 (B, C, H, W), or (B, C) or (C,), finite

        Raises UserError for values that do not fit.
        """
        found = self._backend.run(self._checked(values, named))
        if self._output is not None:
            return channels_first(found[self._output])
        return {name: channels_first(x) for name, x in found.items()}

    def predict(self, x: Any, top: int | None = None, threshold: float | None = None) -> list[Any]:
        """The answer to a picture or a text, [{"label", "score"}, ...], the best first; a detector's parts have "box", too, [x1, y1,
        x2, y2] in pixels of the picture. For several of them a list of answers.

        x            of a network of texts: a str, or a pair of texts as a tuple of two; or several: a list of these. What has more
                     tokens than the network takes is cut, with a warning.
                     Of a network of images: a path, the bytes of an image file, a Pillow image, or an array uint8 (H, W, C); or
                     several: a list of these, or uint8 (B, H, W, C). Each is decoded, turned upright, resized and cut as
                     `onebit run` does, so any size will do.
        top          so many of the answer, by default one label, or all boxes
        threshold    of a detector: the least score of a box, by default 0.5

        Pictures need Pillow. Raises UserError for what is no picture, or no text, and for a network whose first output is a map, or
        that takes anything but one image or one text.
        """
        from onebit.runtime.run import predict

        if top is not None and (not isinstance(top, int | np.integer) or isinstance(top, bool) or top < 1):
            raise UserError(f"top must be an integer from 1, got {top!r}")
        if threshold is not None and (
            not isinstance(threshold, int | float | np.integer | np.floating)
            or isinstance(threshold, bool)
            or not 0 <= threshold <= 1
        ):
            raise UserError(f"threshold must be a number from 0 to 1, got {threshold!r}")
        asked = Asked(None if top is None else int(top), None if threshold is None else float(threshold))
        if isinstance(x, list) or (isinstance(x, tuple) and self.input_kind == "image"):
            return predict(self, x, asked)
        if not isinstance(x, str | tuple | os.PathLike) and hasattr(x, "__array__") and len(np.shape(x)) == 4:
            return predict(self, np.asarray(x), asked)  # type: ignore[arg-type]
        found: list[Answer] = predict(self, [x], asked)
        return found[0]

    def trace(self, /, *values: Any, **named: Any) -> dict[str, np.ndarray]:
        """Output of every node by name, (B, C, H, W) or (B, C); int32 A·B of binary nodes as "<node>:accumulator". Takes
        what a call takes.

        uint8 images are normalised first. (A call takes them to a first convolution with weights in 8 bits as they are,
        which may differ in the last bits.)"""
        given = self._checked(values, named)
        for source in self.inputs:
            if isinstance(source, Image) and given[source.name].dtype == np.uint8:
                given[source.name] = channels_first(source.normalized(given[source.name]))
        return {name: channels_first(value) for name, value in self._backend.trace(given).items()}

    def normalized(self, images: np.ndarray) -> np.ndarray:
        """float32 (B, C, H, W), as the PyTorch model sees them, of uint8 (B, H, W, C). Raises UserError as a call does."""
        image = self._image()
        images = self._checked((images,), {})[image.name]
        return channels_first(image.normalized(images)) if images.dtype == np.uint8 else images

    def _image(self) -> Image:
        image = self._description.image
        if image is None:
            raise UserError(self._description.takes())
        return image

    def _checked(self, values: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The inputs by name, as backends take them."""
        if self._input is not None and len(values) == 1 and not named:  # as most calls are: the rest takes microseconds
            value = self._input.checked(values[0])
            size = self._input.sizes(value)
            if (size,) not in self._fitting:
                self._check_sizes({self._input.name: size})
            return {self._input.name: value}
        names = [source.name for source in self.inputs]
        given = dict(zip(names, values)) | dict(named)
        twice = [name for name in names[: len(values)] if name in named]
        if len(values) > len(names) or twice or set(given) != set(names):
            missing, unknown = (
                [name for name in names if name not in given],
                [name for name in named if name not in names],
            )
            faults = [
                f"{len(values)} values are given in order" if len(values) > len(names) else "",
                f"{', '.join(missing)} is missing" if missing else "",
                f"{', '.join(unknown)} is unknown" if unknown else "",
                f"{', '.join(twice)} is given twice" if twice else "",
            ]
            raise UserError(f"{self._description.needs()}: {'; '.join(filter(None, faults))}")
        checked = {}
        for source in self.inputs:
            try:
                checked[source.name] = source.checked(given[source.name])
            except UserError as error:
                raise UserError(f"input {source.name}: {error}" if len(names) > 1 else str(error)) from None
        batches = {name: len(array) for name, array in checked.items()}
        if len(set(batches.values())) > 1:
            raise UserError(f"the batches differ: {', '.join(f'{name} {count}' for name, count in batches.items())}")
        self._check_sizes({source.name: source.sizes(checked[source.name]) for source in self.inputs})
        return checked

    def fits(self, *sizes: tuple[int, ...]) -> bool:
        """Whether inputs of these sizes, in order, fit: (H, W, C), (T, 1, 1) of tokens, (C,) of a vector."""
        try:
            self._check_sizes({source.name: size for source, size in zip(self.inputs, sizes, strict=True)})
        except UserError:
            return False
        return True

    def _check_sizes(self, sizes: dict[str, tuple[int, ...]]) -> None:
        key = tuple(sizes.values())
        if key in self._fitting:
            return
        try:
            self._backend.check(sizes)
        except UserError as error:
            made = {source.name: source.map for source in self.inputs}
            if self._description.image is None:
                raise UserError(
                    f"inputs of {_words(sizes)} do not fit, the network was made for {_words(made)}: {error}"
                ) from None
            (height, width, _), (h, w, _) = key[0], self.inputs[0].map
            raise UserError(
                f"images of {height} × {width} do not fit, the network was made for {h} × {w}: {error}"
            ) from None
        if len(self._fitting) >= MAX_SIZES:
            self._fitting.clear()
        self._fitting.add(key)


def channels_first(x: np.ndarray) -> np.ndarray:
    """(B, H, W, C) as (B, C, H, W); vectors as they are."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x


def _words(sizes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} ({', '.join(map(str, size))})" for name, size in sizes.items())
