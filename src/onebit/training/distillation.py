"""Learning from a teacher: where the teacher comes from, and what the student's distance from it costs.

With student logits s and teacher logits t, (B, classes), p(z) = softmax(z) and means over the batch:

    distribution   -sum_c p(t)_c log p(s)_c, in place of the labels
    soft           (1 - w) CE(s, labels) + w T^2 KL(p(t / T) || p(s / T))

The first is ReActNet's distributional loss (Liu et al. 2020) as its released code computes it: KL(p(t) || p(s)) plus the
teacher's entropy, which has no gradient. The second is Hinton et al. 2015, sec. 2.

The teacher is frozen: evaluation mode, no gradients; it is in no optimizer and in no checkpoint.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.checkpoints import checkpoint, weights
from onebit.data.dataset import IMAGENET_MEAN, IMAGENET_STD, Data, Normalization
from onebit.errors import UserError
from onebit.nn.layers import binary_layers
from onebit.training.recipe import Recipe


class Teacher(nn.Module):
    """A frozen network for images in the student's normalisation: (B, C, H, W) -> logits (B, classes), no gradient."""

    scale: Tensor
    shift: Tensor

    def __init__(self, model: nn.Module, theirs: Normalization, ours: Normalization):
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        self.binary = bool(binary_layers(model))
        self.renormalizes = theirs != ours
        scale, shift = ours.change_to(theirs)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def train(self, mode: bool = True) -> "Teacher":
        """Stays in evaluation mode, whatever the network around it does."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        # Nothing here requires a gradient, so none is recorded. Binary layers that evaluate without gradients read
        # scales as Python numbers, which a compiled step cannot: where there are any, gradients stay enabled.
        with torch.set_grad_enabled(self.binary):
            return self.model(images * self.scale + self.shift if self.renormalizes else images)


class Distillation(nn.Module):
    """The teacher's part of the loss; `labels_weight` is the weight of the labels' part beside it."""

    def __init__(self, teacher: Teacher, kind: str, weight: float, temperature: float):
        super().__init__()
        self.teacher, self.kind, self.weight, self.temperature = teacher, kind, weight, temperature
        self.labels_weight = 0.0 if kind == "distribution" else 1.0 - weight

    def forward(self, images: Tensor, logits: Tensor) -> Tensor:
        """images (B, C, H, W) and the student's logits (B, classes) -> number."""
        target = self.teacher(images).float()
        if self.kind == "distribution":
            return distribution_loss(logits, target)
        return self.weight * soft_loss(logits, target, self.temperature)


def distribution_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """-1/B sum_b sum_c p_c(teacher_b) log p_c(student_b), from logits (B, classes)."""
    return F.cross_entropy(student, teacher.softmax(1))


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 / B sum_b KL(softmax(teacher_b / T) || softmax(student_b / T)), from logits (B, classes)."""
    log_p, log_q = (teacher / temperature).log_softmax(1), (student / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")


def distillation(recipe: Recipe, data: Data) -> Distillation | None:
    """The recipe's distillation for images and classes of `data`; None where the recipe names no teacher."""
    if recipe.teacher is None:
        if recipe.teacher_weights is not None or recipe.distillation == "soft":
            key = "teacher_weights" if recipe.teacher_weights is not None else "distillation"
            raise UserError(f"recipe: {key} = {getattr(recipe, key)!r} without a teacher; set teacher, or leave it out")
        return None
    return Distillation(teacher(recipe, data), recipe.distillation, recipe.distillation_weight, recipe.temperature)


