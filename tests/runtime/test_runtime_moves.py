"""Operators that move values, constants, upsampling, transposed convolutions and attention: the engine equals the reference to
the bit, and the reference PyTorch's functions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nets import Builder, moving_net
from onebit.errors import UserError
from onebit.runtime import format as file_format
from onebit.runtime import load
from test_runtime_engine import isas


def check(path: Path, isa: str, images: np.ndarray) -> None:
    """To the bit, the sign of zero included."""
    reference = load(path, backend="reference")
    expected, outputs = reference.trace(images), reference.graph["outputs"]
    for threads in (1, 2):
        model = load(path, isa=isa, threads=threads)
        traced, found = model.trace(images), model(images)
        run = found if isinstance(found, dict) else {outputs[0]["name"]: found}
        assert traced.keys() == expected.keys() and list(run) == [output["name"] for output in outputs]
        for name, value in (*traced.items(), *((output["node"], run[output["name"]]) for output in outputs)):
            assert value.shape == expected[name].shape
            np.testing.assert_array_equal(
                value.view(np.int32), expected[name].view(np.int32), err_msg=f"{isa}, {threads} threads: {name}"
            )


@isas
@pytest.mark.parametrize("seed", range(24))
def test_random_networks(tmp_path: Path, isa: str, seed: int) -> None:
    graph, tensors = moving_net(seed)
    file_format.write(tmp_path / "net.onebit", graph, tensors)
    images = np.random.default_rng(seed).normal(size=(3 if seed % 2 else 1, *graph["inputs"][0]["shape"]))
    check(tmp_path / "net.onebit", isa, images.astype(np.float32))
