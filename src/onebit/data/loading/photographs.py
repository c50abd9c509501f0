"""Photographs on disk behind the interface of MemorySet: decoded and augmented by worker processes.

A row of the data table gives the samples (encoded images and what is known of them) and says what becomes of one
(`Preparation`), everything else is here. The order of an epoch depends on (seed, epoch) alone, the random numbers of an image on (seed, epoch, image): they are the same for any number of
workers, on any number of processes and after a resume.

A training image that cannot be decoded is reported once on standard error and replaced by the next one that can, in the
order of the set, with the augmentation that was drawn for it. More than max_corrupt of them stop the run, as does an image
that cannot be read at all. In evaluation every image counts, and the first bad one is an error.
"""

import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from onebit.data.dataset import Batch, Data, Examples, epoch_seed, evenly
from onebit.data.inputs import IMAGENET_MEAN, IMAGENET_STD, Images, Normalization
from onebit.data.loading.augmentation import resize_of
from onebit.data.loading.preparation import ClassPreparation, Cut, Preparation, Prepared
from onebit.data.loading.seeding import seeded
from onebit.data.loading.shards import shuffled
from onebit.data.loading.workers import outlive_signals, received
from onebit.data.options import LoadOptions
from onebit.errors import UserError
from onebit.machine import processor
from onebit.runtime.decoding import decode


class Samples(Protocol):
    """Encoded images on disk. Workers hold copies, so long lists belong in arrays, which are shared between processes.

    root: folder of the set
    shards: images per file of the set, in their order; one number where images have a file each
    """

    root: Path
    shards: list[int]

    def __len__(self) -> int: ...

    def known(self, index: int) -> Any:
        """What is known of the image, as the set's preparation takes it: for classes the number of its class."""
        ...

    def name(self, index: int) -> str: ...

    def read(self, index: int) -> bytes:
        """The encoded image. Raises OSError."""
        ...


class Labelled:
    """Samples of which a label is known: labels int64 (N,)."""

    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def known(self, index: int) -> int:
        return int(self.labels[index])


class Some:
    """Those of the samples at `indices` (N,)."""

    def __init__(self, samples: Samples, indices: np.ndarray):
        self.samples, self.indices = samples, indices
        self.root = samples.root
        self.shards = [len(indices)]

    def __len__(self) -> int:
        return len(self.indices)

    def known(self, index: int) -> Any:
        return self.samples.known(int(self.indices[index]))

    def name(self, index: int) -> str:
        return self.samples.name(int(self.indices[index]))

    def read(self, index: int) -> bytes:
        return self.samples.read(int(self.indices[index]))


class Request(NamedTuple):
    """Images for one batch: indices int64 (B,), and the seed of their augmentation, None in evaluation."""

    indices: np.ndarray
    seed: int | None


class Decoded(NamedTuple):
    """images uint8 (B, 3, H, W), their targets as the preparation joins them, lighting shifts float32 (B, 3); or what went
    wrong."""

    images: Tensor
    targets: Any
    shifts: Tensor | None
    corrupt: dict[int, str]  # reason by index
    error: str = ""


class Decoder(Dataset[Decoded]):
    """Request -> Decoded, in a worker process. Errors are part of the answer: raised ones would arrive as tracebacks."""

    def __init__(self, samples: Samples, options: LoadOptions, preparation: Preparation):
        self.samples, self.options, self.preparation = samples, options, preparation

    def __getitem__(self, request: Request) -> Decoded:
        corrupt: dict[int, str] = {}
        try:
            prepared = [self.prepared(index, request.seed, corrupt) for index in request.indices.tolist()]
        except UserError as error:
            return Decoded(torch.empty(0), None, None, corrupt, str(error))
        images, targets, shifts = zip(*prepared, strict=True)
        shifted = None if shifts[0] is None else torch.stack(shifts)
        return Decoded(torch.stack(images), self.preparation.join(targets), shifted, corrupt)

    def prepared(self, index: int, seed: int | None, corrupt: dict[int, str]) -> Prepared:
        """The image at index, augmented where there is a seed; in its place another one, if it is `corrupt`."""
        picture, used = self.picture(index, corrupt if seed is not None else None)
        if seed is None:
            return self.preparation.evaluation(picture, self.samples.known(used), used)
        with seeded(seed, index):
            return self.preparation.training(picture, self.samples.known(used), used)

    def picture(self, index: int, corrupt: dict[int, str] | None) -> tuple[Any, int]:
        """The image at index or, where `corrupt` collects those that fail, the first good one after it; and its index."""
        while True:
            content = self.read(index)
            try:
                return decode(content), index
            except ValueError as error:
                name = self.samples.name(index)
                if corrupt is None:
                    raise UserError(f"{name} cannot be decoded ({error}); replace or remove it") from error
                corrupt[index] = str(error)
                if len(corrupt) > self.options.max_corrupt:
                    raise UserError(self.too_many(corrupt)) from error
                if len(corrupt) == len(self.samples):
                    raise UserError(f"{self.samples.root}: none of the training images can be decoded") from error
                index = (index + 1) % len(self.samples)

    def read(self, index: int) -> bytes:
        try:
            return self.samples.read(index)
        except OSError as error:
            root = self.samples.root
            if not root.is_dir():
                raise UserError(f"the data folder {root} is gone; bring it back, and continue with --resume") from error
            raise UserError(
                f"{self.samples.name(index)} cannot be read ({error.strerror or error}), though it was there at the start; "
                f"bring it back, and continue with --resume"
            ) from error

    def too_many(self, corrupt: Iterable[int]) -> str:
        names = [self.samples.name(index) for index in sorted(corrupt)]
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        return (
            f"more than max_corrupt = {self.options.max_corrupt} training images cannot be decoded: "
            f"{', '.join(names[:20])}{more}; replace or remove them, or raise max_corrupt"
        )


