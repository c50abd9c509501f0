"""A table's records as Markdown, as CSV, and as text for a terminal. Nothing is computed here that the records do not have."""

import csv
import io
from collections.abc import Sequence
from itertools import groupby

from onebit.reproduction.columns import COLUMNS, NUMBERS, Column, filled, first_score
from onebit.reproduction.lines import BUSY, Line, lines_of
from onebit.reproduction.records import Record
from onebit.reproduction.table import ResultTable

UNITS = f"""Accuracy: of the test examples after the last epoch, mean ± standard deviation over n seeds. "not run": nobody has run it yet. A
paper's number stands beside the epochs that it took ("?": not stated), ours beside our own: numbers after different epochs do not
compare methods. Calibration error: expected, of 15 bins, in the engine. Corrupted: mean accuracy in the engine over
ImageNet-C's fifteen corruptions at severity 3, on 500 of the test pictures. Bytes of the packed file, and of the same parameters in
float32; ms: median for one input on one thread (*: while other processes used more than {BUSY:g} % of a processor)."""

BOXES = """AP50: COCO's average precision of the test images' boxes at an IoU of 0.5, AP its mean over IoUs of 0.5 to 0.95, both after the last
epoch. Bytes and ms as below; ms without the boxes' suppression.

"""


def markdown(table: ResultTable, records: Sequence[Record]) -> str:
    lines = lines_of(table, records)
    text = f"# {table.title}\n\n{table.about.strip()}\n\n" if table.about else f"# {table.title}\n\n"
    text += f"    onebit reproduce {table.name}{seeds_option(records)}\n\n{boxes(lines)}{UNITS}\n"
    current, earlier = [x for x in lines if not x.earlier], [x for x in lines if x.earlier]
    for group, part in groupby(current, key=lambda line: line.row.group):
        text += f"\n## {group}\n" if group else ""
        text += f"\n{pipes(list(part))}"
    if earlier:
        columns = [*COLUMNS[:1], Column("settings then", lambda line: line.earlier), *COLUMNS[1:]]
        text += f"\n## Earlier settings\n\nTrained before their rows were changed.\n\n{pipes(earlier, columns)}"
    if notes := [f"- {line.row.label}: {line.row.note}" for line in unique_rows(current) if line.row.note]:
        text += "\n" + "\n".join(notes) + "\n"
    if sources := sorted({line.row.paper.source for line in lines if line.row.paper}):
        text += f"\nThe papers' numbers: {'; '.join(sources)}.\n"
    if origins := machines(records):
        text += "\nTrained on:\n\n" + "\n".join(f"- {origin}" for origin in origins) + "\n"
    return text


def boxes(lines: Sequence[Line]) -> str:
    """What the scores of detectors are, where there are some."""
    return BOXES if any(first_score(line).startswith(("map", "voc")) for line in lines) else ""


def unique_rows(lines: Sequence[Line]) -> list[Line]:
    return [line for index, line in enumerate(lines) if line.row.name not in {x.row.name for x in lines[:index]}]


def pipes(lines: Sequence[Line], columns: Sequence[Column] = COLUMNS) -> str:
    """A table of Markdown."""
    chosen = filled(columns, lines)
    rows = [[column.title for column in chosen], ["---"] * len(chosen)]
    rows += [[column.cell(line).replace("|", "\\|") for column in chosen] for line in lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def seeds_option(records: Sequence[Record]) -> str:
    seeds = sorted({record["seed"] for record in records})
    return f" --seeds {','.join(map(str, seeds))}" if seeds and seeds != [0] else ""


def machines(records: Sequence[Record]) -> list[str]:
    """Where the records come from: processor, PyTorch, threads and precision, source, dates."""
    found: dict[str, list[Record]] = {}
    for record in records:
        trained, machine, source = record["trained"], record["machine"], record["source"]
        revision = "an installed package" if source is None else str(source.get("revision", "?"))[:10]
        dirty = " with changes" if source and source.get("dirty") else ""
        where = ", ".join(machine.get("gpus") or []) if str(trained.get("device", "cpu")) != "cpu" else ""
        words = (
            f"{where or machine.get('cpu') or '?'}, {trained.get('threads')} threads, {trained.get('precision') or 'precision auto'}, "
            f"PyTorch {record['versions'].get('torch')}, source {revision}{dirty}"
        ).replace(" 1 threads", " 1 thread")
        found.setdefault(words, []).append(record)
    result = []
    for words, part in found.items():
        dates = sorted({record["trained"]["date"] for record in part})
        runs = f"{len(part)} runs" if len(part) > 1 else "1 run"
        result.append(f"{words}: {runs}, {dates[0]}{f' to {dates[-1]}' if len(dates) > 1 else ''}")
    return result


def comma_separated(table: ResultTable, records: Sequence[Record]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(NUMBERS)
    for line in lines_of(table, records):
        writer.writerow(["" if (value := number(line)) is None else value for number in NUMBERS.values()])
    return text.getvalue()


def terminal(table: ResultTable, records: Sequence[Record], only: Sequence[str] = ()) -> str:
    """Columns aligned by spaces; of the rows `only`, where there are any."""
    lines = [line for line in lines_of(table, records) if not line.earlier and (not only or line.row.name in only)]
    names = Column("row", lambda line: line.row.name)  # as --only takes them
    chosen = [names, *filled([column for column in COLUMNS if column.short], lines)]
    rows = [[column.title for column in chosen], *([column.cell(line) for column in chosen] for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([table.title, "", *text])
