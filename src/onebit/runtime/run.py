"""Pictures in, answers out: what `onebit run` and `Model.predict` do. Needs what reads the files (Pillow for pictures), not
PyTorch."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from onebit.errors import UserError
from onebit.runtime import pictures
from onebit.runtime.answers import Answer, answers
from onebit.runtime.network import Network, first_output

READERS = {
    "image": pictures
}  # by kind of input: find(paths) -> files; check_model(model); read(source, model) -> array
BATCH = 64  # inputs at a time


class Row(NamedTuple):
    """What became of a file: its answer, or why it has none (a line that starts with the path)."""

    path: str
    answer: Answer | None
    problem: str = ""


def run(model: Network, paths: Sequence[str], top: int, batch_size: int = BATCH) -> tuple[int, Iterator[Row]]:
    """The number of files, and a row for each, in order, with the `top` best labels: as they come, a batch at a time.

    Folders are searched with their subfolders. A file that cannot be read costs the others nothing. Raises UserError for a
    network without answers.
    """
    reader = READERS[model.input_kind]
    reader.check_model(model)
    files = reader.find(paths)

    def rows() -> Iterator[Row]:
        for start in range(0, len(files), batch_size):
            inputs, problems = [], {}
            for place, file in enumerate(files[start : start + batch_size]):
                try:
                    if file.problem:
                        raise UserError(f"{file.path} cannot be read as an {model.input_kind}: {file.problem}")
                    inputs.append(reader.read(file.path, model))
                except UserError as error:
                    problems[place] = str(error)
            found = iter(answered(model, inputs, top) if inputs else ())
            for place, file in enumerate(files[start : start + batch_size]):
                problem = problems.get(place, "")
                yield Row(file.path, None if problem else next(found), problem)

    return len(files), rows()


def predict(model: Network, sources: Sequence[Any], top: int) -> list[Answer]:
    """The answers to some pictures, each as `pictures.read` takes it."""
    reader = READERS[model.input_kind]
    found: list[Answer] = []
    for start in range(0, len(sources), BATCH):
        found += answered(model, [reader.read(source, model) for source in sources[start : start + BATCH]], top)
    return found


def answered(model: Network, inputs: list[np.ndarray], top: int) -> list[Answer]:
    outputs = first_output(model, np.stack(inputs))  # (B, labels)
    if outputs.ndim != 2:
        raise UserError(f"{model.name} gives maps {outputs.shape[1:]}, not one number for each label: it has no answer")
    return answers(model.task.answer, outputs, model.labels, top)
