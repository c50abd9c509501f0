"""The processes that decode images: which signals they heed, and what is said when one of them dies."""

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from onebit.errors import UserError

T = TypeVar("T")
GRACE = 60  # seconds that a worker told to end still serves a training, for the step in progress and its checkpoint


def outlive_signals(worker: int) -> None:
    """Signals are for the training, which ends its workers itself (worker_init_fn of a DataLoader).

    Ctrl-C reaches a process group: a worker makes one of its own. SLURM sends SIGTERM to every process of a job, some of
    them before the training has saved: a worker that died at once would end it with an error in the middle of a step.
    """
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, _end_later)


def _end_later(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends the process
    signal.alarm(GRACE)


@contextmanager
def deaths_explained() -> Iterator[None]:
    """PyTorch raises a RuntimeError wherever the training happens to be when a worker dies: a UserError here."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise death(error) from error


def received(loader: Iterable[T]) -> Iterator[T]:
    """What a loader's workers send. Raises UserError where one dies while its answer is fetched, of which PyTorch says only
    that a connection broke; workers send their own errors as answers."""
    answers = iter(loader)
    while True:
        try:
            answer = next(answers)
        except StopIteration:
            return
        except (OSError, EOFError) as error:
            raise death(error) from error
        yield answer


def death(error: Exception) -> UserError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return UserError(
        f"a process that decodes images died ({reason}); where memory is short, lower workers or batch_size; "
        f"a training continues with --resume"
    )
