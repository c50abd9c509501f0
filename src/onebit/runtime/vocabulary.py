"""The word pieces of a file: a tensor U8 (N), the pieces as UTF-8, each followed by a line feed, in the order of their numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onebit.errors import FormatError
from onebit.runtime.fields import MAX_CHANNELS, MAX_TEXT, show

SPECIAL = ("[UNK]", "[CLS]", "[SEP]", "[PAD]")  # that every vocabulary has


def encoded(pieces: Sequence[str]) -> np.ndarray:
    """uint8 (N,) of pieces that `checked` takes."""
    return np.frombuffer("".join(f"{piece}\n" for piece in pieces).encode(), np.uint8)


def decoded(data: bytes, count: int, where: str) -> tuple[str, ...]:
    """The `count` pieces that a tensor's bytes hold. Raises FormatError."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{where} is not valid UTF-8 at byte {error.start}; pack the model again") from None
    if not text.endswith("\n"):
        raise FormatError(f"{where} must end with a line feed; pack the model again")
    return checked(split(text), count, where)


def split(text: str) -> tuple[str, ...]:
    """The pieces of a tensor's text."""
    return tuple(text[:-1].split("\n"))


def checked(pieces: Sequence[str], count: int, where: str) -> tuple[str, ...]:
    """The pieces, which must be `count` of them, each text of its own, the special ones among them. Raises FormatError."""
    if len(pieces) != count:
        raise FormatError(f"{where} has {len(pieces)} pieces for {count} tokens; give one for each")
    known = set(pieces)
    if len(known) != len(pieces):
        raise FormatError(f"{where} has the piece {show(_twice(pieces))} twice; give each once")
    if "" in known:
        raise FormatError(f"{where} has an empty piece; give each a text")
    if len(longest := max(known, key=len)) > MAX_TEXT:
        raise FormatError(f"{where} has the piece {show(longest)} of {len(longest)} characters, at most {MAX_TEXT} fit")
    if missing := [piece for piece in SPECIAL if piece not in known]:
        raise FormatError(f"{where} lacks {', '.join(missing)}; give a vocabulary of BERT's word pieces")
    return tuple(pieces)


def given(pieces: Sequence[str], count: int, where: str) -> tuple[str, ...]:
    """`checked`, of pieces from a caller, who may give what a file cannot hold. Raises FormatError."""
    for piece in pieces:
        if not isinstance(piece, str) or "\n" in piece or (not piece.isascii() and not _unicode(piece)):
            raise FormatError(f"{where} has the piece {show(piece)}, which is no line of text; give others")
    found = checked(pieces, count, where)
    if sum(len(piece.encode()) + 1 for piece in found) > MAX_CHANNELS:
        raise FormatError(f"{where} has more than {MAX_CHANNELS} bytes; give a smaller one")
    return found


def _twice(pieces: Sequence[str]) -> str:
    seen: set[str] = set()
    for piece in pieces:
        if piece in seen:
            return piece
        seen.add(piece)
    raise AssertionError("no piece comes twice")


def _unicode(piece: str) -> bool:
    """Whether it can be encoded: half a surrogate pair cannot."""
    try:
        piece.encode()
    except UnicodeEncodeError:
        return False
    return True
