"""Time of a training step for several methods, against their full-precision parent, in one run.

All networks take the same optimizer, precision and batch. The first losses of each are checked against plain eager
PyTorch from the same weights before anything is timed. A rounding difference flips signs near 0, and a flipped sign moves
the loss of a deep binary network by percents, so how far is first measured: plain runs on images with noise of 1e-6.
Steps of all networks take turns, so that a slower phase of the
machine meets them all; the ratio is the median over rounds of (step / the parent's step in the same round).
"""

import contextlib
import copy
import statistics
import time
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from onebit import models
from onebit.bench.speed import machine
from onebit.errors import UserError
from onebit.machine.heap import keep_freed_memory
from onebit.nn import layers
from onebit.training.objective import Objective
from onebit.training.optimizer import make_optimizer
from onebit.training.recipe import Recipe
from onebit.training.train import precision as resolve

CHECKED_STEPS = 2
PERTURBED_RUNS = 3


class Contender:
    """A network of one method, with its optimizer, that takes training steps on one batch."""

    def __init__(self, model: str, method: str, size: int, classes: int, recipe: Recipe, device: torch.device):
        torch.manual_seed(recipe.seed)
        network = models.create(model, method, classes=classes, image_size=size)
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.objective = Objective(self.network, recipe.label_smoothing)
        self.optimizer = make_optimizer(self.network, recipe)
        self.method, self.device, self.times = method, device, list[float]()
        self.bf16 = recipe.precision == "bf16-mixed"
        layers.set_progress(self.network, 0.0)

    def step(self, images: Tensor, labels: Tensor) -> float:
        """One step of the training loop, as in train.py; returns the loss, which waits for the device."""
        autocast = torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else contextlib.nullcontext()
        with autocast:
            loss, _ = self.objective(images, labels)
        loss.backward()
        self.optimizer.step()
        layers.after_step(self.network)
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def epoch_seconds(self) -> float:
        """Time of the hook that runs at the start of each epoch (schedules; RBNN's rotations)."""
        began = time.perf_counter()
        layers.set_progress(self.network, 0.0)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began


def bench(
    model: str,
    methods: list[str],
    *,
    size: int = 32,
    classes: int = 10,
    batch: int = 128,
    precision: str = "auto",
    compiled: bool = True,
    threads: int = 0,
    device: str = "auto",
    rounds: int = 20,
) -> dict[str, Any]:
    """Rows {"method", "model", "device", "batch", "step_ms", "q1_ms", "q3_ms", "ratio", "images_per_s", "epoch_hook_ms"}.

    ratio is to the full-precision parent, "float", which is always measured. Raises UserError for unknown names, and where
    the compiled network computes another loss than the eager one.
    """
    where = device_of(device)
    if threads:
        torch.set_num_threads(threads)
    keep_freed_memory()
    torch.set_flush_denormal(True)
    recipe = Recipe(precision=precision, accelerator=where.type)  # type: ignore[arg-type]
    recipe.precision = resolve(recipe)
    contenders = [Contender(model, name, size, classes, recipe, where) for name in dict.fromkeys(["float", *methods])]
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, size, size, generator=generator).to(where, memory_format=torch.channels_last)
    labels = torch.randint(classes, (batch,), generator=generator).to(where)
    console = Console(stderr=True)
    # Drawn where a step ends: a thread that draws would take time from the steps.
    with Progress(console=console, transient=True, auto_refresh=False, disable=not console.is_terminal) as bar:
        hooks = measure(contenders, images, labels, compiled, rounds, bar)
    parent = contenders[0].times
    rows = []
    for c in contenders:
        q1, median, q3 = statistics.quantiles(c.times, n=4)
        ratio = statistics.median(own / float_ for own, float_ in zip(c.times, parent, strict=True))
        row = {"method": c.method, "model": model, "device": str(where), "batch": batch, "step_ms": 1e3 * median}
        row |= {"q1_ms": 1e3 * q1, "q3_ms": 1e3 * q3, "ratio": ratio, "images_per_s": batch / median}
        rows.append(row | {"epoch_hook_ms": 1e3 * hooks[c.method]})
    return {
        "machine": machine() if where.type == "cpu" else torch.cuda.get_device_name(where),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "precision": recipe.precision,
        "compiled": compiled,
        "image_size": size,
        "rounds": rounds,
        "rows": [{key: round(v, 3) if isinstance(v, float) else v for key, v in row.items()} for row in rows],
    }


