"""Arguments that verbs share, and how they are read."""

import argparse
import difflib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from onebit import files
from onebit.data import DATA
from onebit.errors import UserError
from onebit.runtime import zoo
from onebit.runtime.native import ISAS
from onebit.runtime.recognition import explained, recognized

REPORT = "write the result as JSON to this file too"
# What completes a model in each shell: functions that `onebit completion` defines, in tcsh names of files.
MODEL_FILES = {"bash": "_onebit_model_files", "zsh": "_onebit_model_files", "tcsh": "f"}
BACKENDS = ("auto", "engine", "reference")


class Parser(argparse.ArgumentParser):
    """Errors are one line and exit code 2 like all others; options are not abbreviated.

    first    words that, where they come first, have a parser of their own
    tables   keys whose entries may be given one by one: --key.entry value
    """

    def __init__(self, *arguments: Any, **options: Any):
        options = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **options}
        super().__init__(*arguments, **options)
        self.first: dict[str, Parser] = {}
        self.tables: tuple[str, ...] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        if given and given[0] in self.first:
            return self.first[given[0]].parse_known_args(given[1:], namespace)
        for option in dict.fromkeys(argument.partition("=")[0] for argument in given):
            key, dot, _ = option.removeprefix("--").partition(".")
            if dot and key in self.tables and option.startswith("--") and option not in self._option_string_actions:
                self.add_argument(option, action=Entry, dest=key, type=value_of, default=argparse.SUPPRESS)
        return super().parse_known_args(given, namespace)

    def error(self, message: str) -> NoReturn:
        unknown = message.partition("unrecognized arguments: ")[2].split()
        known = [option for action in self._actions for option in action.option_strings]
        close = difflib.get_close_matches(unknown[0].partition("=")[0], known, 1) if unknown else []
        hint = f"did you mean {close[0]}?" if close else f"{self.prog} --help lists what there is"
        raise UserError(f"{' '.join(message.split())} ({hint})")


Verb = Callable[[argparse.Namespace], tuple[dict[str, Any], str]]


class Entry(argparse.Action):
    """--key.entry value: one entry of the table `key`."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, value: Any, option: str | None = None) -> None:
        entry = (option or "").partition(".")[2]
        setattr(namespace, self.dest, {**getattr(namespace, self.dest, {}), entry: value})


def value_of(text: str) -> Any:
    """A number, true, false, or text, as JSON has them."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def verb(
    verbs: Any, name: str, run: Verb, what: str, details: str, out: str = REPORT, reads: Sequence[str] = ()
) -> Parser:
    """Add a verb to the command's subparsers: what it is, how it is used, what --out names, what it runs, and the arguments
    that name files it reads."""
    parser: Parser = verbs.add_parser(name, help=what, description=f"{what}.\n\n{details}")
    describe(parser, run, out)
    parser.set_defaults(reads=tuple(reads))
    return parser


def describe(parser: argparse.ArgumentParser, run: Verb, out: str = REPORT) -> None:
    """What every verb has: --json, --out, and the function that it runs."""
    parser.set_defaults(reads=())
    parser.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else")
    parser.add_argument("--out", metavar="PATH", help=out)
    parser.set_defaults(run=run, report=out == REPORT)


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="cifar10", help=f"data set: {', '.join(DATA)} (default cifar10)")
    parser.add_argument("--root", default="data", help="folder that holds the data set (default data)")
    parser.add_argument("--download", action="store_true", help="fetch the data set where there is a network")


def add_model(parser: argparse.ArgumentParser, help: str) -> None:
    """MODEL: a file or a name of the zoo."""
    action = parser.add_argument("model", metavar="MODEL", help=f"{help} or zoo:NAME, see `onebit list zoo`")
    action.complete = MODEL_FILES  # type: ignore[attr-defined]


def add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=positive, help="CPU threads (default, and at most: all CPUs)")
    parser.add_argument("--isa", help=f"force an instruction set of the engine: {', '.join(ISAS)}")
    parser.add_argument("--backend", default="auto", choices=BACKENDS, help="runtime of packed files (default auto)")


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def fraction(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1
    if not 0 <= found <= 1:  # nor NaN
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return found


def numbers(text: str) -> list[int]:
    return [positive(part) for part in text.split(",")]


def names(text: str) -> list[str]:
    return list(dict.fromkeys(text.split(",")))


def refuse(options: argparse.Namespace, why: str, **defaults: object) -> None:
    """Refuse options that would have no effect."""
    for name, default in defaults.items():
        if getattr(options, name) != default:
            raise UserError(f"--{name.replace('_', '-')} has no effect here: {why}")


def is_checkpoint(path: str) -> bool:
    """Whether a model is a file of PyTorch, as checkpoints are. Raises UserError for what is no packed file either."""
    if zoo.is_named(path):
        zoo.located(path)
        return False
    try:
        if os.path.isfile(path):  # opening a pipe would wait for its other end
            open(path, "rb").close()
        else:
            os.stat(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    expect(path, "model")
    return recognized(path).name == "torch"


def expect(path: str, wanted: str) -> None:
    """Refuse a file that is something else: `wanted` is a row of `recognition.REMEDIES`."""
    if (line := explained(path, wanted)) is not None:
        raise UserError(line)


FORMATS = {  # endings of names that say what a file holds, and what else it then is
    ".safetensors": "packed",
    **dict.fromkeys((".ckpt", ".pt", ".pth", ".th"), "checkpoint"),
    ".onnx": "ONNX",
    ".xml": "OpenVINO",
    ".toml": "recipe",
    **dict.fromkeys((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"), "picture"),
    **dict.fromkeys((".zip", ".tar", ".parquet"), "data"),
    **dict.fromkeys((".json", ".csv", ".txt"), "report"),
}


def check_output(out: str, inputs: Sequence[str], kind: str) -> None:
    """Refuse, before any work, to write what is read, and a `kind` (a value of FORMATS) under the name of another or over it."""
    files.check_output(out, inputs)
    named = FORMATS.get(Path(out).suffix.lower(), kind)
    if named != kind:
        named, written = (f"{'an' if name[0] == 'O' else 'a'} {name}" for name in (named, kind))
        raise UserError(
            f"--out {out}: the name is that of {named} file, what is written is {written} file; give a name that ends in "
            + {"packed": ".safetensors", "checkpoint": ".ckpt", "ONNX": ".onnx", "OpenVINO": ".xml"}.get(kind, ".json")
        )
    there = recognized(out)
    if kind == "report" and there.words:
        raise UserError(f"--out {out} exists and is {there.words}, which a report would replace; give another name")


def check_report(options: argparse.Namespace) -> None:
    """`check_output` for the report of a verb that has one."""
    if options.report and options.out is not None:
        given = [getattr(options, name) for name in options.reads]
        check_output(
            options.out, [path for part in given for path in ([part] if isinstance(part, str) else part)], "report"
        )
