"""Settings for all tests: one thread, so that small tensors are quick and sums have one order; the library for C, built once."""

import sys
from pathlib import Path

import pytest

from builds import build, output_of, tool


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


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """Where the library for C is installed, in a folder that was moved afterwards."""
    folder = tmp_path_factory.mktemp("c")
    build(Path(__file__).parents[1], folder / "build", "onebit_c", "-DONEBIT_PYTHON=OFF", "-DONEBIT_C_LIBRARY=ON")
    output_of(tool("cmake"), "--install", folder / "build", "--prefix", folder / "first", "--strip")
    return (folder / "first").rename(folder / "installed")


@pytest.fixture(scope="session")
def libraries(installed):
    """Of the libraries: "lib", "lib64" or "lib/<machine>"."""
    (found,) = installed.rglob("libonebit.a")
    return found.parent


@pytest.fixture(scope="session")
def library(libraries):
    from c_interface import Library

    return Library(libraries / "libonebit.so")
