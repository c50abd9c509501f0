"""The demonstration: train, pack and run small networks on the digits that come with scikit-learn, and print one table.

`python -m onebit.reproduction.demo` (what `make demo` runs): for the full-precision parent and each of RBNN, AdaBin and ReBNN, a
ResNet-8 is trained, packed, and the packed file run by the engine on the test images.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from onebit import data, files, runtime, tasks
from onebit.analysis.subject import outputs_of
from onebit.checkpoints import checkpoint
from onebit.errors import UserError
from onebit.packing.from_checkpoint import pack_checkpoint
from onebit.tasks.score import score_module, score_network
from onebit.training.recipe import Recipe
from onebit.training.train import train

METHODS: dict[str, dict[str, Any]] = {
    "float": {},
    "rbnn": {
        "options": {"t_max": 2.0, "rotate_until": 0.5},
        "structure": {"block": "bireal", "norm_weight": 0.3},
    },
    "adabin": {},
    "rebnn": {"optimizer": "adam", "lr": 5e-3, "weight_decay": 0.0},
}
COLUMNS = (
    ("method", "method"),
    ("accuracy_pytorch", "accuracy in PyTorch, %"),
    ("accuracy_engine", "in the engine, %"),
    ("bytes_float32", "bytes in float32"),
    ("bytes_packed", "bytes packed"),
    ("ms_pytorch", "ms per image in PyTorch"),
    ("ms_engine", "in the engine"),
)


def median_ms(call: Callable[[], Any], repeats: int = 200) -> float:
    """Median time of a call in ms, after warming up."""
    for _ in range(10):
        call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def demonstrate(method: str, epochs: int, out: Path) -> dict[str, Any]:
    """One row of the table: train, pack, run, compare."""
    recipe = Recipe(
        data="digits", model="resnet8", method=method, epochs=epochs, batch_size=64, out=str(out), **METHODS[method]
    )
    train(recipe, name=f"digits-resnet8-{method}", quiet=True)
    saved = checkpoint.load(out / "last.ckpt")
    model = saved.network()
    packed_path = out / "model.safetensors"
    packed = pack_checkpoint(saved, packed_path)
    engine = runtime.load(packed_path, threads=1)
    digits = data.load("digits")
    task, test = tasks.create(digits.task, digits.labels), digits.test
    scores, _ = score_module(model, test.evaluation_batches(64), task)
    engine_scores, _ = score_network(outputs_of(engine), test.evaluation_batches(64), task, torch.device("cpu"))
    image = next(iter(test.evaluation_batches(1))).inputs
    array = np.ascontiguousarray(image.numpy())
    torch.set_num_threads(1)
    with torch.inference_mode():
        ms_pytorch = median_ms(lambda: model(image))
    return {
        "method": "full precision" if method == "float" else method,
        "accuracy_pytorch": round(scores["accuracy"], 2),
        "accuracy_engine": round(engine_scores["accuracy"], 2),
        "bytes_float32": packed["float32_bytes"],
        "bytes_packed": packed["bytes"],
        "ms_pytorch": round(ms_pytorch, 3),
        "ms_engine": round(median_ms(lambda: engine(array)), 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser("onebit.reproduction.demo", description=(__doc__ or "").strip().split("\n")[0])
    parser.add_argument("--epochs", type=int, default=15, help="epochs of each training (default 15)")
    parser.add_argument(
        "--out", default="runs/demo", help="folder for checkpoints and packed files (default runs/demo)"
    )
    parser.add_argument("--json", action="store_true", help="print the rows as JSON, and nothing else")
    options = parser.parse_args()
    out = Path(options.out)
    console = Console(stderr=True)
    rows = []
    try:
        for method in METHODS:
            console.print(f"training {method} for {options.epochs} epochs on 1437 images of digits", highlight=False)
            folder = out / method
            (folder / "last.ckpt").unlink(missing_ok=True)  # the demonstration starts anew each time
            rows.append(demonstrate(method, options.epochs, folder))
        files.write_text(out / "table.json", json.dumps(rows, indent=2) + "\n")
    except UserError as error:
        print(f"onebit: error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(rows))
        return 0
    table = Table(title=f"ResNet-8 on digits, {options.epochs} epochs, seed 0, 360 test images, 1 thread")
    for key, title in COLUMNS:
        table.add_column(title, justify="left" if key == "method" else "right")
    for row in rows:
        table.add_row(*(str(row[key]) for key, _ in COLUMNS))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    print(f"checkpoints and packed files are in {out}; try: onebit info {out}/adabin/model.safetensors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
