"""`onebit run`: what a packed network answers to files or texts, line by line as the answers come."""

import argparse
import csv
import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from onebit.cli.arguments import add_engine, add_model, fraction, positive, refuse, verb
from onebit.cli.output import one_line, printable, show, usable_threads, warn
from onebit.errors import Incomplete, UserError

if TYPE_CHECKING:
    from onebit.runtime import Model
    from onebit.runtime.answers import Answer, Asked, Kind

DETAILS = """Prints the best labels and their probabilities, or a detector's boxes, a line for each file as it is answered:
  onebit run cifar.safetensors cat.png photos/ --top 3
  onebit run cifar.safetensors photos/ --format csv > answers.csv
  onebit run zoo:NAME cat.png                                       a network that comes with onebit
  onebit run detector.safetensors photos/ --draw drawn --threshold 0.6
  onebit run sst2.safetensors --text "a gripping film"              a network of texts
  onebit run rte.safetensors --text-file lines.txt                  a text a line; a tab between the two of a pair
Folders are searched with their subfolders, without hidden files. Files that cannot be read are named on standard
error; the others are answered, and the exit code is 2. --json prints one document at the end, with both.
Boxes are left, top, right and bottom in pixels of the picture; csv has a line for each, or one without a box."""


def add(verbs: Any) -> None:
    what, reads = "Run a packed file on image files or texts", ("model", "inputs", "text_file")
    parser = verb(verbs, "run", run, what, DETAILS, reads=reads)
    add_model(parser, "packed file (.safetensors)")
    parser.add_argument("inputs", metavar="INPUT", nargs="*", help="image files, or folders that are searched for them")
    parser.add_argument(
        "--text", action="append", default=[], help="a text, or two with a tab between them; may be given again"
    )
    parser.add_argument(
        "--text-file",
        metavar="FILE",
        action="append",
        default=[],
        help="a file with a text a line, - for standard input; may be given again",
    )
    parser.add_argument(
        "--top",
        type=positive,
        help="how many labels, or boxes, to print for an input (default one label, or all boxes)",
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
    return "", lambda path, answer: one_line(f"{' | '.join(named(model, path).values())}  {kind.text(answer)}")


def jsonl(model: "Model", asked: "Asked") -> "tuple[str, Callable[[str, Answer], str]]":
    return "", lambda path, answer: json.dumps({**named(model, path), "predictions": answer})


def table(model: "Model", asked: "Asked") -> "tuple[str, Callable[[str, Answer], str]]":
    def line(values: list[Any]) -> str:
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerow(values)  # which also says what must be quoted
        return printable(file.getvalue().removesuffix("\n"))

    kind, columns = kind_of(model), ["image"] if model.input_kind == "image" else ["text", "second"]
    header = line([*columns, *kind.header(model.labels, asked)])

    def lines(path: str, answer: "Answer") -> str:
        names = [named(model, path).get(column, "") for column in columns]
        return "\n".join(line([*names, *row]) for row in kind.rows(answer))

    return header, lines


def named(model: "Model", path: str) -> dict[str, str]:
    """An input by the name of its kind; a pair of texts by two."""
    if model.input_kind == "image":
        return {"image": path}
    return dict(zip(("text", "second"), path.split("\t", 1)))


def kind_of(model: "Model") -> "Kind":
    from onebit.runtime.answers import ANSWERS

    return ANSWERS[model.task.answer]


# Of a model and what is asked: a line before all others, or none, and the line of an input's answer, or a line for each of its boxes.
FORMATS = {"text": text, "jsonl": jsonl, "csv": table}


def run(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from onebit import runtime
    from onebit.runtime.answers import Asked
    from onebit.runtime.run import run as run_inputs
    from onebit.runtime.texts import said

    if options.json:
        refuse(options, "--json prints one document at the end", format="text")
    threads = usable_threads(options.threads)
    model = runtime.load(options.model, threads=threads, isa=options.isa, backend=options.backend)
    if not kind_of(model).placed:
        refuse(options, f"{model.name} answers labels, not boxes", threshold=None, draw=None)
    answered, failed, cut = [], [], 0
    asked = Asked(options.top, options.threshold)
    count, rows = run_inputs(model, inputs_of(model, options), asked, options.draw)
    header, line = FORMATS[options.format](model, asked)
    out = Lines(quiet=options.json, to_the_end=options.out is not None)
    if header:
        out.show(header)
    for row in rows:
        names = named(model, row.path)
        if row.answer is None:
            failed.append({**names, "error": row.problem})
            if count > 1:  # else it is the error of the command
                warn(row.problem)
            continue
        more = {**({"drawn": row.drawn} if row.drawn else {}), **({"cut": True} if row.cut else {})}
        answered.append({**names, "predictions": row.answer, **more})
        cut += row.cut
        out.show(line(row.path, row.answer))
    if cut:
        warn(said(cut, count, model.texts.length))
    kind = model.input_kind
    result = {"model": options.model, "runtime": model.isa, f"{kind}s": answered, "failed": failed}
    if failed:
        what = "files could not be read; the first is" if kind == "image" else "texts could not be read; the first:"
        first = failed[0]["image" if kind == "image" else "error"]
        raise Incomplete(failed[0]["error"] if count == 1 else f"{len(failed)} of {count} {what} {first}", result)
    return result, ""


def inputs_of(model: "Model", options: argparse.Namespace) -> list[Any]:
    """What the network is to answer to: paths, or texts. Raises UserError for the wrong one, or none."""
    from onebit.runtime import texts

    given = bool(options.text or options.text_file)
    if model.input_kind == "image":
        if given:
            raise UserError(f"{model.name} takes images, no texts; give image files or folders")
        if not options.inputs:
            raise UserError(f"{model.name} has nothing to answer to; give image files or folders")
        return list(options.inputs)
    if options.inputs:
        raise UserError(
            f"{model.name} takes texts, no image files such as {options.inputs[0]}; give --text TEXT, or --text-file FILE with a "
            "text a line"
        )
    if not given:
        raise UserError(f"{model.name} has nothing to answer to; give --text TEXT, or --text-file FILE")
    count = len(options.text)
    places = [f"text {number} of --text" for number in range(1, count + 1)] if count > 1 else ["the text of --text"]
    lines = [texts.Line(line, place) for line, place in zip(options.text, places)]
    return [*lines, *(line for file in options.text_file for line in texts.lines(file))]


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
