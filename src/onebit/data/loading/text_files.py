"""Files of text: UTF-8 or one line that says where it is not, tables of tab-separated cells, and vocabularies."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from onebit.errors import UserError
from onebit.runtime.contents import lines_of
from onebit.runtime.vocabulary import SPECIAL

MOST = 2**20  # word pieces


class Row(NamedTuple):
    line: int  # from 1
    cells: list[str]


def table(path: Path, names: Sequence[str | int], where: str, short: list[int] | None = None) -> Iterator[Row]:
    """The named cells of each row of a tab-separated file, quotes as they are: columns by the names in its first line, or by
    number where it has none.

    short: receives the lines of rows that end too early, which are then left out. Raises UserError for a column that is missing.
    """
    lines = lines_of(path, where)
    header = isinstance(names[0], str)
    columns = lines[0].split("\t") if header else []
    if header and (missing := [name for name in names if name not in columns]):
        raise UserError(
            f"{where}: {path} has no column {missing[0]!r}, its first line has {', '.join(columns)[:200]}; is it another file?"
        )
    places = [columns.index(name) if isinstance(name, str) else name for name in names]
    for number, line in enumerate(lines[header:], 1 + header):
        cells = line.split("\t")
        if len(cells) <= max(places):
            if short is None:
                raise UserError(
                    f"{where}: {path}, line {number}, has {len(cells)} columns of the {max(places) + 1} that are needed; "
                    "complete it, or leave it out"
                )
            short.append(number)
            continue
        yield Row(number, [cells[place] for place in places])


def vocabulary(path: Path, where: str) -> tuple[str, ...]:
    """The word pieces of a file, the first one number 0. Raises UserError for an empty or repeated one, and where those are
    missing that BERT adds to texts."""
    words = [line.rstrip() for line in lines_of(path, where)]
    if len(words) > MOST:
        raise UserError(f"{where}: {path} has {len(words)} lines, a vocabulary has at most {MOST}; is it another file?")
    seen: dict[str, int] = {}
    for number, word in enumerate(words, 1):
        if not word:
            raise UserError(f"{where}: {path}, line {number}, is empty; a vocabulary has a word piece a line")
        if word in seen:
            raise UserError(f"{where}: {path}, line {number}: {word!r} is on line {seen[word]}, too; leave one out")
        seen[word] = number
    if missing := [word for word in SPECIAL if word not in seen]:
        raise UserError(f"{where}: {path} has no line {missing[0]}; give the vocabulary of a BERT, such as vocab.txt")
    return tuple(words)
