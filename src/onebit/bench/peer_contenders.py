"""Peers as contenders of `onebit bench`: each one's answers are checked, before anything is timed, against eager PyTorch's."""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import nn

from onebit import models, runtime
from onebit.bench.contenders import MAX_ISA, Contender, check
from onebit.bench.outputs import joined, joined_tensors
from onebit.bench.peers import PEERS
from onebit.bench.peers.peer import PACKED, Call, FilePeer, Peer
from onebit.errors import UserError

SETTLING_INPUTS = 32  # for the statistics of the parent's batch norms
# Correlation of int8's logits with float's: below CLOSE is a warning, below UNRELATED an error.
CLOSE, UNRELATED = 0.9, 0.5


class Joined(nn.Module):
    """A network whose outputs are joined to one, as peers convert it: (B, C, H, W) -> (B, N)."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return joined_tensors(self.network(x))


def parent_of(name: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The full-precision network `name` of the table, random weights, for images (C, H, W); UserError for another name."""
    if name not in models.MODELS or shape[1] != shape[2]:
        raise UserError(
            f"--peers needs a model of the table; the file holds {name!r} for images of {shape[1]} × {shape[2]}, "
            f"the table {', '.join(sorted(models.MODELS))}, for square ones"
        )
    return models.create(name, "float", classes=classes, in_channels=shape[0], image_size=shape[1])


def checked_peers(
    names: Sequence[str],
    path: str,
    parent: nn.Module,
    samples: Sequence[np.ndarray],
    threads: Sequence[int],
    folder: str,
) -> tuple[list[Contender], list[str]]:
    """(contenders, warnings), every answer checked. Changes the statistics of the parent's batch norms.

    names are in PEERS; path is the packed file of the parent's binary network; samples are normalised batches (B, C, H, W),
    float32, of which the first is timed. Raises UserError where an answer is wrong.
    """
    parent = Joined(parent)
    settle(parent, samples)
    with torch.no_grad():
        expected = [parent(torch.from_numpy(inputs)).numpy() for inputs in samples]
    packed = runtime.load(path)
    truths = {PACKED: [joined(packed(inputs)) for inputs in samples]}
    found: list[Contender] = []
    doubts = []
    limit = os.environ.get(MAX_ISA)
    with silence():
        for name in names:
            peer = PEERS[name](parent, samples, folder)
            doubts += add_packed(name, peer, path, samples, folder)
            for count in threads:
                torch.set_num_threads(count)
                for precision, call in peer.sessions(count).items():
                    title = f"{name} ({precision}, threads: {count})"
                    doubts += verify(title, call, samples, truths.get(precision, expected), precision)
                    isa = f"max {limit}" if limit and peer.onednn else "auto"
                    row = {"engine": name, "precision": precision, "isa": isa, "threads": count}
                    found.append(Contender(row, partial(call, samples[0])))
    return found, doubts


def add_packed(name: str, peer: Peer, path: str, samples: Sequence[np.ndarray], folder: str) -> list[str]:
    """Adds the packed network to the peer's files if it can run it; returns a warning if it has 1-bit operators and cannot."""
    try:
        if isinstance(peer, FilePeer):
            peer.add_packed(path, len(samples[0]), folder)
    except UserError as error:
        return [f"{name}: no 1-bit row: {error}"]
    return []


def verify(
    name: str, call: Call, samples: Sequence[np.ndarray], expected: Sequence[np.ndarray], precision: str
) -> list[str]:
    """Raises UserError where the answers are not those of eager PyTorch, or of the packed network, whose signs may flip where
    its real part is computed in bf16; returns a warning where they are far from them.

    Not float32: the cosine of both sets of logits, each less its mean over the images, so that what is the same for all images,
    such as the last layer's bias, proves nothing.
    """
    answers = [call(inputs) for inputs in samples]
    if precision == "float32":
        for answer, truth in zip(answers, expected, strict=True):
            check(name, answer, truth)
        return []
    ours, theirs = (x - x.mean(0) for x in (np.concatenate(answers), np.concatenate(expected)))
    if ours.shape != theirs.shape:
        raise UserError(f"{name} answers with shape {ours.shape}, not {theirs.shape}; no time is reported")
    cosine = float((ours * theirs).sum() / max(np.linalg.norm(ours) * np.linalg.norm(theirs), 1e-12))
    model = "ours" if precision == PACKED else "float's"
    if not cosine >= UNRELATED:
        raise UserError(f"{name}: its answers have correlation {cosine:.2f} with {model}; no time is reported")
    return (
        [] if cosine > CLOSE else [f"{name}: its answers have correlation {cosine:.2f} with {model} (random weights)"]
    )


def settle(parent: nn.Module, samples: Sequence[np.ndarray]) -> None:
    """Statistics of the batch norms from the samples, as training leaves them: else int8 has ranges to cover that grow
    from layer to layer, and answers little of what float does."""
    for module in parent.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        parent.train()(torch.from_numpy(np.concatenate(samples)[:SETTLING_INPUTS]))
    parent.eval()


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Without the packages' progress bars, which would spoil --json, and their own deprecations, no matter to our user."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
