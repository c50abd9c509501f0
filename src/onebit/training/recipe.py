"""A training recipe: flat, typed keys in groups; defaults < recipe file (TOML) < command line. The resolved recipe is saved with
the run."""

import dataclasses
import difflib
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from onebit.data import DATA
from onebit.data.options import DataOptions
from onebit.errors import UserError
from onebit.methods import METHODS
from onebit.models import MODELS
from onebit.options import FRACTION, NATURAL, POSITIVE, SHARE, Options, key
from onebit.tables import Table
from onebit.tasks.options import TaskOptions


@dataclass
class ModelOptions(Options):
    """Network"""

    model: str = key("resnet20", "network, a row of the model table, or timm:NAME or torchvision:NAME")
    method: str = key("adabin", "binarization method, a row of the method table; float is the full-precision parent")
    options: dict[str, Any] = key({}, 'the method\'s own options, for example {"variant": "paper"}')
    structure: dict[str, Any] = key(
        {},
        'what differs from the structure of the method\'s paper, for example {"block": "bireal"}; of timm:NAME and '
        'torchvision:NAME the layers to skip, {"skip": ["*.se.*"]}',
    )
    arguments: dict[str, Any] = key({}, 'the network\'s own arguments, for example {"width": 0.25} of ssd300_vgg16')
    binarize: Literal["both", "activations"] = key(
        "both", "both operands, or activations alone: the first step of two-step training, whose weights stay real"
    )
    initial: str | None = key(
        None,
        "weights that the training starts from: a checkpoint, such as the first step's last.ckpt; of timm:NAME and "
        "torchvision:NAME also a file of the library's (.pth, .safetensors)",
    )


