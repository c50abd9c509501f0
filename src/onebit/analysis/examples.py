"""The data set of a run: its examples as the run's network takes them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from onebit import data
from onebit.analysis.runs import Run
from onebit.analysis.subject import adapted, check_inputs, task_of
from onebit.data.dataset import Batch, Data
from onebit.data.inputs import Images
from onebit.tasks.task import Task


@dataclass
class Source:
    """inputs: what the run's network takes; task: of the data, for its labels"""

    data: Data
    inputs: Images
    task: Task

    def test(self, count: int, size: int = 100) -> Iterator[Batch]:
        """`count` of the test examples, evenly spaced in their order, in batches of `size`, normalised as the run was trained."""
        theirs, examples = self.inputs, self.data.test
        if theirs.resize is not None:
            examples = examples.cut(theirs.size, theirs.size, theirs.resize)
        return adapted(examples.some(count).evaluation_batches(size), self.data.inputs, theirs)

    def train(self, count: int, size: int = 100) -> Iterator[Batch]:
        """`count` training examples, at most, of the order of epoch 0 and seed 0, in whole batches, augmented as in training."""
        batches = islice(self.data.train.training_batches(size, 0, 0), -(-count // size))
        return adapted(batches, self.data.inputs, self.inputs)

    def pixels(self, inputs: Tensor) -> Tensor:
        """Normalised inputs (B, C, H, W) as uint8 (B, H, W, C)."""
        mean = torch.tensor(self.inputs.normalization.mean).reshape(-1, 1, 1)
        std = torch.tensor(self.inputs.normalization.std).reshape(-1, 1, 1)
        return ((inputs * std + mean) * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1)


def load(run: Run, name: str, root: str) -> Source:
    """The data set `name` in `root` for the run's network. Raises UserError where it is not there, or for another network."""
    config = run.saved.config
    options = data.LoadOptions(False, config.get("image_size", 32))
    source = data.load(name, root, options)
    where = str(run.path)
    task = task_of(run.saved.task["name"], run.saved.task["labels"], source, where)
    check_inputs(where, config.get("in_channels", 3), source)
    return Source(source, run.saved.inputs or source.inputs, task)
