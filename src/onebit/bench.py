"""Time per batch of a network in the engine, and in PyTorch where the model is given by name.

Every contender's answer is checked before anything is timed; contenders take turns within each round, so that a slower
phase of the machine meets them all; the median over rounds is reported, with the quartiles.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from onebit import processor, runtime
from onebit.errors import UserError

TOLERANCE = 1e-3  # of logits, relative to the largest one
ROUND_SECONDS = 0.05  # timed calls of one contender in one round take about so long


def bench(model: str, method: str, size: int, batch: int, threads: list[int], isa: str, rounds: int) -> dict[str, Any]:
    """Rows {"engine", "precision", "isa", "threads", "batch", "median_ms", "q1_ms", "q3_ms"} for a file or a model name."""
    if Path(model).exists():
        return {"model": model, **compare(model, {}, batch, threads, isa, rounds)}
    if "/" in model or "." in model:
        raise UserError(f"{model} does not exist; give a packed file or the name of a model")
    with tempfile.TemporaryDirectory() as folder:
        path, contenders = random_network(model, method, size, folder)
        return {"model": model, "method": method, **compare(path, contenders, batch, threads, isa, rounds)}


def compare(
    path: str, torch_models: dict[str, Any], batch: int, threads: list[int], isa: str, rounds: int
) -> dict[str, Any]:
    reference = runtime.load(path, backend="reference")
    images = np.random.default_rng(0).standard_normal((batch, *reference.input_shape)).astype(np.float32)
    expected = reference(images[:1])
    rows = []
    for count in threads:
        contenders: list[tuple[dict[str, Any], Callable[[], Any]]] = []
        for name in instruction_sets(path, isa):
            engine = runtime.load(path, threads=count, isa=name, backend="engine")
            check(f"engine on {engine.isa}", engine(images)[:1], expected)
            row = {"engine": "onebit", "precision": "1 bit", "isa": engine.isa}
            contenders.append((row, partial(engine, images)))
        for name, network in torch_models.items():
            contenders.append(torch_contender(name, network, images, expected))
        rows += measure(contenders, count, batch, rounds)
    return {"machine": machine(), "rounds": rounds, "rows": rows}


def check(name: str, answer: np.ndarray, expected: np.ndarray) -> None:
    error = float(np.abs(answer - expected).max() / max(np.abs(expected).max(), 1e-12))
    if not error <= TOLERANCE:
        raise UserError(
            f"{name} answers differently from the reference (relative error {error:.1e}); no time is reported"
        )


def measure(contenders: list[Any], threads: int, batch: int, rounds: int) -> list[dict[str, Any]]:
    if any(row["engine"] == "pytorch" for row, _ in contenders):
        import torch

        torch.set_num_threads(threads)
    repeats = []
    for _, call in contenders:
        call()
        began = time.perf_counter()
        call()
        repeats.append(max(3, min(200, int(ROUND_SECONDS / max(time.perf_counter() - began, 1e-6)))))
    times: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds):
        for position, (_, call) in enumerate(contenders):
            call()  # brings its own data back into the caches
            for _ in range(repeats[position]):
                began = time.perf_counter()
                call()
                times[position].append(1e3 * (time.perf_counter() - began))
    rows = []
    for (row, _), taken in zip(contenders, times, strict=True):
        q1, median, q3 = statistics.quantiles(taken, n=4)
        spread = {"median_ms": round(median, 4), "q1_ms": round(q1, 4), "q3_ms": round(q3, 4)}
        rows.append({**row, "threads": threads, "batch": batch, **spread})
    return rows


def instruction_sets(path: str, isa: str) -> list[str | None]:
    """The names to force: [None] for the best one, or those asked for, where `all` means all this machine has."""
    if isa == "best":
        return [None]
    if isa != "all":
        return [*isa.split(",")]
    from onebit.runtime import native

    return [*native.supported()]


def random_network(name: str, method: str, size: int, folder: str) -> tuple[str, dict[str, Any]]:
    """(packed file of a network with random weights, its PyTorch models to compare with)."""
    import torch

    from onebit import models, pack

    torch.manual_seed(0)
    binary = models.create(name, method, image_size=size).eval()
    parent = models.create(name, "float", image_size=size).eval()
    path = os.path.join(folder, "random.safetensors")
    pack(binary, path)
    return path, {"float32, binary network": binary, "float32, parent": parent}


def torch_contender(name: str, network: Any, images: np.ndarray, expected: np.ndarray) -> tuple[dict[str, Any], Any]:
    import torch

    tensor = torch.from_numpy(images)

    def call() -> Any:
        with torch.inference_mode():
            return network(tensor)

    if "binary" in name:
        check(f"PyTorch ({name})", call()[:1].numpy(), expected)
    return {"engine": "pytorch", "precision": name, "isa": "eager"}, call


def machine() -> str:
    return f"{processor.name()}, {processor.count()} CPUs"


def table(result: dict[str, Any]) -> str:
    """The rows as text, with the ratio to the first one."""
    lines = [f"{result['machine']}; medians of {result['rounds']} interleaved rounds"]
    lines.append(f"{'engine':8} {'precision':24} {'isa':9} threads batch   median ms  (quartiles)        ratio")
    first = result["rows"][0]["median_ms"]
    for row in result["rows"]:
        lines.append(
            f"{row['engine']:8} {row['precision']:24} {row['isa']:9} {row['threads']:7} {row['batch']:5} "
            f"{row['median_ms']:11.3f}  ({row['q1_ms']:.3f}-{row['q3_ms']:.3f})  {row['median_ms'] / first:8.2f}"
        )
    return "\n".join(lines)
