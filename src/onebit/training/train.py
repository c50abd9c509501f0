"""The training loop, visible whole, on Lightning Fabric: one process or many, CPU or GPU."""

import dataclasses
import math
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from onebit import data, models
from onebit.checkpoints import checkpoint
from onebit.checkpoints.initial import initialize_from
from onebit.data.loading.workers import deaths_explained
from onebit.errors import Stopped, UserError
from onebit.machine.heap import keep_freed_memory
from onebit.nn import layers
from onebit.training import processes
from onebit.training.devices import first_alone, make_fabric, share_buffers, share_of_batch, synchronize_norms
from onebit.training.distillation import distillation
from onebit.training.non_finite import first_non_finite, non_finite_parameter
from onebit.training.objective import Objective
from onebit.training.optimizer import make_optimizer
from onebit.training.profiling import StepProfile
from onebit.training.progress import Progress
from onebit.training.recipe import Recipe
from onebit.training.run_folder import check_same_recipe, run_folder, write_run_files
from onebit.training.schedule import learning_rate_factor, peak_learning_rate
from onebit.training.step import backward
from onebit.training.stopping import Stop


@torch.inference_mode()
def evaluate(model: nn.Module, batches: Any, fabric: Fabric | None = None) -> tuple[float, int]:
    """(accuracy in percent, images) of model in float32 evaluation mode; with Fabric, over the batches of all ranks."""
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    correct, images = torch.zeros((), dtype=torch.long, device=device), 0
    for batch in batches:
        images_nhwc = batch.images.contiguous(memory_format=torch.channels_last)
        correct += (model(images_nhwc).argmax(1) == batch.labels).sum()
        images += len(batch.labels)
    counts: Any = torch.tensor([int(correct), images], device=device)
    if fabric is not None:
        counts = fabric.all_reduce(counts, reduce_op="sum")
    right, images = counts.tolist()
    model.train(training)
    return 100.0 * right / max(images, 1), images


@deaths_explained()
def train(
    recipe: Recipe, *, resume: bool = False, name: str = "train", quiet: bool = False, profile: bool = False
) -> dict[str, Any]:
    """Train by the recipe; returns {"accuracy", "best", "epochs", "out", "seconds", "corrupt_images"}.

    The run folder receives recipe.json (resolved), last.ckpt, best.ckpt, metrics.csv and TensorBoard events. With `resume`,
    last.ckpt is continued: in deterministic mode on a CPU, to the same bits as a run that was never interrupted. With
    `profile`, profile.txt and profile.json.gz say where the time of a step goes.
    Raises UserError for unusable values, for a loss that is not finite, with step and layer, and where another rank or a
    worker dies; Stopped after SIGTERM or SIGINT, when the step in progress is done and saved.
    """
    fabric = make_fabric(recipe, precision(recipe))
    with processes.launch(fabric):
        return train_on(fabric, recipe, resume, name, quiet, profile)


