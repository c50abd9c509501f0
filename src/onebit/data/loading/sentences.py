"""Texts in memory, as numbers of word pieces, in batches that are padded to their longest text.

In training, batches hold texts of about the same length, since what fills up the shorter ones is computed for nothing: the
order of an epoch is cut into windows of WINDOW batches, each window is sorted by length, and all batches of the epoch are
shuffled. Where asked to, each word piece of theirs is replaced with some probability by one drawn from all pieces of all texts, so
that frequent ones come often: what a teacher says of such texts keeps a network of few texts from learning them by heart (word
replacement of Tang et al. 2019, arXiv 1903.12136, without their tags of speech). All of it comes from (seed, epoch, step), so a
run that resumes sees the same batches.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from onebit.data.dataset import Batch, Examples, epoch_seed, evenly
from onebit.data.loading.word_pieces import Pieces

WINDOW = 64  # batches whose texts are sorted by length


class Sentences(Examples):
    """pieces: the texts; targets (N,): int64 of classes, float32 of quantities; pad: number of the piece that fills up; marks: of
    those that are no words.

    replaced   share of the word pieces that training replaces
    """

    corrupt: Sequence[str] = ()
    replaced: float = 0.0

    def __init__(self, pieces: Pieces, targets: Tensor, pad: int, marks: Sequence[int]):
        self.pieces, self.targets, self.pad, self.marks = pieces, targets, pad, list(marks)
        self.ids = torch.from_numpy(pieces.ids)
        self.starts, self.lengths = torch.from_numpy(pieces.ends[:-1]), torch.from_numpy(np.diff(pieces.ends))
        self.seconds = torch.from_numpy(pieces.seconds)

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> "Sentences":
        """Move texts and targets to the training device, once."""
        for name in ("targets", "ids", "starts", "lengths", "seconds"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def some(self, count: int) -> "Sentences":
        chosen = evenly(len(self), count)
        ends, ids = self.pieces.ends, self.pieces.ids
        parts = [ids[ends[i] : ends[i + 1]] for i in chosen]
        lengths = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        kept = Pieces(np.concatenate(parts), lengths, self.pieces.seconds[chosen], self.pieces.cut)
        return Sentences(kept, self.targets.cpu()[torch.from_numpy(chosen)], self.pad, self.marks).to(
            self.targets.device
        )

    def batch(self, indices: Tensor) -> Batch:
        """The texts of these numbers (B,): int64 (B, 3, T), T the tokens of the longest of them (see `Words`)."""
        lengths = self.lengths[indices][:, None]  # (B, 1)
        places = torch.arange(int(lengths.max()), device=lengths.device)  # (T,)
        there = places < lengths  # (B, T)
        found = self.ids[(self.starts[indices][:, None] + places).clamp(max=len(self.ids) - 1)]  # (B, T)
        ids = torch.where(there, found.long(), self.pad)
        types = (places >= self.seconds[indices][:, None]) & there
        return Batch(torch.stack([ids, types.long(), there.long()], 1), self.targets[indices])

    def evaluation_batches(self, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """All texts in order; of several ranks, each gets every world-th batch."""
        for start in range(rank * batch_size, len(self), world * batch_size):
            yield self.batch(torch.arange(start, min(start + batch_size, len(self)), device=self.targets.device))

    def order(self, size: int, seed: int, epoch: int) -> Tensor:
        """The texts of an epoch in batches of `size`, int64 (steps, size): which ones are left over is drawn, too."""
        generator = torch.Generator().manual_seed(epoch_seed(seed, epoch))
        steps = len(self) // size
        drawn = torch.randperm(len(self), generator=generator)[: steps * size]
        lengths = self.lengths.cpu()
        windows = [part[lengths[part].argsort(stable=True)] for part in drawn.split(WINDOW * size)]
        batches = torch.cat(windows).reshape(steps, size)
        return batches[torch.randperm(steps, generator=generator)]

    def training_batches(
        self, batch_size: int, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """The batches of an epoch from step `start`; ranks take neighbouring slices of each global batch."""
        order = self.order(batch_size * world, seed, epoch).to(self.targets.device)
        for step in range(start, len(order)):
            batch = self.batch(order[step, rank * batch_size : (rank + 1) * batch_size])
            if self.replaced:
                drawn = np.random.SeedSequence([seed, epoch, step, rank]).generate_state(1)
                generator = torch.Generator().manual_seed(int(drawn[0]))
                batch.inputs[:, 0] = self.other_words(batch.inputs[:, 0], generator)
            yield batch

    def other_words(self, ids: Tensor, generator: torch.Generator) -> Tensor:
        """ids (B, T), some of whose words are others; marks stay where they are."""
        chosen = torch.rand(ids.shape, generator=generator).to(ids.device) < self.replaced  # (B, T)
        places = torch.randint(len(self.ids), ids.shape, generator=generator).to(ids.device)
        others = self.ids[places].long()  # (B, T)
        marks = torch.tensor(self.marks, device=ids.device)
        return torch.where(chosen & ~torch.isin(ids, marks) & ~torch.isin(others, marks), others, ids)
