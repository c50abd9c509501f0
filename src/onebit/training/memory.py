"""Where a training runs out of memory: one line that names the keys that need less."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from onebit.errors import UserError
from onebit.training.recipe import Recipe

WORDS = ("not enough memory", "out of memory", "cannot allocate memory", "can't allocate memory", "bad_alloc")


@contextmanager
def shortage_explained(recipe: Recipe) -> Iterator[None]:
    """Inside, an allocation that fails, on a device or beside it, becomes a UserError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        is_one = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not is_one and not any(word in str(error).lower() for word in WORDS):
            raise
        raise UserError(
            f"not enough memory for batch_size = {recipe.batch_size} in {recipe.accumulate} parts; choose a larger accumulate "
            "or a smaller batch_size, and continue with --resume where a checkpoint was saved"
        ) from error
