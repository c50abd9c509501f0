"""Texts as networks take them, for `onebit run`, `Model.predict` and evaluation: needs nothing but numpy.

A text, or a pair, runs with as many tokens as it has: of a batch, those of one length together. Where a network takes no
such length, they are filled up to the one it was made for.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from onebit.errors import UserError
from onebit.runtime.answers import Frame
from onebit.runtime.contents import cut, decoded, lines_of
from onebit.runtime.fields import show
from onebit.runtime.inputs import KINDS, MASK, PIECES
from onebit.runtime.network import Network
from onebit.runtime.word_pieces import Encoded

SHORTEST = 3  # tokens: [CLS], something and [SEP]
MANY, TOGETHER = 1024, 64  # read at a time, of which so many of one length run in a call
BETWEEN = "\t"  # the two texts of a pair
STANDARD = "-"  # in place of a file's name


class Line(NamedTuple):
    """A text as a line, with a tab between the two of a pair; and where it stands, for messages."""

    path: str
    where: str


def find(given: Sequence[Any]) -> list[Line]:
    """The lines, as they are."""
    return [line if isinstance(line, Line) else Line(line, "the text") for line in given]


def lines(path: str) -> list[Line]:
    """The texts of a file, or of standard input ("-"), one a line. Raises UserError for what cannot be read or is no text."""
    if path == STANDARD:
        given = cut(decoded(sys.stdin.buffer.read(), "standard input"))
        return [Line(text, f"standard input, line {number},") for number, text in enumerate(given, 1)]
    if not path:
        raise UserError("the name of the file of texts is empty; give a file with a text a line")
    return [Line(text, f"{path}, line {number},") for number, text in enumerate(lines_of(Path(path)), 1)]


def check_model(model: Network) -> None:
    """Refuse a network whose texts would hold nothing."""
    if (length := model.texts.length) < SHORTEST:
        raise UserError(f"{model.name} takes {length} tokens, too few for a text; pack it for at least {SHORTEST}")


def opened(line: Line, model: Network) -> Encoded:
    """`seen`, of a line. Raises UserError, which starts with where it stands."""
    parts = line.path.split(BETWEEN)
    if len(parts) > 2:
        raise UserError(f"{line.where} has {len(parts)} texts with tabs between them; give one, or a pair")
    return encoded((parts[0], parts[1] if len(parts) == 2 else None), model, line.where)


def seen(source: Any, model: Network) -> Encoded:
    """A text, or a pair, as the network takes it. Raises UserError for anything else, and where it holds no word."""
    check_model(model)
    pair = source if isinstance(source, tuple) else (source,)
    if not all(isinstance(part, str) for part in pair):
        raise UserError(
            f"{model.name} takes texts: a str, a pair as a tuple of two, or a list of these, got {kind(source)}"
        )
    if len(pair) not in (1, 2):
        raise UserError(f"a pair is a tuple of two texts, got {len(pair)}; give several texts as a list")
    return encoded((*pair, None)[:2], model, "the text")


def kind(source: Any) -> str:
    return f"a tuple with {show(source)}" if isinstance(source, tuple) else type(source).__name__


def encoded(pair: tuple[str, str | None], model: Network, where: str) -> Encoded:
    reader = model.texts
    names = ("is empty", "has an empty second text") if pair[1] is not None else ("is empty",)
    for part, empty in zip(pair, names):
        if part is not None and not part.strip():
            raise UserError(f"{where} {empty}; give one with words")
    try:
        found = reader.pieces.encode(*pair, reader.length)
    except UserError as error:
        raise UserError(f"{where} holds what is no text: {error}") from error
    if found.empty:
        raise UserError(f"{where} holds no word, but characters that nobody sees; give one with words")
    return found


def groups(inputs: Sequence[Encoded]) -> list[list[int]]:
    """Numbers of those that run together: of one length, the shortest first."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for number, source in enumerate(inputs):
        by_length[len(source.ids)].append(number)
    return [
        numbers[start : start + TOGETHER]
        for _, numbers in sorted(by_length.items())
        for start in range(0, len(numbers), TOGETHER)
    ]


def given(inputs: Sequence[Encoded], model: Network) -> list[np.ndarray]:
    """Texts of one length as a call takes them: int32 (B, T) for each input of the network, in order."""
    reader = model.texts
    own = len(inputs[0].ids)
    length = own if model.fits(*[(own, 1, 1)] * len(reader.holds)) else reader.length
    ids = np.full((len(inputs), length), reader.padding, np.int32)
    ids[:, :own] = [source.ids for source in inputs]
    places = np.arange(length)  # (T,)
    there = places < own
    seconds = np.array([source.second for source in inputs])[:, None]  # (B, 1)
    values = {
        PIECES: ids,
        KINDS: ((places >= seconds) & there).astype(np.int32),
        MASK: np.broadcast_to(there, ids.shape).astype(np.int32),
    }
    return [values[what] for what in reader.holds]


def frame(source: Encoded) -> Frame:
    """Of pictures alone."""
    return 0.0, 0.0, 0.0, 0.0


def said(shortened: int, count: int, length: int) -> str:
    """How many of some texts were cut, in words."""
    several = shortened > 1
    texts = f"{shortened} of {count} texts {'have' if several else 'has'}" if count > 1 else "the text has"
    return f"{texts} more than {length} tokens and {'are' if several else 'is'} cut there"