def train_on(fabric: Fabric, recipe: Recipe, resume: bool, name: str, quiet: bool, profile: bool) -> dict[str, Any]:
    """One rank of `train`."""
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    keep_freed_memory()
    torch.set_flush_denormal(True)  # norm weights of 1e-8 make denormals, which slow a step twentyfold
    if recipe.deterministic:
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    seed_everything(recipe.seed)
    out = run_folder(recipe, resume, name, fabric.is_global_zero)

    source = first_alone(fabric, lambda: data.load(recipe.data, recipe.root, data.LoadOptions.of(recipe)))
    train_set, test_set = source.train.to(fabric.device), source.test.to(fabric.device)
    local_batch = share_of_batch(recipe, fabric.world_size)
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
            fabric.print(
                f"{recipe.initial} lacks {len(fresh)} tensors, which start anew: {fresh[0]}, ...", file=sys.stderr
            )
    if recipe.sync_batch_norm:
        model = synchronize_norms(model, fabric)
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    model.to(memory_format=layout)
    distilled = first_alone(fabric, lambda: distillation(recipe, source))
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

    epoch, start, best, elapsed, partial = 0, 0, 0.0, 0.0, None
    accuracy: float | None = None  # of the weights as they are, if they were evaluated
    if resume and (out / "last.ckpt").exists():
        content = checkpoint.load(out / "last.ckpt")
        if "optimizer" not in content:
            raise UserError(f"{out}/last.ckpt was not written by a training and cannot be resumed; name another folder")
        if content["config"] != model.config:
            raise UserError(
                f"{out}/last.ckpt holds {content['config']}, not this recipe's model; use the recipe of the run"
            )
        check_same_recipe(out, recipe, content["recipe"])
        try:
            model.load_state_dict(content["model"])
            optimizer.load_state_dict(content["optimizer"])
            if average is not None:
                average.load_state_dict(content["average"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"{out}/last.ckpt does not fit: {reason}; it may be of another version; name another folder"
            ) from error
        epoch, start, best, elapsed = content["epoch"], content["step"], content["best"], content["seconds"]
        accuracy, partial = content["accuracy"], content.get("partial")
        torch.set_rng_state(content["rng"])
    write_run_files(out, recipe, fabric, resume, epoch, start)

    def save(path: Path, epoch: int, step: int, accuracy: float | None) -> None:
        if culprit := non_finite_parameter(model):
            raise UserError(
                f"the step before epoch {epoch}, step {step} made the parameter {culprit} not finite. "
                f"Checkpoints in {out} are from before; lower lr or set clip_grad_norm"
            )
        sums = progress.state() if step else None
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
                    "partial": sums,
                    "accuracy": accuracy,
                    "best": best,
                    "seconds": elapsed + time.perf_counter() - began,
                    "rng": torch.get_rng_state(),
                },
            )
        fabric.barrier()

    began = time.perf_counter()
    progress = Progress(fabric, out, recipe.epochs, steps, recipe.batch_size, epoch, shows=not quiet)
    with progress, Stop() as stop, StepProfile(out, profile and fabric.is_global_zero) as profiled:
        while epoch < recipe.epochs:
            model.train()
            if start == 0:
                layers.set_progress(model, epoch / recipe.epochs)
                share_buffers(model, fabric)
            progress.start_epoch(epoch, partial)
            batches = train_set.training_batches(
                local_batch, recipe.seed, epoch, start, fabric.global_rank, fabric.world_size
            )
            for step, batch in enumerate(batches, start):
                factor = learning_rate_factor(recipe, epoch * steps + step, steps)
                for group in optimizer.param_groups:
                    group["lr"] = peak_learning_rate(recipe) * factor
                images = batch.images.contiguous(memory_format=layout)
                loss, logits = backward(fabric, wrapped, images, batch.labels, recipe.accumulate)
                clipping = clip_gradients(fabric, wrapped, optimizer, recipe.clip_grad_norm)
                saves = recipe.checkpoint_steps and (step + 1) % recipe.checkpoint_steps == 0 and step + 1 < steps
                # reading the loss waits for the device: at every step on a CPU, else where it is shown or saved
                checks = fabric.device.type == "cpu" or saves or progress.due(step)
                if checks and not math.isfinite(loss.item()):
                    raise UserError(
                        f"the loss is {loss.item()} at epoch {epoch}, step {step}; first not finite: "
                        f"{first_non_finite(model, images)}. Checkpoints in {out} are from before; lower lr or set clip_grad_norm"
                    )
                optimizer.step()
                layers.after_step(model, clipping)
                optimizer.zero_grad(set_to_none=True)
                if average is not None:
                    average.update_parameters(model)
                progress.step(step, loss, logits, batch.labels)
                profiled.step()
                stopped_by = stop.agreed(fabric, checks)
                if saves or stopped_by:
                    save(out / "last.ckpt", epoch, step + 1, None)
                if stopped_by:
                    raise stopped(fabric, stopped_by, epoch, step, out)
            epoch, start, partial = epoch + 1, 0, None
            accuracy = None
            if epoch % recipe.eval_every == 0 or epoch == recipe.epochs:
                evaluated = model if average is None else average.module
                share_buffers(evaluated, fabric)
                size = 100 if fabric.device.type == "cpu" else 1000
                test_batches = test_set.evaluation_batches(size, fabric.global_rank, fabric.world_size)
                accuracy, _ = evaluate(evaluated, test_batches, fabric)
            progress.end_epoch(epoch - 1, optimizer.param_groups[0]["lr"], accuracy)
            if accuracy is not None and accuracy > best:
                best = accuracy
                save(out / "best.ckpt", epoch, 0, accuracy)
            save(out / "last.ckpt", epoch, 0, accuracy)
    seconds = elapsed + time.perf_counter() - began
    return {
        "accuracy": accuracy,
        "best": best,
        "epochs": recipe.epochs,
        "out": str(out),
        "seconds": round(seconds, 1),
        "corrupt_images": len(train_set.corrupt),
    }


def clip_gradients(fabric: Fabric, module: Any, optimizer: Any, bound: float) -> Tensor | None:
    """Bound the norm of the whole gradient, 0 for no bound; returns what the gradient was multiplied by."""
    if not bound:
        return None
    norm: Any = fabric.clip_gradients(module, optimizer, max_norm=bound, error_if_nonfinite=False)
    return (bound / (norm + 1e-6)).clamp(
        min=torch.finfo(norm.dtype).tiny, max=1.0
    )  # as torch.nn.utils.clip_grad_norm_ does


def stopped(fabric: Fabric, number: int, epoch: int, step: int, out: Path) -> Stopped:
    """What a training that a signal ended raises; one rank speaks for all."""
    where = f"stopped by {signal.Signals(number).name} after epoch {epoch}, step {step}; continue with --resume"
    return Stopped(f"{where} ({out / 'last.ckpt'} is saved)" if fabric.is_global_zero else "", number)


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
    if on_gpu:
        native = torch.cuda.is_bf16_supported(False)
    else:
        native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if native else "32-true"


def compiles(recipe: Recipe, steps: int) -> bool:
    """torch.compile takes about a minute: auto switches it on from 5000 steps, where the run repays it."""
    if recipe.compile == "auto":
        return recipe.epochs * steps >= 5000 and not recipe.deterministic
    return recipe.compile == "true"
