"""The training loop, visible whole, on Lightning Fabric: one process or many, CPU or GPU."""

import dataclasses
import math
import random
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from onebit import checkpoint, data, layers, models
from onebit.distillation import distillation
from onebit.errors import UserError
from onebit.initial import initialize_from
from onebit.objective import Objective
from onebit.optimizer import make_optimizer
from onebit.progress import Progress
from onebit.recipe import Recipe
from onebit.run_folder import check_same_recipe, run_folder, write_run_files
from onebit.schedule import learning_rate_factor


@torch.inference_mode()
def evaluate(model: nn.Module, batches: Any) -> tuple[float, int]:
    """(accuracy in percent, images) of model in float32 evaluation mode."""
    training = model.training
    model.eval()
    correct = torch.zeros((), dtype=torch.long)
    images = 0
    for batch in batches:
        images_nhwc = batch.images.contiguous(memory_format=torch.channels_last)
        correct = correct.to(batch.labels.device) + (model(images_nhwc).argmax(1) == batch.labels).sum()
        images += len(batch.labels)
    model.train(training)
    return 100.0 * int(correct) / max(images, 1), images


def non_finite_parameter(model: nn.Module) -> str | None:
    """Name of the first parameter that is not finite."""
    return next((name for name, parameter in model.named_parameters() if not parameter.isfinite().all()), None)


def first_non_finite(model: nn.Module, images: Tensor) -> str:
    """Name of the first layer whose parameters or output are not finite."""
    if culprit := non_finite_parameter(model):
        return f"the parameter {culprit}"
    found: list[str] = []

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if not found and isinstance(output, Tensor) and not output.isfinite().all():
                found.append(f"the output of layer {name}")

        return hook

    handles = [m.register_forward_hook(watch(n)) for n, m in model.named_modules() if n and not list(m.children())]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return found[0] if found else "the loss alone"


