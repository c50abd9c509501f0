"""GLUE's scores of answers to texts, of all examples together (torchmetrics).

accuracy   share of texts whose label has the largest logit
f1         of the second label: 2 hits / (answers with it + texts with it)
matthews   correlation of answered and true labels, in [-1, 1]
pearson    correlation of outputs and quantities, in [-1, 1]; 0 where the outputs are all equal
spearman   the same of their ranks
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional import matthews_corrcoef, pearson_corrcoef, spearman_corrcoef
from torchmetrics.functional.classification import binary_f1_score
from torchmetrics.utilities import dim_zero_cat


def accuracy(answers: Tensor, targets: Tensor) -> Tensor:
    return (answers == targets).double().mean()


def f1(answers: Tensor, targets: Tensor) -> Tensor:
    return binary_f1_score((answers == 1).long(), (targets == 1).long())


def matthews(answers: Tensor, targets: Tensor) -> Tensor:
    classes = int(max(answers.max(), targets.max(), torch.tensor(1))) + 1
    return matthews_corrcoef(answers.long(), targets.long(), "multiclass", num_classes=classes)


def pearson(answers: Tensor, targets: Tensor) -> Tensor:
    return pearson_corrcoef(answers, targets) if differ(answers, targets) else torch.zeros(())


def spearman(answers: Tensor, targets: Tensor) -> Tensor:
    return spearman_corrcoef(answers, targets) if differ(answers, targets) else torch.zeros(())


def differ(answers: Tensor, targets: Tensor) -> bool:
    """Whether a correlation is defined: neither has all its values equal."""
    return all(len(values) > 1 and bool((values != values[0]).any()) for values in (answers, targets))


SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    each.__name__: each for each in (accuracy, f1, matthews, pearson, spearman)
}


class TextScores(Metric):
    """The named scores of outputs (B, labels) and targets (B,); of one label the output is the answer, else the largest one's
    number. State: answers and targets as float64, so that processes and resumed epochs can be joined."""

    full_state_update = False
    answers: Any
    targets: Any

    def __init__(self, names: Sequence[str]):
        super().__init__()
        self.names = tuple(names)
        for state in ("answers", "targets"):
            self.add_state(state, [], dist_reduce_fx="cat")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        answers = outputs[:, 0] if outputs.shape[1] == 1 else outputs.argmax(1)
        self.answers.append(answers.double())
        self.targets.append(targets.double())

    def compute(self) -> dict[str, Tensor]:
        if not len(self.answers):
            return dict.fromkeys(self.names, torch.tensor(torch.nan))
        answers, targets = dim_zero_cat(self.answers), dim_zero_cat(self.targets)
        return {name: SCORES[name](answers, targets) for name in self.names}
