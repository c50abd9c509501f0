"""Time of a training step for several methods, against their full-precision parent, in one run.

All networks take the same optimizer, precision and batch. The first losses of each are checked against plain eager
PyTorch from the same weights before anything is timed. A rounding difference flips signs near 0, and a flipped sign moves
the loss of a deep binary network by percents, so how far is first measured: plain runs on images with noise of 1e-6.
In a small network on few images that noise may flip nothing where the compiler's rounding does: then the mean losses of both
over images with more noise are compared, each within its chance. Steps of all networks take turns, so that a slower phase of the
machine meets them all; the ratio is the median over rounds of (step / the parent's step in the same round).
"""

import copy
import math
import statistics
import time
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from onebit import models, tasks
from onebit.bench.networks import machine, random_images
from onebit.data.dataset import Batch
from onebit.data.inputs import Images, Normalization
from onebit.errors import UserError
from onebit.nn import layers
from onebit.runtime import Image
from onebit.training import environment
from onebit.training.compilation import compile_step, replays
from onebit.training.devices import make_fabric
from onebit.training.dry_run import check_fits
from onebit.training.objective import Objective
from onebit.training.optimizer import make_optimizer
from onebit.training.recipe import Recipe
from onebit.training.step import Step

CHECKED_STEPS = 2
REPLAYED = 2  # such runs before a CUDA graph is replayed: its first steps compile, warm up and record
QUEUED = 20  # steps that a GPU is given at once, as in a training, where their loss is read every 50 steps
PERTURBED_RUNS = 3
NOISY_RUNS = 8
NOISE = {"32-true": 1e-4, "bf16-mixed": 2e-3}  # flips signs, as rounding may; half a step of bf16 near 1


class Trainee:
    """A network of one method that takes the training loop's steps on one batch.

    Args:
        model, method: rows of their tables
        size, classes: height and width of an input in pixels, and what the network tells apart
        recipe: optimizer, devices, precision, seed
        device: that computes
    """

    def __init__(self, model: str, method: str, size: int, classes: int, recipe: Recipe, device: torch.device):
        torch.manual_seed(recipe.seed)
        self.task = tasks.create(models.MODELS[model].task, [str(number) for number in range(classes)])
        self.network = models.create(model, method, image_size=size, **self.task.arguments())
        self.network.to(memory_format=torch.channels_last)
        self.objective = Objective(self.network, self.task)
        fabric = make_fabric(recipe, recipe.precision)
        objective, self.optimizer = fabric.setup(self.objective, make_optimizer(self.network, recipe))
        self.take = Step(fabric, objective, self.optimizer, self.network)
        self.graphs = replays(recipe, device, fabric.world_size)
        self.precision = recipe.precision
        self.twin = lambda: Trainee(model, method, size, classes, recipe, device)
        self.method, self.device, self.times = method, device, list[float]()
        layers.set_progress(self.network, 0.0)

    def batch(self, size: int, examples: int) -> Batch:
        """A random batch for this network, on its device, NHWC."""
        generator = torch.Generator().manual_seed(0)
        inputs = torch.from_numpy(random_images(Image((3, size, size)), examples, 1).engine[0])
        targets = self.task.random_targets(examples, generator)
        return Batch(inputs.to(self.device), targets.to(self.device)).laid_out(torch.channels_last)

    def step(self, batch: Batch) -> float:
        """One step of the training loop; returns the loss, which waits for the device."""
        loss, _ = self.take(batch, checks=False)
        return loss.item()

    def compile(self) -> None:
        """Compile the step, as a training does."""
        compile_step(self.take, self.objective, self.graphs, fullgraph=True)

    def step_seconds(self, batch: Batch) -> float:
        """Time of a step; on a GPU, of QUEUED steps, which it need not wait for, the mean."""
        steps = 1 if self.device.type == "cpu" else QUEUED
        self.step(batch)  # brings this network's own data back into the caches
        began = time.perf_counter()
        for _ in range(steps - 1):
            self.take(batch, checks=False)
        self.step(batch)
        return (time.perf_counter() - began) / steps

    def epoch_seconds(self) -> float:
        """Time of the hook that runs at the start of each epoch (schedules; RBNN's rotations)."""
        began = time.perf_counter()
        layers.set_progress(self.network, 0.0)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began


