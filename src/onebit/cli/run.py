"""`onebit run`: what a packed network answers to files."""

import argparse
from typing import Any

from onebit.cli.arguments import add_engine, positive, verb

DETAILS = """Prints the best labels and their probabilities for each file:
  onebit run cifar.safetensors cat.png photos/ --top 3"""


def add(verbs: Any) -> None:
    parser = verb(verbs, "run", run, "Run a packed file on image files", DETAILS, reads=("model", "inputs"))
    parser.add_argument("model", metavar="MODEL", help="packed file (.safetensors)")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="image files, or folders that are searched for them")
    parser.add_argument("--top", type=positive, default=1, help="how many labels to print for a file (default 1)")
    add_engine(parser)


def run(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from onebit import runtime
    from onebit.runtime import answers
    from onebit.runtime.run import run as run_files

    model = runtime.load(options.model, threads=options.threads, isa=options.isa, backend=options.backend)
    rows = run_files(model, options.inputs, options.top)
    kind = model.input_kind
    lines = [f"{row[kind]}  {answers.text(model.task.answer, row['predictions'])}" for row in rows]
    return {"model": options.model, "runtime": model.isa, f"{kind}s": rows}, "\n".join(lines)
