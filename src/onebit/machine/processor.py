"""The processor of this machine."""

import os
import platform
from pathlib import Path


def name() -> str:
    """The processor's model where Linux tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def count() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable(threads: int) -> int:
    """So many threads, but not more than there are CPUs for them: more wait for each other, and a step takes minutes."""
    return min(threads, count())
