"""`onebit run`: what a packed network answers to files, line by line as the answers come."""

import argparse
import csv
import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from onebit.cli.arguments import add_engine, add_model, fraction, positive, refuse, verb
from onebit.cli.output import one_line, printable, show, usable_threads, warn
from onebit.errors import Incomplete

if TYPE_CHECKING:
    from onebit.runtime import Model
    from onebit.runtime.answers import Answer, Asked, Kind

DETAILS = """Prints the best labels and their probabilities, or a detector's boxes, a line for each file as it is answered:
  onebit run cifar.safetensors cat.png photos/ --top 3
  onebit run cifar.safetensors photos/ --format csv > answers.csv
  onebit run zoo:NAME cat.png                                       a network that comes with onebit
  onebit run detector.safetensors photos/ --draw drawn --threshold 0.6
Folders are searched with their subfolders, without hidden files. Files that cannot be read are named on standard
error; the others are answered, and the exit code is 2. --json prints one document at the end, with both.
Boxes are left, top, right and bottom in pixels of the picture; csv has a line for each, or one without a box."""


def add(verbs: Any) -> None:
    parser = verb(verbs, "run", run, "Run a packed file on image files", DETAILS, reads=("model", "inputs"))
    add_model(parser, "packed file (.safetensors)")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="image files, or folders that are searched for them")
    parser.add_argument(
        "--top", type=positive, help="how many labels, or boxes, to print for a file (default one label, or all boxes)"
    )
    parser.add_argument(
        "--threshold", type=fraction, help="of a detector: the least score of a box, from 0 to 1 (default 0.5)"
    )
    parser.add_argument("--format", choices=FORMATS, default="text", help="how an answer's line looks (default text)")
    parser.add_argument(
        "--draw", metavar="FOLDER", help="of a detector: write the pictures with their boxes here, by their own names"
    )
    add_engine(parser)


def text(model: "Model", asked: "Asked") -> "tuple[str, Callable[[str, Answer], str]]":
    kind = kind_of(model)
    return "", lambda path, answer: one_line(f"{path}  {kind.text(answer)}")


def jsonl(model: "Model", asked: "Asked") -> "tuple[str, Callable[[str, Answer], str]]":
    return "", lambda path, answer: json.dumps({model.input_kind: path, "predictions": answer})


def table(model: "Model", asked: "Asked") -> "tuple[str, Callable[[str, Answer], str]]":
    def line(values: list[Any]) -> str:
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerow(values)  # which also says what must be quoted
        return printable(file.getvalue().removesuffix("\n"))

    kind = kind_of(model)
    header = line([model.input_kind, *kind.header(model.labels, asked)])
    return header, lambda path, answer: "\n".join(line([path, *row]) for row in kind.rows(answer))


def kind_of(model: "Model") -> "Kind":
    from onebit.runtime.answers import ANSWERS

    return ANSWERS[model.task.answer]


# Of a model and what is asked: a line before all others, or none, and the line of a file's answer, or a line for each of its boxes.
FORMATS = {"text": text, "jsonl": jsonl, "csv": table}


def run(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from onebit import runtime
    from onebit.runtime.answers import Asked
    from onebit.runtime.run import run as run_files

    if options.json:
        refuse(options, "--json prints one document at the end", format="text")
    threads = usable_threads(options.threads)
    model = runtime.load(options.model, threads=threads, isa=options.isa, backend=options.backend)
    if not kind_of(model).placed:
        refuse(options, f"{model.name} answers labels, not boxes", threshold=None, draw=None)
    kind, answered, failed = model.input_kind, [], []
    asked = Asked(options.top, options.threshold)
    count, rows = run_files(model, options.inputs, asked, options.draw)
    header, line = FORMATS[options.format](model, asked)
    out = Lines(quiet=options.json, to_the_end=options.out is not None)
    if header:
        out.show(header)
    for row in rows:
        if row.answer is None:
            failed.append({kind: row.path, "error": row.problem})
            if count > 1:  # else it is the error of the command
                warn(row.problem)
        else:
            drawn = {"drawn": row.drawn} if row.drawn else {}
            answered.append({kind: row.path, "predictions": row.answer, **drawn})
            out.show(line(row.path, row.answer))
    result = {"model": options.model, "runtime": model.isa, f"{kind}s": answered, "failed": failed}
    if failed:
        many = f"{len(failed)} of {count} files could not be read; the first is {failed[0][kind]}"
        raise Incomplete(failed[0]["error"] if count == 1 else many, result)
    return result, ""


class Lines:
    """The standard output, line by line. Where its reader goes, the command ends, unless a report is still to be written."""

    def __init__(self, quiet: bool, to_the_end: bool):
        self.quiet, self.to_the_end = quiet, to_the_end

    def show(self, line: str) -> None:
        if self.quiet:
            return
        try:
            show(line)
        except BrokenPipeError:
            if not self.to_the_end:
                raise
            self.quiet = True
