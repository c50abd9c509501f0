"""A training recipe: flat, typed keys; defaults < recipe file (TOML) < command line. The resolved recipe is saved with the run."""

import dataclasses
import difflib
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from onebit.errors import UserError


@dataclass
class Recipe:
    """Every key of a recipe file and of `onebit train`.

    Args:
        data: data set, a row of the data table (cifar10, cifar100, digits, imagefolder, webdataset, parquet)
        root: folder that holds the data set
        download: fetch the data set where there is a network
        model: network, a row of the model table (resnet20, resnet18, vgg_small, ...)
        method: binarization method, a row of the method table, or float for the full-precision parent
        options: the method's own options, for example {"variant": "paper"}
        structure: what differs from the structure of the method's paper, for example {"block": "bireal"}
        binarize: both operands, or activations alone: the first step of two-step training, whose weights stay real
        initial: checkpoint whose weights the training starts from, such as the first step's last.ckpt
        image_size: side of the square network input in pixels; data sets of a fixed size have their own
        epochs: passes over the training images
        batch_size: images per step, over all devices
        accumulate: parts a device splits its share of the batch into, one after the other, where memory is short
        optimizer: sgd (with Nesterov off), adam or adamw
        lr: peak learning rate
        lr_batch_size: batch size that lr was chosen for: lr is multiplied by batch_size / lr_batch_size; 0 leaves lr as it is
        momentum: momentum of sgd
        weight_decay: L2 penalty (decoupled for adamw)
        decay_norm_and_scalars: whether weight decay also applies to biases, norms, scales and other 1-value-a-channel parameters
        schedule: learning rate after warm-up: cosine to 0, linear to 0, step (x step_gamma at each of step_milestones) or constant
        step_milestones: fractions of the training, in (0, 1), at which `step` multiplies the learning rate
        step_gamma: factor of `step`, in (0, 1]
        warmup_epochs: epochs of linear warm-up from 0
        label_smoothing: label smoothing of the cross-entropy loss
        teacher: network to learn from: a checkpoint, or timm:NAME or torchvision:NAME; none learns from the labels
        teacher_weights: local file with the weights of a timm or torchvision teacher; default: the library's download
        distillation: distribution replaces the labels by the teacher's probabilities (ReActNet), soft adds them to the labels
        distillation_weight: weight of the teacher's part of the loss in `soft`
        temperature: temperature of both networks' probabilities in `soft`
        mixup: alpha of mixup; 0 means none
        cutmix: alpha of cutmix; 0 means none
        rand_augment: timm's RandAugment of photographs, such as rand-m9-mstd0.5; empty means none
        color_jitter: strength of random brightness, contrast and saturation of photographs; 0 means none
        lighting: standard deviation of AlexNet's PCA lighting noise on photographs; 0 means none
        crop_scale: smallest share of a photograph's area that random crops keep
        max_corrupt: training photographs that cannot be decoded and are replaced by another one before the run stops
        clip_grad_norm: bound on the norm of the whole gradient; 0 means none
        ema_decay: decay per step of an exponential moving average of the weights, evaluated and saved beside them; 0 means none
        precision: 32-true, bf16-mixed (autocast), or auto: bf16-mixed where the processor multiplies bf16 itself
        compile: torch.compile; auto means on for runs long enough to repay the compilation
        channels_last: NHWC memory layout
        deterministic: bit-for-bit repeatable kernels
        seed: of weights, rotations, order and augmentation, below 2^32
        threads: CPU threads; 0 means PyTorch's default
        accelerator: Fabric's accelerator (auto, cpu, cuda)
        devices: number of devices, or auto
        num_nodes: number of machines; torchrun and SLURM tell it themselves
        strategy: Fabric's strategy (auto, ddp)
        sync_batch_norm: batch norm statistics over all devices (GPUs only)
        workers: processes that decode images of folder data sets
        out: run folder; default runs/<recipe's name>-<seed>
        checkpoint_steps: save every so many steps inside an epoch too; 0 means at the end of epochs only
        eval_every: epochs between evaluations; the last epoch is always evaluated
    """

    data: str = "cifar10"
    root: str = "data"
    download: bool = False
    model: str = "resnet20"
    method: str = "adabin"
    options: dict[str, Any] = field(default_factory=dict)
    structure: dict[str, Any] = field(default_factory=dict)
    binarize: Literal["both", "activations"] = "both"
    initial: str | None = None
    image_size: int = 224
    epochs: int = 400
    batch_size: int = 128
    accumulate: int = 1
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = 0.1
    lr_batch_size: int = 0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay_norm_and_scalars: bool = True
    schedule: Literal["cosine", "linear", "step", "constant"] = "cosine"
    step_milestones: list[float] = field(default_factory=lambda: [0.5, 0.75])
    step_gamma: float = 0.1
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    teacher: str | None = None
    teacher_weights: str | None = None
    distillation: Literal["distribution", "soft"] = "distribution"
    distillation_weight: float = 0.9
    temperature: float = 4.0
    mixup: float = 0.0
    cutmix: float = 0.0
    rand_augment: str = ""
    color_jitter: float = 0.0
    lighting: float = 0.0
    crop_scale: float = 0.08
    max_corrupt: int = 10
    clip_grad_norm: float = 0.0
    ema_decay: float = 0.0
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    compile: Literal["auto", "true", "false"] = "auto"
    channels_last: bool = True
    deterministic: bool = False
    seed: int = 0
    threads: int = 0
    accelerator: str = "auto"
    devices: str = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    sync_batch_norm: bool = False
    workers: int = 2
    out: str | None = None
    checkpoint_steps: int = 0
    eval_every: int = 1

    def __post_init__(self) -> None:
        for name, kind in typing.get_type_hints(type(self)).items():
            if not _fits(getattr(self, name), kind):
                what = " or ".join(map(repr, typing.get_args(kind))) or kind.__name__
                raise UserError(f"recipe: {name} = {getattr(self, name)!r} must be {what}")
        positive = ("epochs", "batch_size", "accumulate", "lr", "image_size", "eval_every", "temperature", "num_nodes")
        fractions = ("label_smoothing", "ema_decay", "momentum")
        natural = (
            *("weight_decay", "warmup_epochs", "clip_grad_norm", "threads", "checkpoint_steps", "seed", "workers"),
            *("lr_batch_size", "mixup", "cutmix", "color_jitter", "lighting", "max_corrupt"),
        )
        shares = ("distillation_weight", "crop_scale", "step_gamma")
        for names, valid, what in (
            (positive, lambda v: v > 0, "greater than 0"),
            (fractions, lambda v: 0 <= v < 1, "in [0, 1)"),
            (shares, lambda v: 0 < v <= 1, "in (0, 1]"),
            (natural, lambda v: v >= 0, "at least 0"),
        ):
            for name in names:
                if not valid(getattr(self, name)):
                    raise UserError(f"recipe: {name} = {getattr(self, name)!r} must be {what}")
        if self.seed >= 2**32:
            raise UserError(f"recipe: seed = {self.seed} must be below 2^32")
        for milestone in self.step_milestones:
            if not _fits(milestone, float) or not 0 < milestone < 1:
                raise UserError(
                    f"recipe: step_milestones holds {milestone!r}; each must be a fraction of the training in (0, 1), "
                    f"not an epoch"
                )


def _fits(value: object, kind: Any) -> bool:
    """Whether value has the type that a key of Recipe declares; whole numbers are floats too."""
    if typing.get_origin(kind) is Literal:
        return value in typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(kind))
    if kind is float:
        return type(value) in (int, float)
    return type(value) is (typing.get_origin(kind) or kind)


KEYS = [f.name for f in dataclasses.fields(Recipe)]


def read(path: str | Path) -> dict[str, Any]:
    """The keys a recipe file sets. Raises UserError for a missing or malformed file and for unknown keys."""
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"recipe {path}: {error.strerror}; recipes/ holds those that come with onebit") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {path}: not a TOML file: {error}") from error
    for key in values:
        if key not in KEYS:
            close = difflib.get_close_matches(key, KEYS, 1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; the keys are {', '.join(KEYS)}"
            raise UserError(f"recipe {path}: unknown key {key!r}{hint}")
    return values