@dataclass
class OptimizerOptions(Options):
    """Optimizer"""

    epochs: int = key(400, "passes over the training examples", POSITIVE, extends=True)
    batch_size: int = key(128, "examples per step, over all devices", POSITIVE)
    optimizer: Literal["sgd", "adam", "adamw"] = key("sgd", "sgd (with Nesterov off), adam or adamw")
    lr: float = key(0.1, "peak learning rate", POSITIVE, extends=True)
    lr_batch_size: int = key(
        0,
        "batch size that lr was chosen for: lr is multiplied by batch_size / lr_batch_size; 0 leaves lr as it is",
        NATURAL,
        extends=True,
    )
    momentum: float = key(0.9, "momentum of sgd", FRACTION, extends=True)
    weight_decay: float = key(1e-4, "L2 penalty (decoupled for adamw)", NATURAL, extends=True)
    decay_norm_and_scalars: bool = key(
        True, "whether weight decay also applies to biases, norms, scales and other 1-value-a-channel parameters"
    )
    schedule: Literal["cosine", "linear", "step", "constant"] = key(
        "cosine",
        "learning rate after warm-up: cosine to 0, linear to 0, step (x step_gamma at each of step_milestones) or constant",
        extends=True,
    )
    step_milestones: list[float] = key(
        [0.5, 0.75], "fractions of the training, in (0, 1), at which `step` multiplies the learning rate", extends=True
    )
    step_gamma: float = key(0.1, "factor of `step`, in (0, 1]", SHARE, extends=True)
    reestimate_norms: int = key(
        0,
        "training batches by which the batch norms' means and variances are estimated anew after the last epoch; 0 leaves "
        "their moving averages",
        NATURAL,
    )
    warmup_epochs: float = key(0.0, "epochs of linear warm-up from 0", NATURAL, extends=True)
    clip_grad_norm: float = key(0.0, "bound on the norm of the whole gradient; 0 means none", NATURAL, extends=True)
    freeze: list[str] = key(
        [],
        'names of parameters that stay as `initial` gives them, of modules for all of theirs, and patterns, such as "embeddings.*"',
    )
    ema_decay: float = key(
        0.0,
        "decay per step of an exponential moving average of the weights, evaluated and saved beside them; 0 means none",
        FRACTION,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for milestone in self.step_milestones:
            if not 0 < milestone < 1:
                raise UserError(
                    f"recipe: step_milestones holds {milestone!r}; each must be a fraction of the training in (0, 1), "
                    f"not an epoch"
                )


@dataclass
class DistillationOptions(Options):
    """Distillation"""

    teacher: str | None = key(
        None,
        "network to learn from: a checkpoint, or timm:NAME or torchvision:NAME; none learns from the targets alone",
    )
    teacher_weights: str | None = key(
        None, "local file with the weights of a timm or torchvision teacher; default: the library's download", free=True
    )
    distillation: Literal["distribution", "soft", "squares"] = key(
        "distribution",
        "distribution replaces the labels by the teacher's probabilities (ReActNet), squares by its logits, soft adds them to the labels",
    )
    distillation_weight: float = key(0.9, "weight of the teacher's part of the loss in `soft`", SHARE)
    distillation_last_weight: float | None = key(
        None, "that weight at the end, which it approaches along half a cosine; none leaves it as it is", FRACTION
    )
    distillation_hidden: float = key(
        0.0,
        "weight of the squared differences of hidden states, of networks for words, beside all of that (BiT)",
        NATURAL,
    )
    distillation_similarity: float = key(0.0, "weight of the differences of BiBERT's similarities, likewise", NATURAL)
    temperature: float = key(4.0, "temperature of both networks' probabilities in `soft`", POSITIVE)


@dataclass
class DeviceOptions(Options):
    """Devices and precision"""

    accumulate: int = key(
        1,
        "parts a device splits its share of the batch into, one after the other, where memory is short",
        POSITIVE,
        free=True,
    )
    precision: Literal["auto", "32-true", "bf16-mixed"] = key(
        "auto", "32-true, bf16-mixed (autocast), or auto: bf16-mixed where the processor multiplies bf16 itself"
    )
    compile: Literal["auto", "true", "false"] = key(
        "auto", "torch.compile; auto means on for runs long enough to repay the compilation", free=True
    )
    cuda_graphs: bool = key(True, "replay compiled steps as CUDA graphs, on one GPU", free=True)
    channels_last: bool = key(True, "NHWC memory layout")
    deterministic: bool = key(False, "bit-for-bit repeatable kernels")
    threads: int = key(0, "CPU threads; 0 means PyTorch's default", NATURAL, free=True)
    accelerator: str = key("auto", "Fabric's accelerator (auto, cpu, cuda)", free=True)
    devices: str = key("auto", "number of devices, or auto", free=True)
    num_nodes: int = key(1, "number of machines; torchrun and SLURM tell it themselves", POSITIVE, free=True)
    strategy: str = key("auto", "Fabric's strategy (auto, ddp)", free=True)
    timeout: float = key(
        120.0,
        "seconds without a sign of life of another process, which is frozen or out of reach, after which the run ends",
        POSITIVE,
        free=True,
    )
    sync_batch_norm: bool = key(False, "batch norm statistics over all devices (GPUs only)")


@dataclass
class RunOptions(Options):
    """Run"""

    seed: int = key(0, "of weights, rotations, order and augmentation, below 2^32", NATURAL)
    out: str | None = key(None, "run folder; default runs/<recipe's name>-<seed>", free=True)
    checkpoint_steps: int = key(
        0, "save every so many steps inside an epoch too; 0 means at the end of epochs only", NATURAL, free=True
    )
    eval_every: int = key(1, "epochs between evaluations; the last epoch is always evaluated", POSITIVE, free=True)
    early_stop: int = key(
        0, "epochs without a better score after which the training ends; 0 means never", NATURAL, extends=True
    )
    diagnostics: bool = key(
        True, "record angles, errors, flips and learned values of the binary layers in diagnostics.jsonl", free=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed >= 2**32:
            raise UserError(f"recipe: seed = {self.seed} must be below 2^32")


def check_early_stop(recipe: "Recipe") -> None:
    """Refuse an early stop that would come between evaluations, or before what happens after the last epoch."""
    if 0 < recipe.early_stop < recipe.eval_every:
        raise UserError(
            f"recipe: early_stop = {recipe.early_stop} is less than eval_every = {recipe.eval_every}, the epochs between scores; "
            "raise it"
        )
    if recipe.early_stop and recipe.reestimate_norms:
        raise UserError(
            f"recipe: reestimate_norms = {recipe.reestimate_norms} is for after the last epoch, which early_stop does not know; "
            "leave one of them out"
        )


GROUPS: tuple[type[Options], ...] = (
    DataOptions,
    ModelOptions,
    TaskOptions,
    OptimizerOptions,
    DistillationOptions,
    DeviceOptions,
    RunOptions,
)


@dataclass
class Recipe(  # the keys of the last base come first
    RunOptions, DeviceOptions, DistillationOptions, OptimizerOptions, TaskOptions, ModelOptions, DataOptions
):
    """Every key of a recipe file and of `onebit train`. Each part of a training takes the group it needs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_early_stop(self)


KEYS = [field.name for field in dataclasses.fields(Recipe)]
TABLES: dict[str, Table[Any]] = {"data": DATA, "model": MODELS, "method": METHODS}  # keys that name rows
SHIPPED = resources.files("onebit") / "recipes"


def check_names(recipe: Recipe) -> None:
    """Refuse names that are in no table, before anything is imported, loaded or created for them. Raises UserError."""
    for name, table in TABLES.items():
        table.check(getattr(recipe, name))


def shipped() -> list[str]:
    """Names of the recipes that come with onebit."""
    return sorted(entry.name.removesuffix(".toml") for entry in SHIPPED.iterdir() if entry.name.endswith(".toml"))


def find(name: str | Path) -> Path:
    """The recipe file of this path, or of this name among those that come with onebit. UserError if there is none."""
    path = Path(name)
    if str(name) and path.exists():
        return path
    if str(name) in shipped():
        return Path(str(SHIPPED / f"{name}.toml"))
    close = difflib.get_close_matches(path.stem, shipped(), 1)
    hint = f"did you mean {close[0]!r}?" if close else "`onebit list recipes` names those that come with onebit"
    raise UserError(f"recipe {name}: there is no such file or recipe; {hint}")


def read(recipe: str | Path) -> dict[str, Any]:
    """The keys that a recipe sets, by path or name. Raises UserError for a missing or malformed file and for unknown keys."""
    path = find(recipe)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"recipe {path}: {error.strerror}; name a recipe file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {path}: not a TOML file: {error}") from error
    for name in values:
        if name not in KEYS:
            close = difflib.get_close_matches(name, KEYS, 1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; the keys are {', '.join(KEYS)}"
            raise UserError(f"recipe {path}: unknown key {name!r}{hint}")
    return values