def teacher(recipe: Recipe, data: Data) -> Teacher:
    """recipe.teacher: a checkpoint of onebit, timm:NAME or torchvision:NAME, with recipe.teacher_weights or the download.

    Raises UserError for a teacher that cannot be had, and for one of other classes or images than the data's.
    """
    name = recipe.teacher or ""
    library, _, model_name = name.partition(":")
    if library in LIBRARIES and model_name:
        model, normalization = LIBRARIES[library](
            model_name, recipe.teacher_weights, len(data.labels), data.in_channels
        )
    elif Path(name).is_file():
        if recipe.teacher_weights is not None:
            raise UserError(f"recipe: teacher {name} holds its own weights; leave teacher_weights out")
        model, normalization = _ours(name, data)
    else:
        raise UserError(f"recipe: teacher = {name!r} is neither a file nor timm:NAME nor torchvision:NAME")
    frozen = Teacher(model, normalization or data.normalization, data.normalization)
    frozen.to(memory_format=torch.channels_last if recipe.channels_last else torch.contiguous_format)
    probe = torch.zeros(1, data.in_channels, data.image_size, data.image_size)
    try:
        classes = frozen(probe).shape[1]
    except (RuntimeError, ValueError, AssertionError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"recipe: teacher {name} does not take images of {tuple(probe.shape[1:])}: {reason}") from error
    if classes != len(data.labels):
        raise UserError(
            f"recipe: teacher {name} tells {classes} classes apart, {data.name} has {len(data.labels)}; "
            "choose a teacher trained on the same classes"
        )
    return frozen


def _ours(path: str, data: Data) -> tuple[nn.Module, Normalization | None]:
    content = checkpoint.load(path)
    model = checkpoint.build(content, path)
    labels = content.get("labels")
    if labels and len(labels) == len(data.labels) and list(labels) != list(data.labels):
        mine, theirs = next((a, b) for a, b in zip(data.labels, labels, strict=True) if a != b)
        raise UserError(
            f"recipe: teacher {path} has the class {theirs!r} where {data.name} has {mine!r}; choose another"
        )
    found = checkpoint.normalization(content, path)
    return model, Normalization(*found) if found else None


def _timm(name: str, weights: str | None, classes: int, in_channels: int) -> tuple[nn.Module, Normalization | None]:
    import timm

    if not timm.is_model(name):
        raise UserError(f"recipe: teacher = 'timm:{name}' is not a network of timm {timm.__version__}")
    if weights is None:
        model = _downloaded(f"timm:{name}", lambda: timm.create_model(name, pretrained=True))
    else:
        model = timm.create_model(name, pretrained=False, num_classes=classes, in_chans=in_channels)
        _load(model, f"timm:{name}", weights)
    found = timm.data.resolve_model_data_config(model)
    return model, Normalization(tuple(found["mean"]), tuple(found["std"])) if len(
        found["mean"]
    ) == in_channels else None


def _torchvision(
    name: str, weights: str | None, classes: int, in_channels: int
) -> tuple[nn.Module, Normalization | None]:
    import torchvision

    if name not in torchvision.models.list_models(torchvision.models):
        raise UserError(f"recipe: teacher = 'torchvision:{name}' is not a network of torchvision.models")
    if weights is None:
        model = _downloaded(f"torchvision:{name}", lambda: torchvision.models.get_model(name, weights="DEFAULT"))
    else:
        model = torchvision.models.get_model(name, weights=None, num_classes=classes)
        _load(model, f"torchvision:{name}", weights)
    return model, Normalization(IMAGENET_MEAN, IMAGENET_STD)


LIBRARIES = {"timm": _timm, "torchvision": _torchvision}


def _downloaded(name: str, create: Any) -> nn.Module:
    try:
        return create()
    except Exception as error:  # each library and each of its transports has its own
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"recipe: the weights of teacher {name} cannot be downloaded ({type(error).__name__}: {reason}); "
            "set teacher_weights to a local file"
        ) from error


def _load(model: nn.Module, name: str, path: str) -> None:
    """Load a safetensors or PyTorch file, without executing anything. UserError for any tensor left over or missing."""
    remedy = "set teacher_weights to a file of the teacher's weights"
    state = {key.removeprefix("module."): value for key, value in weights.read(path, remedy).items()}
    weights.load(model, state, f"teacher_weights {path}", name, remedy, lambda key: key.endswith("num_batches_tracked"))
