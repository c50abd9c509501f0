"""Time per batch of a network in the engine, in PyTorch where the model is given by name, and in its peers if asked.

Every contender's answer is checked before anything is timed; contenders, at every number of threads, take turns within
each round, so that a slower phase of the machine meets them all. Reported are the median and quartiles of all timed runs,
and the median over rounds of the ratio to our best instruction set at the same number of threads.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from onebit import runtime
from onebit.errors import UserError
from onebit.machine import load as cpu_load
from onebit.machine import processor
from onebit.runtime.operators import float_weight

MAX_ISA = "ONEDNN_MAX_CPU_ISA"  # oneDNN, inside PyTorch and OpenVINO, reads it once, when the process starts
TOLERANCE = 1e-3  # of logits, relative to the largest one
TURN_SECONDS = 0.05  # timed calls of one contender in one round take about so long,
TURN_CALLS = (9, 30)  # but are at least and at most so many: 12 rounds make 108 or more
WARM_UPS = 2
CALIBRATION_IMAGES = 32


class Contender(NamedTuple):
    row: dict[str, Any]  # "engine", "precision", "isa", "threads"
    call: Callable[[], Any]


def bench(
    model: str,
    method: str = "adabin",
    *,
    size: int = 32,
    batch: int = 1,
    threads: Sequence[int] = (1,),
    isa: str = "best",
    rounds: int = 12,
    peers: Sequence[str] = (),
    random: bool = False,
    int8: bool = False,
    require_idle: bool = False,
) -> dict[str, Any]:
    """Rows {"engine", "precision", "isa", "threads", "batch", "median_ms", "q1_ms", "q3_ms", "n", "ratio"} for a packed
    file, or for a model of the table with random weights, which `random` says where a file has the same name.

    int8          the engine takes images of bytes, and the float weights of a model given by name have 8 bits
    peers         names of peers.PEERS, which run the full-precision parent in place of eager PyTorch's rows
    require_idle  raise UserError where other processes use more than 10 % of a CPU

    Raises UserError for values that do not fit, and where an answer is wrong.
    """
    load = cpu_load.during(0.3)
    if require_idle:
        check_idle(load)
    result: dict[str, Any] = {"model": model}
    if peers:
        from onebit.bench import peers as table_of_peers

        result["peers"] = table_of_peers.versions(peers)
        if limit := os.environ.get(MAX_ISA):
            result[MAX_ISA] = limit
    with tempfile.TemporaryDirectory() as folder:
        path, networks = network(model, method, size, folder, random=random, int8=int8)
        if networks:
            result["method"] = method
        contenders, doubts = checked_contenders(path, networks, batch, threads, isa, peers, folder, int8)
        rows, other = measure(contenders, batch, rounds)
    if require_idle:
        check_idle(other)
    loads = {"before_percent": load, "during_percent": other}
    return {**result, "machine": machine(), "rounds": rounds, "other_load": loads, "warnings": doubts, "rows": rows}


def checked_contenders(
    path: str,
    networks: Any,
    batch: int,
    threads: Sequence[int],
    isa: str,
    peers: Sequence[str],
    folder: str,
    int8: bool = False,
) -> tuple[list[Contender], list[str]]:
    """(contenders, warnings). networks are the (binary, parent) of a model with random weights, None for a file."""
    reference = runtime.load(path, backend="reference")
    samples = batches(batch, reference.input_shape, max(2, CALIBRATION_IMAGES // batch) if peers else 1)
    images = samples[0]
    if int8:
        images = to_bytes(samples[0], reference)
        samples = [reference.normalized(to_bytes(sample, reference)) for sample in samples]
    expected = reference(images[:1])
    contenders: list[Contender] = []
    for count in threads:
        for name in instruction_sets(path, isa):
            engine = runtime.load(path, threads=count, isa=name, backend="engine")
            check(f"engine on {engine.isa}", engine(images)[:1], expected)
            precision = "1 bit, else int8" if int8 else "1 bit"
            row = {"engine": "onebit", "precision": precision, "isa": engine.isa, "threads": count}
            contenders.append(Contender(row, partial(engine, images)))
    if networks:
        binary, parent = (eager(network, samples[0]) for network in networks)
        check("PyTorch (the binary network)", binary()[:1].numpy(), expected)
        for count in [] if peers else threads:
            for precision, call in (("float32, binary network", binary), ("float32, parent", parent)):
                row = {"engine": "pytorch", "precision": precision, "isa": "eager", "threads": count}
                contenders.append(Contender(row, call))
    if not peers:
        return contenders, []
    from onebit.bench import peer_contenders

    shape, classes = reference.input_shape, expected.shape[1]
    parent = networks[1] if networks else peer_contenders.parent_of(reference.name, shape, classes)
    theirs, doubts = peer_contenders.contenders(peers, path, parent, samples, threads, folder)
    return sorted(contenders + theirs, key=lambda contender: contender.row["threads"]), doubts


def batches(batch: int, shape: tuple[int, int, int], count: int) -> list[np.ndarray]:
    """Batches of normalised images: noise, and a colour of its own for each image, so that logits differ between them."""
    random = np.random.default_rng(0)
    noise = random.standard_normal((count, batch, *shape), np.float32)
    return list(noise + random.standard_normal((count, batch, shape[0], 1, 1), np.float32))


def to_bytes(images: np.ndarray, model: runtime.Model) -> np.ndarray:
    """uint8 (B, H, W, C) whose normalisation is nearest to float32 (B, C, H, W)."""
    mean, std = (np.array(model.graph["input"][key], np.float32) for key in ("mean", "std"))
    return np.clip(np.rint((images.transpose(0, 2, 3, 1) * std + mean) * 255), 0, 255).astype(np.uint8)


def check(name: str, answer: np.ndarray, expected: np.ndarray) -> None:
    if answer.shape != expected.shape:
        raise UserError(f"{name} answers with shape {answer.shape}, not {expected.shape}; no time is reported")
    error = float(np.abs(answer - expected).max() / max(np.abs(expected).max(), 1e-12))
    if not error <= TOLERANCE:
        raise UserError(
            f"{name} answers differently from the reference (relative error {error:.1e}); no time is reported"
        )


def check_idle(percent: float | None) -> None:
    if percent is None:
        raise UserError(f"--require-idle: {cpu_load.STAT} does not tell what other processes use; leave it out")
    if percent > cpu_load.IDLE_PERCENT:
        raise UserError(
            f"--require-idle: other processes use {percent:.0f} % of a CPU, more than {cpu_load.IDLE_PERCENT:.0f} %; "
            "no time is reported"
        )


def measure(contenders: list[Contender], batch: int, rounds: int) -> tuple[list[dict[str, Any]], float | None]:
    """(a row for each contender, percent of a CPU that other processes used meanwhile)."""
    repeats = []
    for contender in contenders:
        prepare(contender)
        began = time.perf_counter()
        contender.call()
        fit = int(TURN_SECONDS / max(time.perf_counter() - began, 1e-6))
        repeats.append(max(TURN_CALLS[0], min(TURN_CALLS[1], fit)))
    times: list[list[list[float]]] = [[] for _ in contenders]  # of each call in each round, in ms
    load = cpu_load.OtherLoad()
    for _ in range(rounds):
        for contender, calls, turns in zip(contenders, repeats, times, strict=True):
            prepare(contender)
            taken = []
            for _ in range(calls):
                began = time.perf_counter()
                contender.call()
                taken.append(1e3 * (time.perf_counter() - began))
            turns.append(taken)
    other = load.percent()
    return [
        {**contender.row, "batch": batch, **summary(turns), "ratio": ratio}
        for contender, turns, ratio in zip(contenders, times, ratios(contenders, times), strict=True)
    ], other


def summary(turns: list[list[float]]) -> dict[str, Any]:
    taken = [ms for turn in turns for ms in turn]
    q1, median, q3 = (round(value, 4) for value in statistics.quantiles(taken, n=4))
    return {"median_ms": median, "q1_ms": q1, "q3_ms": q3, "n": len(taken)}


def ratios(contenders: list[Contender], times: list[list[list[float]]]) -> list[float]:
    """To our best contender at the same threads: medians over rounds of (median of a turn / of its turn that round)."""
    turns = [[statistics.median(turn) for turn in rounds] for rounds in times]
    ours: dict[int, list[list[float]]] = {}
    for contender, own in zip(contenders, turns, strict=True):
        if contender.row["engine"] == "onebit":
            ours.setdefault(contender.row["threads"], []).append(own)
    best = {threads: min(rows, key=statistics.median) for threads, rows in ours.items()}
    return [
        round(statistics.median(a / b for a, b in zip(own, best[contender.row["threads"]], strict=True)), 3)
        for contender, own in zip(contenders, turns, strict=True)
    ]


def prepare(contender: Contender) -> None:
    """Waits, at most 0.1 s, until the last contender's threads sleep, which poll for work a while after their answer;
    then brings this one's data back into the caches."""
    for _ in range(50):
        used = time.process_time()
        time.sleep(0.002)
        if time.process_time() - used < 0.0005:
            break
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(contender.row["threads"])
    for _ in range(WARM_UPS):
        contender.call()