def train(recipe: Recipe, *, resume: bool = False, name: str = "train", quiet: bool = False) -> dict[str, Any]:
    """Train by the recipe; returns {"accuracy", "best", "epochs", "out", "seconds"}.

    The run folder receives recipe.json (resolved), last.ckpt, best.ckpt, metrics.csv and TensorBoard events. With `resume`,
    last.ckpt is continued: in deterministic mode on a CPU, to the same bits as a run that was never interrupted.
    Raises UserError for unusable values, and for a loss that is not finite, with step and layer.
    """
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    torch.set_flush_denormal(True)  # norm weights of 1e-8 make denormals, which slow a step twentyfold
    if recipe.deterministic:
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    fabric = Fabric(
        accelerator=recipe.accelerator,
        devices=int(recipe.devices) if recipe.devices.isdigit() else recipe.devices,
        strategy=recipe.strategy,
        precision=precision(recipe),
    )
    fabric.launch()
    seed_everything(recipe.seed)
    out = run_folder(recipe, resume, name)

    source = data.load(recipe.data, recipe.root, data.LoadOptions.of(recipe))
    train_set, test_set = source.train.to(fabric.device), source.test.to(fabric.device)
    if recipe.batch_size % fabric.world_size:
        raise UserError(f"batch_size = {recipe.batch_size} is not a multiple of the {fabric.world_size} devices")
    local_batch = recipe.batch_size // fabric.world_size
    steps = train_set.training_steps(local_batch, fabric.world_size)
    if not steps:
        raise UserError(f"batch_size = {recipe.batch_size} exceeds the {len(train_set)} training images")

    model = models.create(
        recipe.model,
        recipe.method,
        classes=len(source.labels),
        in_channels=source.in_channels,
        image_size=source.image_size,
        options=recipe.options,
        structure=recipe.structure,
        binarize=recipe.binarize,
    )
    if recipe.initial and not (resume and (out / "last.ckpt").exists()):
        fresh = initialize_from(model, recipe.initial)
        if fresh and not quiet:
            fabric.print(f"{recipe.initial} holds nothing for {', '.join(fresh)}", file=sys.stderr)
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    model.to(memory_format=layout)
    with fabric.rank_zero_first(local=True):  # one process of a machine downloads
        distilled = distillation(recipe, source)
    objective: nn.Module = Objective(model, recipe.label_smoothing, distilled)
    average = (
        torch.optim.swa_utils.AveragedModel(
            model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.ema_decay), use_buffers=False
        )
        if recipe.ema_decay
        else None
    )
    if average is not None:
        average.to(fabric.device)
    optimizer = make_optimizer(model, recipe)
    compiled = compiles(recipe, steps)
    if compiled:
        objective.compile()
    wrapped, optimizer = fabric.setup(objective, optimizer)

    epoch, start, best, elapsed, accuracy = 0, 0, 0.0, 0.0, 0.0
    if resume and (out / "last.ckpt").exists():
        content = checkpoint.load(out / "last.ckpt")
        if "optimizer" not in content:
            raise UserError(f"{out}/last.ckpt was not written by a training and cannot be resumed; name another folder")
        if content["config"] != model.config:
            raise UserError(
                f"{out}/last.ckpt holds {content['config']}, not this recipe's model; use the recipe of the run"
            )
        check_same_recipe(out, recipe, content["recipe"])
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        if average is not None:
            average.load_state_dict(content["average"])
        epoch, start, best, elapsed = content["epoch"], content["step"], content["best"], content["seconds"]
        accuracy = content["accuracy"]
        torch.set_rng_state(content["rng"])
    write_run_files(out, recipe, fabric)

    def save(path: Path, epoch: int, step: int, accuracy: float) -> None:
        if culprit := non_finite_parameter(model):
            raise UserError(
                f"the step before epoch {epoch}, step {step} made the parameter {culprit} not finite. "
                f"Checkpoints in {out} are from before; lower lr or set clip_grad_norm"
            )
        if fabric.is_global_zero:
            checkpoint.save(
                path,
                {
                    "config": model.config,
                    "recipe": dataclasses.asdict(recipe),
                    "labels": list(source.labels),
                    "resize": source.resize,
                    "source": name,
                    "normalization": {"mean": list(source.normalization.mean), "std": list(source.normalization.std)},
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "average": None if average is None else average.state_dict(),
                    "ema": None if average is None else average.module.state_dict(),
                    "epoch": epoch,
                    "step": step,
                    "accuracy": accuracy,
                    "best": best,
                    "seconds": elapsed + time.perf_counter() - began,
                    "rng": torch.get_rng_state(),
                },
            )
        fabric.barrier()

    began = time.perf_counter()
    with Progress(
        out, recipe.epochs, steps, recipe.batch_size, shows=not quiet, records=fabric.is_global_zero
    ) as progress:
        while epoch < recipe.epochs:
            model.train()
            if start == 0:
                layers.set_progress(model, epoch / recipe.epochs)
            progress.start_epoch(epoch, start)
            batches = train_set.training_batches(
                local_batch, recipe.seed, epoch, start, fabric.global_rank, fabric.world_size
            )
            for step, batch in enumerate(batches, start):
                factor = learning_rate_factor(recipe, epoch * steps + step, steps)
                for group in optimizer.param_groups:
                    group["lr"] = recipe.lr * factor
                images = batch.images.contiguous(memory_format=layout)
                loss, logits = wrapped(images, batch.labels)
                fabric.backward(loss)
                if recipe.clip_grad_norm:
                    fabric.clip_gradients(wrapped, optimizer, max_norm=recipe.clip_grad_norm, error_if_nonfinite=False)
                saves = recipe.checkpoint_steps and (step + 1) % recipe.checkpoint_steps == 0 and step + 1 < steps
                # reading the loss waits for the device: at every step on a CPU, else where it is shown or saved
                checks = fabric.device.type == "cpu" or saves or progress.due(step)
                if checks and not math.isfinite(loss.item()):
                    raise UserError(
                        f"the loss is {loss.item()} at epoch {epoch}, step {step}; first not finite: "
                        f"{first_non_finite(model, images)}. Checkpoints in {out} are from before; lower lr or set clip_grad_norm"
                    )
                optimizer.step()
                layers.after_step(model)
                optimizer.zero_grad(set_to_none=True)
                if average is not None:
                    average.update_parameters(model)
                progress.step(step, loss.detach(), logits.detach(), batch.labels, optimizer.param_groups[0]["lr"])
                if saves:
                    save(out / "last.ckpt", epoch, step + 1, accuracy)
            epoch, start = epoch + 1, 0
            if epoch % recipe.eval_every == 0 or epoch == recipe.epochs:
                evaluated = model if average is None else average.module
                accuracy, _ = evaluate(
                    evaluated, test_set.evaluation_batches(100 if fabric.device.type == "cpu" else 1000)
                )
                progress.end_epoch(epoch - 1, accuracy)
                if accuracy > best:
                    best = accuracy
                    save(out / "best.ckpt", epoch, 0, accuracy)
            save(out / "last.ckpt", epoch, 0, accuracy)
    seconds = elapsed + time.perf_counter() - began
    return {"accuracy": accuracy, "best": best, "epochs": recipe.epochs, "out": str(out), "seconds": round(seconds, 1)}


def seed_everything(seed: int) -> None:
    random.seed(seed)
    torch.manual_seed(seed)


def precision(recipe: Recipe) -> Any:
    """The recipe's precision, with auto resolved: bf16 only where it is native, else it is slower than float32."""
    if recipe.precision != "auto":
        return recipe.precision
    if recipe.deterministic:
        return "32-true"
    on_gpu = recipe.accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available()
    native = torch.cuda.is_bf16_supported(False) if on_gpu else torch.cpu._is_amx_tile_supported()
    return "bf16-mixed" if native else "32-true"


def compiles(recipe: Recipe, steps: int) -> bool:
    """torch.compile takes about a minute: auto switches it on from 5000 steps, where the run repays it."""
    if recipe.compile == "auto":
        return recipe.epochs * steps >= 5000 and not recipe.deterministic
    return recipe.compile == "true"