def measure(
    contenders: list[Contender], images: Tensor, labels: Tensor, compiled: bool, rounds: int, bar: Progress
) -> dict[str, float]:
    """Compile, check and time the contenders in turns: their steps fill `times`. Returns seconds of their epoch hooks."""
    checking = bar.add_task("compiling and checking", total=len(contenders), visible=compiled)
    timing = bar.add_task("timing", total=rounds)
    if compiled:
        with torch._dynamo.config.patch(recompile_limit=8 * len(contenders)):  # all share the code of Objective.forward
            for contender in contenders:
                compile_checked(contender, images, labels)
                bar.update(checking, advance=1, refresh=True)
    hooks = {c.method: min(c.epoch_seconds() for _ in range(3)) for c in contenders}
    for _ in range(rounds):
        for contender in contenders:
            contender.step(images, labels)  # brings its own data back into the caches
            began = time.perf_counter()
            contender.step(images, labels)
            contender.times.append(time.perf_counter() - began)
        bar.update(timing, advance=1, refresh=True)
    return hooks


def device_of(name: str) -> torch.device:
    """The device by name; auto is a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--device {name}: unknown; use cpu, cuda or auto") from error
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"--device {name}: PyTorch finds no such device here; use cpu")
    return device


def compile_checked(contender: Contender, images: Tensor, labels: Tensor) -> None:
    """Compile the contender's objective; its first losses must be those of the plain path, all from the same state."""
    model = copy.deepcopy(contender.network.state_dict())
    optimizer = copy.deepcopy(contender.optimizer.state_dict())

    def losses(inputs: Tensor) -> list[float]:
        contender.network.load_state_dict(model)
        contender.optimizer.load_state_dict(optimizer)
        return [contender.step(inputs, labels) for _ in range(CHECKED_STEPS)]

    plain = losses(images)
    generator = torch.Generator(images.device).manual_seed(0)
    noise = [torch.empty_like(images).normal_(std=1e-6, generator=generator) for _ in range(PERTURBED_RUNS)]
    perturbed = [losses(images + n) for n in noise]
    contender.objective.compile(fullgraph=True)
    for step, (loss, expected) in enumerate(zip(losses(images), plain, strict=True)):
        spread = max(abs(run[step] - expected) for run in perturbed)
        if not abs(loss - expected) <= 5 * spread + 1e-4 * abs(expected):
            raise UserError(
                f"{contender.method}: the compiled step {step} has the loss {loss:.6f}, plain PyTorch {expected:.6f}; "
                "no time is reported"
            )


def table(result: dict[str, Any]) -> str:
    """The rows as text."""
    how = "compiled" if result["compiled"] else "eager"
    lines = [
        f"{result['machine']}; {result['threads']} threads, {result['precision']}, {how}, PyTorch {result['torch']}; "
        f"medians of {result['rounds']} interleaved rounds",
        f"{'method':10} {'model':18} batch   step ms  (quartiles)          ratio  images/s  epoch hook ms",
    ]
    for row in result["rows"]:
        lines.append(
            f"{row['method']:10} {row['model']:18} {row['batch']:5} {row['step_ms']:9.1f}  "
            f"({row['q1_ms']:.1f}-{row['q3_ms']:.1f})".ljust(68)
            + f"{row['ratio']:6.2f} {row['images_per_s']:9.0f} {row['epoch_hook_ms']:14.1f}"
        )
    return "\n".join(lines)
