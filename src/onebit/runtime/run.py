"""Pictures in, answers out: what `onebit run` and `Model.predict` do. Needs what reads the files (Pillow for pictures), not
PyTorch."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from onebit.errors import UserError
from onebit.runtime import pictures
from onebit.runtime.answers import ANSWERS, USUAL, Answer, Asked
from onebit.runtime.folders import Found
from onebit.runtime.network import Network
from onebit.runtime.pictures import Seen

READERS = {"image": pictures}  # by kind of input: find(paths) -> files; check_model(model); seen(source, model) -> Seen
BATCH = 64  # inputs at a time


class Row(NamedTuple):
    """What became of a file: its answer, or why it has none (a line that starts with the path), and where it was drawn."""

    path: str
    answer: Answer | None
    problem: str = ""
    drawn: str = ""


def run(
    model: Network, paths: Sequence[str], asked: Asked = USUAL, draw: str | None = None, batch_size: int = BATCH
) -> tuple[int, Iterator[Row]]:
    """The number of files, and a row for each, in order: as they come, a batch at a time.

    draw   a folder for the pictures with the boxes of a detector's answers, by their names, in folders as they are

    Folders are searched with their subfolders. A file that cannot be read costs the others nothing. Raises UserError for a
    network without answers.
    """
    reader = READERS[model.input_kind]
    reader.check_model(model)
    check_asked(model, asked)
    files = reader.find(paths)
    places: Sequence[Path | None] = [None] * len(files) if draw is None else targets(model, files, draw)

    def rows() -> Iterator[Row]:
        for start in range(0, len(files), batch_size):
            inputs, problems = [], {}
            for place, file in enumerate(files[start : start + batch_size]):
                try:
                    if file.problem:
                        raise UserError(f"{file.path} cannot be read as an {model.input_kind}: {file.problem}")
                    inputs.append(reader.seen(file.path, model))
                except UserError as error:
                    problems[place] = str(error)
            found = iter(answered(model, inputs, asked) if inputs else ())
            for place, file in enumerate(files[start : start + batch_size]):
                if problem := problems.get(place):
                    yield Row(file.path, None, problem)
                    continue
                answer, target = next(found), places[start + place]
                drawn = "" if target is None else str(draw_answer(model, file.path, answer, target))
                yield Row(file.path, answer, drawn=drawn)

    return len(files), rows()


def targets(model: Network, found: Sequence[Found], folder: str) -> Sequence[Path]:
    """Where each picture is drawn. Raises UserError for a network whose answers have no boxes."""
    from onebit.runtime import drawing

    if not ANSWERS[model.task.answer].placed:
        raise UserError(f"boxes are drawn, and {model.name} answers labels")
    return drawing.targets(found, folder)


def draw_answer(model: Network, path: str, answer: Answer, target: Path) -> Path:
    """The picture, which is decoded again: a batch of them as they are may take gigabytes. Returns where it was written."""
    from onebit.runtime import drawing

    return drawing.save(drawing.drawn(pictures.upright(path, "RGB"), answer, model.labels), target)


def predict(model: Network, sources: Sequence[Any], asked: Asked) -> list[Answer]:
    """The answers to some pictures, each as `pictures.seen` takes it."""
    check_asked(model, asked)
    reader = READERS[model.input_kind]
    found: list[Answer] = []
    for start in range(0, len(sources), BATCH):
        found += answered(model, [reader.seen(source, model) for source in sources[start : start + BATCH]], asked)
    return found


def check_asked(model: Network, asked: Asked) -> None:
    """Refuse what has no effect on the network's answers."""
    if asked.threshold is not None and not ANSWERS[model.task.answer].placed:
        raise UserError(f"a threshold is for boxes, and {model.name} answers labels: their number is top")


def answered(model: Network, inputs: Sequence[Seen], asked: Asked = USUAL) -> list[Answer]:
    """The answers to a batch."""
    found: np.ndarray | dict[str, np.ndarray] = model(np.stack([source.pixels for source in inputs]))
    outputs = list(found.values()) if isinstance(found, dict) else [found]
    frames = [source.frame for source in inputs]
    return ANSWERS[model.task.answer].answers(outputs, model.task.settings, model.labels, frames, asked)
