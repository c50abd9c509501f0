"""Random numbers that depend on named integers alone, for libraries that draw from global generators."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int, index: int) -> Iterator[None]:
    """Within the block, Python's, numpy's and PyTorch's CPU generators start from (seed, index); after it, as before."""
    combined = (seed * 1_000_003 + index) % 2**63
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            random.seed(combined)
            np.random.seed(combined % 2**32)
            torch.default_generator.manual_seed(combined)  # torch.manual_seed would reseed the GPUs too
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
