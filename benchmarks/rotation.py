"""Time of RBNN's rotations of a whole network: all filters of a layer at once, and one filter at a time.

    python benchmarks/rotation.py [model] [rounds]

Both compute the same; the script compares their results before it prints a time, in float64: in float32 a product rounded
differently turns signs near 0, and every cycle after that works with other signs.
"""

import statistics
import sys
import time

import torch

from onebit import models
from onebit.bench.networks import machine
from onebit.methods.rbnn import RotatedSign, align, align_by_filter
from onebit.nn import layers


def main() -> None:
    name, rounds = (sys.argv[1:] + ["resnet18", "3"][len(sys.argv) - 1 :])[:2]
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    inputs = []
    for _, layer in layers.binary_layers(models.create(name, "rbnn")):
        binarizer = layer.weight_binarizer
        assert isinstance(binarizer, RotatedSign)
        inputs.append((binarizer.matrices(binarizer.standardize(layer.weight.detach())), binarizer.r1, binarizer.r2))
    for given in inputs:
        exact = [tensor.double() for tensor in given]
        for ours, reference in zip(align(*exact), align_by_filter(*exact), strict=True):
            torch.testing.assert_close(ours, reference, rtol=0, atol=1e-9)
    times: dict[str, list[float]] = {"align": [], "align_by_filter": []}
    for _ in range(int(rounds)):
        for function in (align, align_by_filter):
            began = time.perf_counter()
            for given in inputs:
                function(*given)
            times[function.__name__].append(time.perf_counter() - began)
    print(f"{machine()}; {torch.get_num_threads()} threads; {name}, {rounds} interleaved rounds")
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    for name, seconds in medians.items():
        print(f"{name:16} {seconds:7.3f} s")
    print(f"ratio {medians['align_by_filter'] / medians['align']:.1f}")


if __name__ == "__main__":
    main()
