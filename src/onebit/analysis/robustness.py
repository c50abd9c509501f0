"""Accuracy on corrupted test pictures: of each corruption and severity, their means, and what is left of the clean accuracy.

With acc(c, s) the accuracy in percent under corruption c at severity s, the mean over the severities and then over the corruptions
is what Hendrycks & Dietterich 2019 report 100 minus of, without their division by AlexNet's errors:

    mean = 1/|C| sum_c 1/|S| sum_s acc(c, s)        relative = 100 mean / acc(clean)
"""

import itertools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from onebit.analysis import corruptions
from onebit.analysis.corruptions import Condition
from onebit.analysis.subject import Subject, adapted, checked
from onebit.data.dataset import Batch, evenly
from onebit.data.inputs import images
from onebit.data.loading.workers import deaths_explained
from onebit.errors import UserError
from onebit.machine import processor
from onebit.tasks.score import Score

FEW = 2000  # corrupted pictures, for which more processes would take longer to start than to work


@deaths_explained()
def robustness(
    subject: Subject,
    names: Sequence[str] = ("common",),
    severities: Sequence[int] = corruptions.SEVERITIES,
    *,
    seed: int = 0,
    batch_size: int = 100,
    limit: int | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """The accuracies of a classifier on its test pictures, or on `limit` of them, evenly spaced, under `names` of
    `corruptions.SETS` or `corruptions.NAMES`.

    threads   processes that corrupt pictures, at most, and by default, one for each CPU; the result does not depend on them
    progress  is told the corrupted pictures that are done, and of how many

    Returns {"accuracy": {name: {severity: percent}}, "means": {name: percent}, "mean", "clean", "relative" in percent,
    "severities", "seed", "examples", "of_examples"}. Raises UserError for pictures that cannot be corrupted.
    """
    if subject.task.name != "classification":
        raise UserError(f"--corruptions is for the task classification, not for {subject.task.name}")
    names = corruptions.chosen(names)
    inputs = images(subject.ours, subject.path)
    shape = (inputs.channels, *next(subject.test.some(1).evaluation_batches(1)).inputs.shape[2:])
    corruptions.check(names, severities, shape)
    total = len(subject.test)
    indices = evenly(
        total, total if limit is None else limit
    )  # in the whole set: what a picture's random numbers come from
    subject = subject.limited(limit)
    conditions = list(itertools.product(names, severities))
    clean = Score(subject.task, torch.device("cpu"))
    scores = {condition: Score(subject.task, torch.device("cpu")) for condition in conditions}
    done, whole = 0, len(indices) * len(conditions)
    with corruptors(whole, threads) as corrupted, torch.inference_mode():
        for number, batch in enumerate(subject.test.evaluation_batches(batch_size)):
            update(clean, subject, batch)
            pictures = inputs.normalization.pixels(batch.inputs).permute(0, 2, 3, 1).numpy()  # (B, H, W, C)
            places = indices[number * batch_size : number * batch_size + len(batch)]
            for condition, found in zip(conditions, corrupted(pictures, conditions, seed, places), strict=True):
                corrupt = inputs.normalization(torch.from_numpy(found).permute(0, 3, 1, 2))  # (B, C, H, W)
                update(scores[condition], subject, Batch(corrupt, batch.targets))
                done += len(batch)
                progress(done, whole)
    accuracy = {name: {s: accuracy_of(scores[name, s]) for s in severities} for name in names}
    means = {name: float(np.mean(list(of.values()))) for name, of in accuracy.items()}
    mean, best = float(np.mean(list(means.values()))), accuracy_of(clean)
    return {
        "accuracy": {name: {str(s): round(value, 4) for s, value in of.items()} for name, of in accuracy.items()},
        "means": {name: round(value, 4) for name, value in means.items()},
        "mean": round(mean, 4),
        "clean": round(best, 4),
        "relative": round(100 * mean / best, 4) if best else None,
        "severities": list(severities),
        "seed": seed,
        "examples": len(indices),
        "of_examples": total,
    }


def update(score: Score, subject: Subject, batch: Batch) -> None:
    batches = adapted([batch], subject.ours, subject.theirs)
    for given in checked(batches, subject.network, subject.task, subject.path):
        score.update(subject.network(given.inputs), given.targets)


def accuracy_of(score: Score) -> float:
    return score.compute()["accuracy"]


Corruptor = Callable[[np.ndarray, Sequence[Condition], int, np.ndarray], Iterator[np.ndarray]]


@contextmanager
def corruptors(pictures: int, threads: int | None) -> Iterator[Corruptor]:
    """A function of pictures, conditions, seed and the pictures' indices that gives the pictures under each condition, in
    order; it works in processes of its own where there is enough to do for them."""
    corruptions.copy_of_library()  # what is not installed is said here, and once
    processes = processor.count() if threads is None else processor.usable(threads)
    if processes == 1 or pictures < FEW:
        yield lambda given, conditions, seed, places: (
            corruptions.corrupt_all(given, c, seed, places) for c in conditions
        )
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    pool = ProcessPoolExecutor(processes, context, initializer=corruptions.prepare)

    def spread(
        given: np.ndarray, conditions: Sequence[Condition], seed: int, places: np.ndarray
    ) -> Iterator[np.ndarray]:
        yield from pool.map(corruptions.corrupt_all, *zip(*[(given, c, seed, places) for c in conditions], strict=True))

    try:
        yield spread
    except BrokenProcessPool as error:
        raise UserError("a process that corrupts pictures died; where memory is short, lower --threads") from error
    finally:
        pool.shutdown(cancel_futures=True)