def instruction_sets(path: str, isa: str) -> list[str | None]:
    """The names to force: [None] for the best one, or those asked for, where `all` means all this machine has."""
    if isa == "best":
        return [None]
    if isa != "all":
        return [*isa.split(",")]
    from onebit.runtime import native

    return [*native.supported()]


def network(
    model: str, method: str, size: int, folder: str, *, random: bool, int8: bool
) -> tuple[str, tuple[Any, Any] | None]:
    """(packed file, None), or what random_network makes of a name, which `random` says where a file has it too."""
    if Path(model).exists() and not random:
        return model, None
    if "/" in model or "." in model:
        raise UserError(f"{model} does not exist; give a packed file or the name of a model")
    return random_network(model, method, size, folder, int8)


def random_network(name: str, method: str, size: int, folder: str, int8: bool = False) -> tuple[str, tuple[Any, Any]]:
    """(packed file of a network with random weights, (the network, its full-precision parent) in PyTorch)."""
    import torch

    from onebit import models, pack
    from onebit.packing import pack as packing

    torch.manual_seed(0)
    binary = models.create(name, method, image_size=size).eval()
    parent = models.create(name, "float", image_size=size).eval()
    path = os.path.join(folder, "random.safetensors")
    if int8:  # which packing then takes as they are
        real: list[Any] = [m for m in binary.modules() if type(m) in (torch.nn.Conv2d, torch.nn.Linear)]
        for layer in real:
            weight, scale = packing.quantized(layer.weight.detach().numpy())
            layer.weight.data = torch.from_numpy(float_weight(weight, scale))
    pack(binary, path, mean=[0.5] * 3, std=[0.25] * 3, int8=int8)
    return path, (binary, parent)


