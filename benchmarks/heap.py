"""What it saves that malloc keeps freed memory between training steps (onebit.machine.heap): time and page faults of a step.

    python benchmarks/heap.py [--threads 2] [--rounds 3] [--compiled]

AdaBin's ResNet-20, batch 128; processes with and without take turns, each with 12 steps.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch

from onebit.bench.training import Trainee, compile_checked
from onebit.machine.heap import keep_freed_memory
from onebit.training.recipe import Recipe

STEPS = 12
SETTINGS = ("given back", "kept")


def measured(kept: bool, threads: int, compiled: bool) -> tuple[float, int]:
    """Median ms and page faults of a step in this process."""
    if kept and not keep_freed_memory():
        raise SystemExit("the C library is not glibc, or MALLOC_TRIM_THRESHOLD_ or MALLOC_MMAP_MAX_ is set")
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    trainee = Trainee(
        "resnet20", "adabin", 32, 10, Recipe(precision="32-true", accelerator="cpu", devices="1"), torch.device("cpu")
    )
    batch = trainee.batch(32, 128)
    if compiled:
        compile_checked(trainee, batch)
    times, faults = [], []
    for _ in range(STEPS):
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
        trainee.step(batch)
        times.append(1e3 * (time.perf_counter() - began))
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return statistics.median(times), int(statistics.median(faults))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compiled", action="store_true", help="measure compiled steps, not eager ones")
    parser.add_argument("--child", choices=SETTINGS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options.child == "kept", options.threads, options.compiled)))
        return
    for _ in range(options.rounds):
        for setting in SETTINGS:
            command = [sys.executable, __file__, "--threads", str(options.threads), "--child", setting]
            command += ["--compiled"] if options.compiled else []
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            ms, faults = json.loads(done.stdout.splitlines()[-1])
            print(f"freed memory {setting:10}  {ms:6.0f} ms a step, {faults:6} page faults", flush=True)


if __name__ == "__main__":
    main()
