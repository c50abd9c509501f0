"""Made-up inputs of a network, to time it on."""

from collections.abc import Sequence

import numpy as np

from onebit.errors import UserError
from onebit.runtime.inputs import KINDS, MASK, Floats, Image, Input, Tokens


def made_up(
    inputs: Sequence[Input], batch: int, random: np.random.Generator, length: int | None = None
) -> list[np.ndarray]:
    """A value for each input, in order, as a call takes them: images as noise that is normalised, floats as noise, tokens as any
    numbers; of texts every token is there, and of the first text.

    length   of tokens, where it is not the network's own. Raises UserError where there are none
    """
    if length is not None and not any(isinstance(source, Tokens) for source in inputs):
        raise UserError(f"a length of {length} is of texts and other tokens; the network takes none")
    return [_one(source, batch, random, length) for source in inputs]


def _one(source: Input, batch: int, random: np.random.Generator, length: int | None) -> np.ndarray:
    if isinstance(source, Image | Floats):
        return random.standard_normal((batch, *source.shape), np.float32)
    shape = (batch, length or source.length)
    if source.holds in (KINDS, MASK):
        return np.full(shape, source.holds == MASK, np.int32)
    return random.integers(0, source.count, shape, np.int32)
