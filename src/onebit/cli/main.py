"""The command `onebit`: one verb, one file. A verb imports what it needs when it runs, so that `run` and `info` work where
PyTorch is not installed. User errors end in one line on standard error and exit code 2."""

import argparse
import json
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from onebit import __version__, files
from onebit.cli import (
    analyze,
    bench,
    bench_train,
    completion,
    evaluate,
    export,
    import_checkpoint,
    info,
    list_names,
    pack,
    reproduce,
    run,
    train,
)
from onebit.cli.arguments import Parser, check_report
from onebit.cli.output import one_line, printable, show
from onebit.errors import Incomplete, Stopped, UserError
from onebit.machine import installation

DESCRIPTION = """Train, pack and run neural networks whose weights and activations are one bit.

  onebit train digits-resnet8-adabin --out runs/digits                   train a network
  onebit pack runs/digits/last.ckpt --out digits.safetensors             turn it into a file of bits
  onebit eval digits.safetensors --data digits                           measure the packed file
  onebit run digits.safetensors image.png folder/                        classify images
  onebit run sst2.safetensors --text "a gripping film"                   or texts
  onebit export digits.safetensors --to onnx                             write it for another runtime
  onebit reproduce digits                                                train and measure a whole table
  onebit analyze runs/digits                                             see what training did, in a report
"""
VERBS = (
    train,
    pack,
    evaluate,
    run,
    analyze,
    bench,
    bench_train,
    reproduce,
    info,
    export,
    import_checkpoint,
    list_names,
    completion,
)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command; its options hold `run`, the function of the verb, and `command`, itself."""
    parser = Parser("onebit", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"onebit {__version__}", help="print the version")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", dest="verb", parser_class=Parser)
    for module in VERBS:
        module.add(verbs)
    parser.set_defaults(command=parser)
    return parser


@contextmanager
def termination() -> Iterator[None]:
    """Inside, SIGTERM raises Stopped, where nothing has another answer to it; in a thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(f"stopped by {signal.Signals(number).name}", number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 after a user error, 130 or 143 after SIGINT or SIGTERM."""
    verb = ""
    try:
        parser = make_parser()
        options = parser.parse_args(arguments)
        if "run" not in options:
            parser.print_help()
            return 0
        verb = options.verb
        check_report(options)
        failed = None
        try:
            with termination():
                result, text = options.run(options)
        except Incomplete as error:
            result, text, failed = error.result, error.text, error
        try:
            if output := json.dumps(result) if options.json else printable(text):
                show(output)
        finally:  # also where nobody reads the output
            if options.report and options.out is not None:
                files.write_text(options.out, json.dumps(result, indent=2) + "\n", follow=True)
        if failed:
            raise failed
        return 0
    except UserError as error:
        print(f"onebit: error: {one_line(str(error))}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"onebit: error: {installation.missing(error.name)}", file=sys.stderr)
        return 2
    except MemoryError:
        print("onebit: error: not enough memory; give fewer or smaller images at a time", file=sys.stderr)
        return 2
    except Stopped as stopped:
        if message := str(stopped):
            print(f"onebit: {message}", file=sys.stderr)
        return stopped.code
    except KeyboardInterrupt:
        remedy = "; if it had saved, it continues with --resume" if verb == "train" else ""
        print(f"onebit: interrupted{remedy}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as `onebit run ... | head` does
        return 0
