"""What is measured of a trained network: one function, one line of MEASUREMENTS, whose values stand in the records by its name.

A run that a record lacks a measurement of is measured when the command next finds its folder; nothing is trained again for it.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onebit import runtime
from onebit.analysis.evaluation import evaluate
from onebit.analysis.robustness import robustness
from onebit.analysis.subject import opened
from onebit.checkpoints import checkpoint
from onebit.machine.load import OtherLoad
from onebit.machine.timing import times_ms
from onebit.packing.from_checkpoint import pack_checkpoint
from onebit.reproduction.int8 import installed, int8
from onebit.runtime.examples import made_up
from onebit.training.recipe import Recipe

PACKED = "model.safetensors"
PICTURES = ("cifar10", "cifar100")  # sets whose test examples are pictures that can be corrupted
SEVERITY, CORRUPTED = 3, 500  # of corruptions, and test pictures under each
SECONDS = 2.0  # of a timing


def packed(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """{"bytes" of the packed file, "float32_bytes" of the same network's parameters}. Writes the file into the run's folder."""
    result = pack_checkpoint(checkpoint.load(folder / "last.ckpt"), folder / PACKED)
    return {"bytes": result["bytes"], "float32_bytes": result["float32_bytes"]}


def engine(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """{score by name in percent, "ece": expected calibration error in percent, where an answer is one label, "examples"}: of the
    test examples, in the engine."""
    result = evaluate(str(folder / PACKED), recipe.data, recipe.root, checkpoint=False, threads=1)
    scores = {name: result[name] for name in result["scores"]}
    ece = {"ece": result["calibration"]["ece"]} if "calibration" in result else {}
    return {**scores, **ece, "examples": result["examples"]}


def speed(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """{"ms": median for one input on one thread in the engine, "ms_pytorch": in PyTorch, "isa" of the engine,
    "other_load": percent of a CPU that other processes took meanwhile, None where the system does not tell}."""
    model = checkpoint.load(folder / "last.ckpt").network()
    network = runtime.load(folder / PACKED, threads=1)
    given = made_up(network.inputs, 1, np.random.default_rng(0))
    text = network.input_kind == "text"
    tensor = (
        torch.from_numpy(np.stack(given, 1)).long() if text else torch.from_numpy(given[0])
    )  # (1, 3, T), (1, C, H, W)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        load = OtherLoad()
        ms = median_ms(lambda: network(*given))
        with torch.inference_mode():
            ms_pytorch = median_ms(lambda: model(tensor))
        other = load.percent()
    finally:
        torch.set_num_threads(before)
    return {"ms": ms, "ms_pytorch": ms_pytorch, "isa": network.isa, "other_load": other}


def in_int8(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """See `reproduction.int8`."""
    return int8(folder, recipe, median_ms)


def corrupted(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """{"mean": accuracy over ImageNet-C's fifteen corruptions at one severity, "clean": of the same pictures uncorrupted, both in
    percent, "severity", "examples"}, in the engine. Few pictures of one severity: enough to compare networks by."""
    subject = opened(str(folder / PACKED), recipe.data, recipe.root, checkpoint=False, threads=1)
    found = robustness(subject, severities=(SEVERITY,), limit=CORRUPTED, threads=1)
    return {"mean": found["mean"], "clean": found["clean"], "severity": SEVERITY, "examples": found["examples"]}


def median_ms(call: Callable[[], Any]) -> float:
    return round(statistics.median(times_ms(call, SECONDS)), 4)


@dataclass(frozen=True)
class Measurement:
    """measure: (run folder, recipe of the run) -> values by name. alone: when nothing else runs, in the end, one run after
    the other."""

    measure: Callable[[Path, Recipe], dict[str, Any]]
    alone: bool = False


MEASUREMENTS: dict[str, Measurement] = {  # in this order: `packed` writes the file that the others read
    "packed": Measurement(packed),
    "engine": Measurement(engine),
    "speed": Measurement(speed, alone=True),
    "int8": Measurement(in_int8, alone=True),
    "corrupted": Measurement(corrupted),
}


def applicable(recipe: Recipe) -> dict[str, Measurement]:
    """The measurements of a run's network: none where its weights stay real, as after the first of two steps."""
    if recipe.binarize == "activations":
        return {}
    wanted = {  # those whose packages need not be here
        "int8": recipe.method == "float" and bool(installed()),
        "corrupted": recipe.data in PICTURES and find_spec("imagecorruptions") is not None,
    }
    return {name: one for name, one in MEASUREMENTS.items() if wanted.get(name, True)}


def missing(recipe: Recipe, done: dict[str, Any]) -> list[str]:
    return [name for name in applicable(recipe) if name not in done]
