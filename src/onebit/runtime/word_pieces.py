"""Texts as numbers of word pieces, as BERT's tokenizer finds them (Devlin et al., 2019, and the library `tokenizers`), without it.

    clean      NUL, U+FFFD and what is of the categories Cc, Cf and Co go out, white space becomes a space
    ideographs of Chinese stand apart
    lowercase  if the network was trained so: without accents (canonical decomposition less the marks Mn), then lower case, a
               character at a time
    words      end at spaces; each sign of punctuation is one
    pieces     of a word: from its start on the longest piece of the vocabulary, inside a word one that begins with "##". A word
               that is no sequence of pieces, or longer than MOST_LETTERS, is [UNK]

[UNK], [CLS], [SEP], [PAD] and [MASK] in a text, spelled so, are these tokens, as the library has it.

Characters are what `unicodedata` says. The library has the categories of Unicode 8 and the capitals of its own release, so that
marks, punctuation and formats that came later, of rare scripts all, stay in a word there. CHANGED are those that both know.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from onebit.errors import UserError
from onebit.runtime.vocabulary import SPECIAL

SPELLED = (*SPECIAL, "[MASK]")  # tokens, where a text has them so
MOST_LETTERS = 100  # of a word that has pieces
MOST_WORDS = 100_000  # whose pieces are remembered
CHANGED = {"\u166d": "Po", "\U000111c9": "Po", "\u1734": "Mn"}  # after Unicode 8
IDEOGRAPHS = (  # from, to
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B81F),
    (0x2B920, 0x2CEAF),  # as the library has it, from 2B920 on
    (0x2F800, 0x2FA1F),
)


class Encoded(NamedTuple):
    """A text, or a pair: [CLS] a [SEP], or [CLS] a [SEP] b [SEP].

    ids      the numbers of its pieces
    second   tokens before the second text; all where there is none
    cut      whether it was longer than allowed
    empty    whether it, or one of the two, has no pieces
    """

    ids: list[int]
    second: int
    cut: bool
    empty: bool


class Table(dict[int, str]):
    """What becomes of a character, by its number, for `str.translate`; asked once."""

    def __init__(self, change: Callable[[str], str]):
        super().__init__()
        self.change = change

    def __missing__(self, number: int) -> str:
        self[number] = found = self.change(chr(number))
        return found


def category(letter: str) -> str:
    return CHANGED.get(letter) or unicodedata.category(letter)


def cleaned(letter: str) -> str:
    if letter in "\t\n\r" or category(letter) in ("Zs", "Zl", "Zp"):
        return " "
    if letter == "\ufffd" or category(letter) in ("Cc", "Cf", "Co"):
        return ""
    return f" {letter} " if any(first <= ord(letter) <= last for first, last in IDEOGRAPHS) else letter


def apart(letter: str) -> str:
    """Punctuation between spaces: Unicode's, and what else of ASCII is no letter and no digit."""
    ascii_sign = "!" <= letter <= "~" and not letter.isalnum()
    return f" {letter} " if ascii_sign or category(letter).startswith("P") else letter


def lowered(letter: str) -> str:
    """Without accents and in lower case. A letter is decomposed by itself: of a whole text the time to put marks in order grows
    with the square of how many follow each other, and nearly all of them go out."""
    parts = unicodedata.normalize("NFD", letter)
    return "".join("".join(map(apart, part.lower())) for part in parts if category(part) != "Mn")


CLEANED, APART, LOWERED = Table(cleaned), Table(apart), Table(lowered)


class WordPieces:
    """vocabulary   the pieces, number i the i-th; [UNK], [CLS] and [SEP] among them
    lowercase    whether texts lose their capitals and accents first
    """

    def __init__(self, vocabulary: Sequence[str], lowercase: bool = True):
        self.numbers = {piece: number for number, piece in enumerate(vocabulary)}
        self.lowercase = lowercase
        self.unknown, self.first, self.last = (self.numbers[piece] for piece in ("[UNK]", "[CLS]", "[SEP]"))
        special = [re.escape(piece) for piece in SPELLED if piece in self.numbers]
        self._special = re.compile(f"({'|'.join(special)})")
        self._longest = max(map(len, vocabulary))  # letters
        self._known: dict[str, tuple[int, ...]] = {}  # words

    def encode(self, text: str, second: str | None, length: int) -> Encoded:
        """A text, or a pair, in at most `length` tokens, of pairs the longer text cut first. Raises UserError for half a
        surrogate pair, which stands for bytes that are no UTF-8."""
        room = length - 2 - (second is not None)
        found = [self.pieces(part) for part in ((text,) if second is None else (text, second))]
        shares = shared([len(part) for part in found], room)
        ids = [self.first]
        for part, share in zip(found, shares):
            ids += [*part[:share], self.last]
        cut = any(len(part) > share for part, share in zip(found, shares))
        return Encoded(ids, len(ids) if second is None else shares[0] + 2, cut, not all(found))

    def pieces(self, text: str) -> list[int]:
        """The numbers of the pieces of a text."""
        found: list[int] = []
        known = self._known
        for word in self.words(text):
            try:
                found += known[word]
            except KeyError:
                if len(known) >= MOST_WORDS:
                    known.clear()
                found += known.setdefault(word, self._split(word))
        return found

    def words(self, text: str) -> Iterator[str]:
        """The words of a text, normalised, and the tokens that are spelled out in it."""
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise UserError("the text holds half a surrogate pair, which is no character; is it UTF-8?")
        for place, part in enumerate(self._special.split(text)):
            if place % 2:
                yield part
                continue
            clean = part.translate(CLEANED)
            if self.lowercase:
                yield from clean.translate(LOWERED).split()
            else:
                yield from clean.translate(APART).split()

    def _split(self, word: str) -> tuple[int, ...]:
        if word in SPELLED and word in self.numbers:
            return (self.numbers[word],)
        if len(word) > MOST_LETTERS:
            return (self.unknown,)
        found: list[int] = []
        start = 0
        while start < len(word):
            before = "##" if start else ""
            for end in range(min(len(word), start + self._longest), start, -1):
                number = self.numbers.get(before + word[start:end])
                if number is not None:
                    break
            else:
                return (self.unknown,)
            found.append(number)
            start = end
        return tuple(found)


class TextForm(NamedTuple):
    """How a network takes texts.

    pieces   numbers of a text's word pieces
    padding  the number of [PAD]
    holds    what each of its inputs holds, in order
    length   tokens that a text has at most
    """

    pieces: WordPieces
    padding: int
    holds: tuple[str, ...]
    length: int


def shared(counts: Sequence[int], room: int) -> list[int]:
    """How many tokens of each text stay, where there is room for so many: of two, the longer one is cut down to the other's
    length, then both to halves, the longer one, or the second of equal ones, to the larger half."""
    if len(counts) == 1:
        return [min(counts[0], room)]
    if sum(counts) <= room:
        return [*counts]
    short = min(counts)
    kept = (short, room - short) if 2 * short <= room else (room // 2, room - room // 2)
    return [*kept] if counts[0] <= counts[1] else [*reversed(kept)]
