"""Pictures or texts in, answers out: what `onebit run` and `Model.predict` do. Needs what reads the files (Pillow for pictures),
not PyTorch."""

import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from onebit.errors import UserError
from onebit.runtime.answers import ANSWERS, USUAL, Answer, Asked, Frame
from onebit.runtime.folders import Found
from onebit.runtime.network import Network

READERS = {"image": "onebit.runtime.pictures", "text": "onebit.runtime.texts"}  # by kind of input: each a Reader


class Reader(Protocol):
    """How one kind of input is read: a module.

    MANY   inputs that are read at a time
    """

    MANY: int

    def find(self, given: Sequence[Any]) -> Sequence[Any]:
        """What there is to read: of files and folders the files, each with its `path`."""

    def check_model(self, model: Network) -> None:
        """Raises UserError for a network that takes none of these."""

    def opened(self, found: Any, model: Network) -> Any:
        """What the network sees of one that was found. Raises UserError, which starts with where it is."""

    def seen(self, source: Any, model: Network) -> Any:
        """The same of what a caller gives. Raises UserError."""

    def groups(self, inputs: Sequence[Any]) -> list[list[int]]:
        """Of inputs as they are seen, the numbers of those that run in one call."""

    def given(self, inputs: Sequence[Any], model: Network) -> list[np.ndarray]:
        """The values of a call for such a group."""

    def frame(self, source: Any) -> Frame:
        """The part of a picture that is seen."""


class Row(NamedTuple):
    """What became of a file, or a text: its answer, or why it has none (a line that starts with the path), where it was drawn,
    and whether the network saw the beginning alone."""

    path: str
    answer: Answer | None
    problem: str = ""
    drawn: str = ""
    cut: bool = False


def reader_of(model: Network) -> Reader:
    """Raises UserError for a network of other inputs."""
    reader: Reader = import_module(READERS[model.input_kind])
    return reader


def run(
    model: Network, given: Sequence[Any], asked: Asked = USUAL, draw: str | None = None, batch_size: int | None = None
) -> tuple[int, Iterator[Row]]:
    """The number of files, or texts, and a row for each, in order: as they come, a batch at a time.

    given        paths of files and folders, which are searched with their subfolders; or texts, or `texts.Line`s
    draw         a folder for the pictures with the boxes of a detector's answers, by their names, in folders as they are
    batch_size   so many are read at a time; None: as many as their kind says

    One that cannot be read costs the others nothing. Raises UserError for a network without answers.
    """
    reader = reader_of(model)
    reader.check_model(model)
    check_asked(model, asked)
    files = reader.find(given)
    places: Sequence[Path | None] = [None] * len(files) if draw is None else targets(model, files, draw)
    size = batch_size or reader.MANY

    def rows() -> Iterator[Row]:
        for start in range(0, len(files), size):
            inputs, problems = [], {}
            for place, file in enumerate(files[start : start + size]):
                try:
                    inputs.append(reader.opened(file, model))
                except UserError as error:
                    problems[place] = str(error)
            found = iter(zip(inputs, answered(model, inputs, asked), strict=True))
            for place, file in enumerate(files[start : start + size]):
                if problem := problems.get(place):
                    yield Row(file.path, None, problem)
                    continue
                source, answer = next(found)
                target = places[start + place]
                drawn = "" if target is None else str(draw_answer(model, file.path, answer, target))
                yield Row(file.path, answer, "", drawn, getattr(source, "cut", False))

    return len(files), rows()


def targets(model: Network, found: Sequence[Found], folder: str) -> Sequence[Path]:
    """Where each picture is drawn. Raises UserError for a network whose answers have no boxes."""
    from onebit.runtime import drawing

    if not ANSWERS[model.task.answer].placed:
        raise UserError(f"boxes are drawn, and {model.name} answers labels")
    return drawing.targets(found, folder)


def draw_answer(model: Network, path: str, answer: Answer, target: Path) -> Path:
    """The picture, which is decoded again: a batch of them as they are may take gigabytes. Returns where it was written."""
    from onebit.runtime import drawing, pictures

    return drawing.save(drawing.drawn(pictures.upright(path, "RGB"), answer, model.labels), target)


def predict(model: Network, sources: Sequence[Any], asked: Asked) -> list[Answer]:
    """The answers to some pictures, or texts, each as the `seen` of their kind takes it. Warns of texts that are cut."""
    check_asked(model, asked)
    reader = reader_of(model)
    found: list[Answer] = []
    cut = 0
    for start in range(0, len(sources), reader.MANY):
        inputs = []
        for number, source in enumerate(sources[start : start + reader.MANY], start + 1):
            try:
                inputs.append(reader.seen(source, model))
            except UserError as error:
                raise UserError(f"number {number} of {len(sources)}: {error}" if len(sources) > 1 else error) from error
        cut += sum(getattr(source, "cut", False) for source in inputs)
        found += answered(model, inputs, asked)
    if cut:
        from onebit.runtime import texts

        warnings.warn(texts.said(cut, len(sources), model.texts.length), stacklevel=3)
    return found


def check_asked(model: Network, asked: Asked) -> None:
    """Refuse what has no effect on the network's answers."""
    if asked.threshold is not None and not ANSWERS[model.task.answer].placed:
        raise UserError(f"a threshold is for boxes, and {model.name} answers labels: their number is top")


def answered(model: Network, inputs: Sequence[Any], asked: Asked = USUAL) -> list[Answer]:
    """The answers to a batch, in its order."""
    reader = reader_of(model)
    answers: dict[int, Answer] = {}
    for numbers in reader.groups(inputs):
        group = [inputs[number] for number in numbers]
        found: np.ndarray | dict[str, np.ndarray] = model(*reader.given(group, model))
        outputs = list(found.values()) if isinstance(found, dict) else [found]
        frames = [reader.frame(source) for source in group]
        row = ANSWERS[model.task.answer]
        answers |= zip(numbers, row.answers(outputs, model.task.settings, model.labels, frames, asked), strict=True)
    return [answers[number] for number in range(len(inputs))]