class Photographs(Examples):
    """A set of samples. Worker processes live from the first batch on; each batch is decoded by one of them.

    Args:
        samples: encoded images and what is known of them
        options: image size, workers, augmentation, max_corrupt
        normalization: of the pixels, on the device that trains
        preparation: class of what becomes of an image
        cut: height, width and `resize` of evaluation (`pictures.cut`), if they do not follow from the image size
    """

    def __init__(
        self,
        samples: Samples,
        options: LoadOptions,
        normalization: Normalization,
        preparation: Callable[[LoadOptions, Cut | None], Preparation] = ClassPreparation,
        cut: Cut | None = None,
    ):
        self.samples, self.options, self.normalization = samples, options, normalization
        self.preparation, self.cut_to = preparation, cut
        self.decoder = Decoder(samples, options, preparation(options, cut))
        self.workers = min(options.workers, processor.count())
        self.device = torch.device("cpu")
        self.reasons: dict[int, str] = {}  # why a training image could not be decoded
        self.idle: list[tuple[DataLoader[Any], list[Request]]] = []
        weakref.finalize(self, self.idle.clear)  # the garbage collector alone would wait 5 s for each process

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def corrupt(self) -> list[str]:
        """Names of the training images that this process met and could not decode."""
        return [self.samples.name(index) for index in self.reasons]

    def cut(self, height: int, width: int, resize: int | None) -> "Photographs":
        return Photographs(self.samples, self.options, self.normalization, self.preparation, (height, width, resize))

    def some(self, count: int) -> "Photographs":
        samples = Some(self.samples, evenly(len(self), count))
        return Photographs(samples, self.options, self.normalization, self.preparation, self.cut_to)

    def to(self, device: torch.device) -> "Photographs":
        self.device = device
        self.idle.clear()  # whether batches are pinned for the way to the device is settled with the workers
        return self

    def loader(self) -> tuple[DataLoader[Any], list[Request]]:
        """A loader with its processes, and the list of what it loads, for one iteration at a time."""
        requests: list[Request] = []
        loader: DataLoader[Any] = DataLoader(
            self.decoder,
            batch_size=None,
            sampler=requests,
            collate_fn=_as_it_is,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            worker_init_fn=outlive_signals,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else each epoch would draw from the generator of the training
        )
        return loader, requests

    def batches(self, wanted: list[Request]) -> Iterator[Batch]:
        loader, requests = self.idle.pop() if self.idle else self.loader()
        requests[:] = wanted
        try:
            for decoded in received(loader):
                self.report(decoded)
                yield self.batch(decoded)
        finally:
            self.idle.append((loader, requests))

    def report(self, decoded: Decoded) -> None:
        """Name new corrupt images on standard error; raise the worker's error, or that they are too many by now."""
        new = {index: reason for index, reason in decoded.corrupt.items() if index not in self.reasons}
        self.reasons |= new
        if len(self.reasons) > self.options.max_corrupt:
            raise UserError(self.decoder.too_many(self.reasons))
        if decoded.error:
            raise UserError(decoded.error)
        for index, reason in new.items():
            text = f"{self.samples.name(index)} cannot be decoded ({reason}); another one takes its place"
            print(f"onebit: warning: {text}", file=sys.stderr)

    def batch(self, decoded: Decoded) -> Batch:
        images = self.normalization(decoded.images.to(self.device, non_blocking=True))
        if decoded.shifts is not None:  # (x + shift - mean) / std = (x - mean) / std + shift / std
            shifts = decoded.shifts / torch.tensor(self.normalization.std)
            images += shifts.to(self.device, non_blocking=True)[:, :, None, None]
        return Batch(images, self.decoder.preparation.targets(decoded.targets, self.device))

    def evaluation_batches(self, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """All images in order, without augmentation; of several ranks, each gets every world-th batch."""
        indices, starts = np.arange(len(self)), range(rank * batch_size, len(self), world * batch_size)
        return self.batches([Request(indices[start : start + batch_size], None) for start in starts])

    def training_batches(
        self, batch_size: int, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """The augmented batches of an epoch from step `start`; ranks take neighbouring slices of each global batch."""
        generator = torch.Generator().manual_seed(epoch_seed(seed, epoch))
        order = shuffled(self.samples.shards, generator).numpy()
        steps = self.training_steps(batch_size, world)
        mine = order[: steps * batch_size * world].reshape(steps, world, batch_size)[start:, rank]
        return self.batches([Request(indices, epoch_seed(seed, epoch)) for indices in mine])


def _as_it_is(decoded: Any) -> Any:
    return decoded


def photographs(name: str, train: Samples, test: Samples, labels: tuple[str, ...], options: LoadOptions) -> Data:
    """The data set of these samples, at the image size of the options, normalised as ImageNet."""
    normalization = Normalization(IMAGENET_MEAN, IMAGENET_STD)
    size = options.image_size
    sets = [Photographs(samples, options, normalization) for samples in (train, test)]
    return Data(name, sets[0], sets[1], Images(3, size, normalization, resize_of(size)), labels)
