"""A step of a training takes no number off the device, for which it would wait: all methods, and what the loop does around a step.

Of a GPU itself tests/test_gpu.py tells; here the operators that would make it wait are caught on a CPU.
"""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import runs
from onebit.methods import METHODS
from onebit.training import environment
from onebit.training.devices import make_fabric
from onebit.training.optimizer import set_learning_rate
from onebit.training.progress import Progress
from onebit.training.setup import set_up
from onebit.training.state import begin

aten = torch.ops.aten
READS = {aten._local_scalar_dense, aten.is_nonzero, aten.nonzero, aten.equal, aten.masked_select, aten._unique2}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


class NoReading(TorchDispatchMode):
    """A context manager in which operators that give a number, or a size, to the CPU raise AssertionError."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        masks = function.overloadpacket in INDEXING and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        assert not masks and function.overloadpacket not in READS, f"{function} waits for the device"
        return function(*args, **(kwargs or {}))


def test_reading_is_caught():
    x = torch.arange(4.0)
    for reads in (lambda: x.sum().item(), lambda: bool((x > 1).any()), lambda: x[x > 1]):
        with NoReading(), pytest.raises(AssertionError, match="waits for the device"):
            reads()
    with NoReading():
        (x * 2)[torch.tensor([1, 2])].sum().clamp(min=1)


@pytest.mark.parametrize("method", METHODS)
def test_steps_wait_for_nothing(method, tmp_path):
    recipe = runs.digits(tmp_path, method=method, deterministic=False, clip_grad_norm=1.0, ema_decay=0.9)
    environment.prepare(recipe, recipe.seed)
    setup = set_up(make_fabric(recipe, "32-true"), recipe, tmp_path, False, True)
    state = begin(setup, "waits")
    setup.model.train()
    setup.objective.set_progress(0.0, begins=True)
    state.signs.start_epoch()
    with Progress(setup.fabric, setup.task, tmp_path, 2, setup.steps, 128, 0, shows=False) as progress:
        progress.start_epoch(0, None)
        batches = setup.train.training_batches(setup.share, 0, 0)

        def step(number: int) -> None:
            batch = next(batches)
            set_learning_rate(setup.optimizer, recipe, number, setup.steps)
            loss, outputs = setup.step(batch.laid_out(setup.layout), checks=False)
            progress.step(number, loss, outputs, batch)
            state.signs.after_step(number)

        step(0)  # whose loss is read and shown
        with NoReading():
            for number in range(1, 4):
                assert not progress.due(number)
                step(number)
        assert torch.as_tensor(progress.loss).isfinite()
