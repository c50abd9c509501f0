"""What `diagnostics = true` costs a training, in percent of its steps' time.

    python benchmarks/diagnostics.py --model resnet20 --method adabin --batch 128 --steps 390

Steps are those of the training loop, on random images; the time that an epoch's diagnostics take (signs of the observed steps,
the epoch's start, and the line at its end) is divided by that of the epoch's steps.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from onebit.bench.training import Trainee, device_of
from onebit.training import environment
from onebit.training.diagnostics import record_epoch
from onebit.training.recipe import Recipe
from onebit.training.signs import Signs
from onebit.training.tensorboard import Events


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--method", default="adabin")
    parser.add_argument("--size", type=int, default=32, help="image size in pixels")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=390, help="steps of an epoch")
    parser.add_argument("--timed", type=int, default=12, help="steps and hooks that are timed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    device = device_of(options.device)
    recipe = Recipe(accelerator=device.type, devices="1", threads=options.threads)
    recipe.precision = environment.precision(recipe)
    environment.prepare(recipe, recipe.seed)
    trainee = Trainee(options.model, options.method, options.size, 10, recipe, device)
    batch = trainee.batch(options.size, options.batch)
    if options.compile:
        trainee.objective.compile()

    def timed(call: Callable[[], object]) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - began)

    signs = Signs(trainee.network, options.steps)
    signs.begin()
    for _ in range(3):
        trainee.step(batch)
    ms: dict[str, list[float]] = {name: [] for name in ("step", "observed", "start", "end")}
    with tempfile.TemporaryDirectory() as folder:
        events = Events(Path(folder), 1)
        for epoch in range(1, options.timed + 1):
            ms["start"].append(timed(signs.start_epoch))
            ms["step"].append(timed(lambda: trainee.step(batch)))
            for number in range(3):
                cost = timed(lambda: signs.after_step(options.steps - 3 + number))  # noqa: B023 called at once
            ms["observed"].append(cost)
            ms["end"].append(timed(lambda: record_epoch(Path(folder), epoch, signs, trainee.network, events)))  # noqa: B023
        events.close()
    median = {name: statistics.median(values) for name, values in ms.items()}
    epoch_ms = options.steps * median["step"]
    cost = median["start"] + signs.window * median["observed"] + median["end"]
    result = {f"{name}_ms": round(value, 3) for name, value in median.items()}
    result |= {"observed_steps": signs.window, "percent": round(100 * cost / epoch_ms, 3)}
    print(json.dumps(vars(options) | {"precision": recipe.precision, "torch": torch.__version__} | result))


if __name__ == "__main__":
    main()
