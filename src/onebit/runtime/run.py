"""Files in, answers out: what `onebit run` does. Needs what reads the files (Pillow for pictures), not PyTorch."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from onebit.errors import UserError
from onebit.runtime import pictures
from onebit.runtime.answers import answers
from onebit.runtime.model import Model

READERS = {"image": pictures}  # by kind of input: find(paths) -> files; read(file, model) -> array


def run(model: Model, paths: Sequence[str], top: int, batch_size: int = 64) -> list[dict[str, Any]]:
    """[{kind of input: path, "predictions": [{"label", "score"}, ...]}, ...] with the `top` best labels of each file.

    Folders are searched with their subfolders. Raises UserError for files that cannot be read, and for a network whose
    outputs are maps.
    """
    reader = READERS[model.input_kind]
    files = reader.find(paths)
    rows = []
    for start in range(0, len(files), batch_size):
        chosen = files[start : start + batch_size]
        outputs = model(np.stack([reader.read(path, model) for path in chosen]))  # (B, labels)
        if outputs.ndim != 2:
            raise UserError(
                f"{model.name} gives maps {outputs.shape[1:]}, not one number for each label: it has no answer"
            )
        for path, answer in zip(chosen, answers(model.task.answer, outputs, model.labels, top), strict=True):
            rows.append({model.input_kind: str(path), "predictions": answer})
    return rows
