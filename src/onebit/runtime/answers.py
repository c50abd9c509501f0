"""From a network's outputs to what a person reads: [{"label", "score"}, ...], the best first, for each input.

A task names the row of ANSWERS that its packed files carry. Only numpy is needed.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Answer = list[dict[str, Any]]


def one(outputs: np.ndarray) -> np.ndarray:
    """One label of all: softmax of logits (B, labels); the scores of an input sum to 1."""
    logits = outputs.astype(np.float64)  # whose rounding is the same in C
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)


def several(outputs: np.ndarray) -> np.ndarray:
    """Any number of labels: the logistic function of logits (B, labels), each by itself."""
    return np.exp(-np.logaddexp(0, -outputs.astype(np.float64))).astype(np.float32)


def values(outputs: np.ndarray) -> np.ndarray:
    """Quantities that are their own score: outputs (B, labels) as they are."""
    return outputs


ANSWERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"one": one, "several": several, "values": values}


def answers(kind: str, outputs: np.ndarray, labels: Sequence[str] | None, top: int) -> list[Answer]:
    """For each of the outputs (B, labels), the `top` labels of the highest scores; without names, labels are numbers."""
    scores = ANSWERS[kind](outputs)
    names = labels or tuple(str(i) for i in range(scores.shape[1]))
    rows = []
    for row in scores:
        best = np.argsort(-row, kind="stable")[:top]
        rows.append([{"label": names[i], "score": round(float(row[i]), 6)} for i in best])
    return rows


def text(kind: str, answer: Answer) -> str:
    """An answer on one line: labels with their scores, in percent where they are probabilities."""
    parts = (
        f"{p['label']} {p['score']:g}" if kind == "values" else f"{p['label']} {100 * p['score']:.1f} %" for p in answer
    )
    return "  ".join(parts)
