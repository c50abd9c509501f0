"""What takes part in a benchmark, and the check of its answers before anything is timed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from onebit.errors import UserError

MAX_ISA = "ONEDNN_MAX_CPU_ISA"  # oneDNN, inside PyTorch and OpenVINO, reads it once, when the process starts
TOLERANCE = 1e-3  # of logits, relative to the largest one
CLOSE = 0.9  # correlation of the answers of one network


class Contender(NamedTuple):
    """An engine with a network and its inputs: `call()` answers once, on row["threads"] threads."""

    row: dict[str, Any]  # "engine", "precision", "isa", "threads"
    call: Callable[[], Any]


def check(name: str, answer: np.ndarray, expected: np.ndarray) -> None:
    """Raises UserError where the answer has another shape, or differs by more than TOLERANCE times the largest |expected|."""
    if answer.shape != expected.shape:
        raise UserError(f"{name} answers with shape {answer.shape}, not {expected.shape}; no time is reported")
    error = float(np.abs(answer - expected).max() / max(np.abs(expected).max(), 1e-12))
    if not error <= TOLERANCE:
        raise UserError(
            f"{name} answers differently from the reference (relative error {error:.1e}); no time is reported"
        )


def check_signs(name: str, answer: np.ndarray, expected: np.ndarray) -> list[str]:
    """`check` of a binary network that rounds in another order: a value within a rounding error of its threshold may then get
    another sign, and in random weights change much of what follows. Returns a warning where the answers are nearly the same, by
    their correlation; raises UserError where they are not."""
    try:
        check(name, answer, expected)
    except UserError:
        correlation = np.corrcoef(answer.ravel(), expected.ravel())[0, 1] if answer.shape == expected.shape else 0.0
        if not correlation >= CLOSE:
            raise
        return [f"{name} gives some values another sign than the reference (correlation {correlation:.3f})"]
    return []