def eager(network: Any, images: np.ndarray) -> Callable[[], Any]:
    import torch

    tensor = torch.from_numpy(images)

    def call() -> Any:
        with torch.inference_mode():
            return network(tensor)

    return call


def machine() -> str:
    return f"{processor.name()}, {processor.count()} CPUs"


def table(result: dict[str, Any]) -> str:
    """The rows as text, with the ratio to our best row at the same number of threads."""
    lines = [f"{result['machine']}; medians of {result['rounds']} interleaved rounds"]
    if peers := result.get("peers"):
        lines.append("peers: " + ", ".join(f"{name} {version}" for name, version in peers.items()))
    if limit := result.get(MAX_ISA):
        lines.append(f"{MAX_ISA}={limit}, which PyTorch and OpenVINO obey and onnxruntime does not")
    lines += [f"warning: {doubt}" for doubt in result["warnings"]]
    before, during = ("unknown" if p is None else f"{p:.0f} %" for p in result["other_load"].values())
    lines.append(f"other processes used {during} of a CPU (just before: {before})")
    lines.append(
        f"{'engine':13} {'precision':23} {'isa':10} threads batch   median ms  {'(quartiles)':19} {'n':>5}   ratio"
    )
    for row in result["rows"]:
        quartiles = f"({row['q1_ms']:.3f}-{row['q3_ms']:.3f})"
        lines.append(
            f"{row['engine']:13} {row['precision']:23} {row['isa']:10} {row['threads']:7} {row['batch']:5} "
            f"{row['median_ms']:11.3f}  {quartiles:19} {row['n']:5} {row['ratio']:7.2f}"
        )
    return "\n".join(lines)
