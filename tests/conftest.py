"""Settings for all tests: one thread, so that small tensors are quick and sums have one order."""

import sys

import pytest


@pytest.fixture(autouse=True)
def one_thread_and_a_seed():
    torch = sys.modules.get("torch")  # the runtime's tests need no PyTorch
    if torch is None:
        yield
        return
    torch.set_num_threads(1)
    torch.set_flush_denormal(False)  # a training switches it on
    torch.manual_seed(0)
    yield
    torch.use_deterministic_algorithms(False)
