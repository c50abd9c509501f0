"""The data set of a run: its examples as the run's network takes them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from torch import Tensor

from onebit.analysis.runs import Run
from onebit.analysis.subject import adapted, data_for
from onebit.data.dataset import Batch, Data, Examples
from onebit.data.inputs import Inputs, images
from onebit.tasks.task import Task


@dataclass
class Source:
    """inputs: what the run's network takes; task: of the data, for its labels; examples: to test with, cut as it takes them"""

    data: Data
    inputs: Inputs
    task: Task
    examples: Examples

    def test(self, count: int, size: int = 100) -> Iterator[Batch]:
        """`count` of the test examples, evenly spaced in their order, in batches of `size`, normalised as the run was trained."""
        return adapted(self.examples.some(count).evaluation_batches(size), self.data.inputs, self.inputs)

    def train(self, count: int, size: int = 100) -> Iterator[Batch]:
        """`count` training examples, at most, of the order of epoch 0 and seed 0, in whole batches, augmented as in training."""
        batches = islice(self.data.train.training_batches(size, 0, 0), -(-count // size))
        return adapted(batches, self.data.inputs, self.inputs)

    def pixels(self, inputs: Tensor) -> Tensor:
        """Normalised inputs (B, C, H, W) as uint8 (B, H, W, C)."""
        return images(self.inputs, "pixels").normalization.pixels(inputs).permute(0, 2, 3, 1)


def load(run: Run, name: str, root: str) -> Source:
    """The data set `name` in `root` for the run's network. Raises UserError where it is not there, or for another network."""
    return Source(*data_for(run.saved, name, root, str(run.path)))