def bench_training(
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
    number = f"{where.index}," if where.index else "1"
    recipe = Recipe(precision=precision, accelerator=where.type, devices=number, threads=threads)  # type: ignore[arg-type]
    recipe.precision = environment.precision(recipe)
    environment.prepare(recipe, recipe.seed)
    trainees = [Trainee(model, name, size, classes, recipe, where) for name in dict.fromkeys(["float", *methods])]
    for trainee in trainees:
        check_fits(trainee.network, Images(3, size, Normalization((0.0,) * 3, (1.0,) * 3)), batch, f"--batch {batch}")
    examples = trainees[0].batch(size, batch)
    console = Console(stderr=True)
    # Drawn where a step ends: a thread that draws would take time from the steps.
    with Progress(console=console, transient=True, auto_refresh=False, disable=not console.is_terminal) as bar:
        hooks = time_steps(trainees, examples, compiled, rounds, bar)
    parent = trainees[0].times
    rows = []
    for c in trainees:
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


def time_steps(trainees: list[Trainee], batch: Batch, compiled: bool, rounds: int, bar: Progress) -> dict[str, float]:
    """Compile, check and time the trainees in turns: their steps fill `times`. Returns seconds of their epoch hooks."""
    checking = bar.add_task("compiling and checking", total=len(trainees), visible=compiled)
    timing = bar.add_task("timing", total=rounds)
    if compiled:
        with torch._dynamo.config.patch(recompile_limit=8 * len(trainees)):  # all share the code of Objective.forward
            for trainee in trainees:
                compile_checked(trainee, batch)
                bar.update(checking, advance=1, refresh=True)
    hooks = {c.method: min(c.epoch_seconds() for _ in range(3)) for c in trainees}
    for _ in range(rounds):
        for trainee in trainees:
            trainee.times.append(trainee.step_seconds(batch))
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


def compile_checked(trainee: Trainee, batch: Batch) -> None:
    """Compile the trainee's objective; its first losses must be those of the plain path, all from the same state."""
    model = copy.deepcopy(trainee.network.state_dict())
    optimizer = copy.deepcopy(trainee.optimizer.state_dict())

    def losses(inputs: Tensor, of: Trainee = trainee) -> list[float]:
        of.network.load_state_dict(model)
        of.optimizer.load_state_dict(optimizer)
        return [of.step(Batch(inputs, batch.targets)) for _ in range(CHECKED_STEPS)]

    def noisy(std: float, count: int, of: Trainee = trainee) -> list[list[float]]:
        generator = torch.Generator(batch.inputs.device).manual_seed(0)
        noise = (torch.empty_like(batch.inputs).normal_(std=std, generator=generator) for _ in range(count))
        return [losses(batch.inputs + n, of) for n in noise]

    plain, perturbed = losses(batch.inputs), noisy(1e-6, PERTURBED_RUNS)
    trainee.compile()
    for _ in range(REPLAYED if trainee.graphs else 0):
        losses(batch.inputs)
    for step, (loss, expected) in enumerate(zip(losses(batch.inputs), plain, strict=True)):
        spread = max(abs(run[step] - expected) for run in perturbed)
        if abs(loss - expected) <= 5 * spread + 1e-4 * abs(expected):
            continue
        ours = noisy(NOISE[trainee.precision], NOISY_RUNS)
        theirs = noisy(NOISE[trainee.precision], NOISY_RUNS, trainee.twin())  # which is not compiled
        if not means_agree([run[step] for run in ours], [run[step] for run in theirs]):
            raise UserError(
                f"{trainee.method}: the compiled step {step} has the loss {loss:.6f}, plain PyTorch {expected:.6f}; "
                "no time is reported"
            )


def means_agree(ours: list[float], theirs: list[float]) -> bool:
    """Whether the means of as many numbers differ by no more than chance would have it, by the spread of theirs."""
    error = statistics.stdev(theirs) * math.sqrt(2 / len(theirs))  # of the difference of two such means
    return abs(statistics.mean(ours) - statistics.mean(theirs)) <= 4 * error


def step_table(result: dict[str, Any]) -> str:
    """The result of bench_training as text: a line a method."""
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
