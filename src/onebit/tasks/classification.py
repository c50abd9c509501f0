"""One label for each input: logits (B, classes), targets class indices (B,) or probabilities (B, classes).

Three distances from a teacher with logits t of a student with logits s, p(z) = softmax(z) and means over the batch:

    distribution   -sum_c p(t)_c log p(s)_c
    soft           T^2 KL(p(t / T) || p(s / T))
    squares        mean_c (t_c - s_c)^2

The first is ReActNet's distributional loss (Liu et al. 2020) as its released code computes it: KL(p(t) || p(s)) plus the
teacher's entropy, which has no gradient. The second is Hinton et al. 2015, sec. 2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from onebit.tasks.task import Task


class Accuracy(MulticlassAccuracy):
    """Share of inputs whose label has one of the `best` largest logits; probabilities (B, classes) count by their largest."""

    def __init__(self, classes: int, best: int = 1):
        super().__init__(classes, average="micro", validate_args=False)
        self.best = best

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        labels = targets if targets.dim() == 1 else targets.argmax(1)  # (B,)
        if self.best > 1:
            found = (outputs.topk(self.best, dim=1).indices == labels[:, None]).any(1)
            outputs = torch.where(
                found, labels, outputs.argmax(1)
            )  # an answer (B,), the label where it is among the best
        super().update(outputs, labels)

    def compute(self) -> Tensor:
        right = torch.as_tensor(self.tp).double()  # float32 would show in the fifth digit of a percentage
        return right / (right + torch.as_tensor(self.fn)).clamp(min=1)


class Classification(Task):
    name, answer = "classification", "one"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy of logits (B, classes), labels smoothed by label_smoothing."""
        return F.cross_entropy(outputs.float(), targets, label_smoothing=self.options.label_smoothing)

    def metrics(self) -> MetricCollection:
        """Top-1 accuracy, and top-5 too among more than ten classes, as the papers give it."""
        classes = len(self.labels)
        kinds: dict[str, Metric | MetricCollection] = {"accuracy": Accuracy(classes)}
        if classes > 10:
            kinds["accuracy_top5"] = Accuracy(classes, best=5)
        return MetricCollection(kinds)

    def random_targets(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.randint(len(self.labels), (count,), generator=generator)

    def distance(self, student: Tensor, teacher: Tensor, kind: str, temperature: float) -> Tensor:
        return logits_distance(student, teacher, kind, temperature)


def logits_distance(student: Tensor, teacher: Tensor, kind: str, temperature: float) -> Tensor:
    """One of the distances above, of logits (B, classes)."""
    student, teacher = student.float(), teacher.float()
    if kind == "distribution":
        return distribution_loss(student, teacher)
    return F.mse_loss(student, teacher) if kind == "squares" else soft_loss(student, teacher, temperature)


def distribution_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """-1/B sum_b sum_c p_c(teacher_b) log p_c(student_b), from logits (B, classes)."""
    return F.cross_entropy(student, teacher.softmax(1))


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 / B sum_b KL(softmax(teacher_b / T) || softmax(student_b / T)), from logits (B, classes)."""
    log_p, log_q = (teacher / temperature).log_softmax(1), (student / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
