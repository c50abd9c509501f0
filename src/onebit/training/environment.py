"""What a training sets in its process before anything is built: threads, memory, precision, seeds."""

import random
import sys
from typing import Any

import torch

from onebit.machine import processor
from onebit.machine.heap import keep_freed_memory
from onebit.training.recipe import DeviceOptions


def prepare(options: DeviceOptions, seed: int, speaks: bool = True) -> None:
    """Set threads, the heap, denormals, determinism and seeds of this process.

    More threads than it has processors would wait for each other: it gets as many as those, and says so, if it speaks.
    """
    if options.threads:
        count = processor.usable(options.threads)
        if count < options.threads and speaks:
            print(
                f"threads = {options.threads}: this process has {count} processors, {count} are used", file=sys.stderr
            )
        torch.set_num_threads(count)
    keep_freed_memory()
    torch.set_flush_denormal(True)  # norm weights of 1e-8 make denormals, which slow a step twentyfold
    if options.deterministic:
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    random.seed(seed)
    torch.manual_seed(seed)


def precision(options: DeviceOptions) -> Any:
    """The precision, with auto resolved: bf16 only where it is native, else it is slower than float32."""
    if options.precision != "auto":
        return options.precision
    if options.deterministic:
        return "32-true"
    on_gpu = options.accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available()
    if on_gpu:
        native = torch.cuda.is_bf16_supported(False)
    else:
        native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if native else "32-true"


def layout(options: DeviceOptions) -> torch.memory_format:
    """Memory layout of maps and convolution weights."""
    return torch.channels_last if options.channels_last else torch.contiguous_format
