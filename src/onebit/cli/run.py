"""`onebit run`: what a packed network answers to files, line by line as the answers come."""

import argparse
import csv
import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from onebit.cli.arguments import add_engine, add_model, positive, refuse, verb
from onebit.cli.output import one_line, printable, show, usable_threads, warn
from onebit.errors import Incomplete

if TYPE_CHECKING:
    from onebit.runtime import Model
    from onebit.runtime.answers import Answer

DETAILS = """Prints the best labels and their probabilities, a line for each file as it is answered:
  onebit run cifar.safetensors cat.png photos/ --top 3
  onebit run cifar.safetensors photos/ --format csv > answers.csv
  onebit run zoo:NAME cat.png                                       a network that comes with onebit
Folders are searched with their subfolders, without hidden files. Files that cannot be read are named on standard
error; the others are answered, and the exit code is 2. --json prints one document at the end, with both."""


def add(verbs: Any) -> None:
    parser = verb(verbs, "run", run, "Run a packed file on image files", DETAILS, reads=("model", "inputs"))
    add_model(parser, "packed file (.safetensors)")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="image files, or folders that are searched for them")
    parser.add_argument("--top", type=positive, default=1, help="how many labels to print for a file (default 1)")
    parser.add_argument("--format", choices=FORMATS, default="text", help="how an answer's line looks (default text)")
    add_engine(parser)


def text(model: "Model", top: int) -> "tuple[str, Callable[[str, Answer], str]]":
    from onebit.runtime import answers

    return "", lambda path, answer: one_line(f"{path}  {answers.text(model.task.answer, answer)}")


def jsonl(model: "Model", top: int) -> "tuple[str, Callable[[str, Answer], str]]":
    return "", lambda path, answer: json.dumps({model.input_kind: path, "predictions": answer})


def table(model: "Model", top: int) -> "tuple[str, Callable[[str, Answer], str]]":
    def line(values: list[Any]) -> str:
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerow(values)  # which also says what must be quoted
        return printable(file.getvalue().removesuffix("\n"))

    count = min(top, len(model.labels)) if model.labels else top
    header = [model.input_kind, *(f"{what}_{place}" for place in range(1, count + 1) for what in ("label", "score"))]
    return line(header), lambda path, answer: line([path, *(p[key] for p in answer for key in ("label", "score"))])


# Of a model and the number of labels: a line before all others, or none, and the line of a file's answer.
FORMATS = {"text": text, "jsonl": jsonl, "csv": table}


def run(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from onebit import runtime
    from onebit.runtime.run import run as run_files

    if options.json:
        refuse(options, "--json prints one document at the end", format="text")
    threads = usable_threads(options.threads)
    model = runtime.load(options.model, threads=threads, isa=options.isa, backend=options.backend)
    kind, answered, failed = model.input_kind, [], []
    count, rows = run_files(model, options.inputs, options.top)
    header, line = FORMATS[options.format](model, options.top)
    out = Lines(quiet=options.json, to_the_end=options.out is not None)
    if header:
        out.show(header)
    for row in rows:
        if row.answer is None:
            failed.append({kind: row.path, "error": row.problem})
            if count > 1:  # else it is the error of the command
                warn(row.problem)
        else:
            answered.append({kind: row.path, "predictions": row.answer})
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
