"""`onebit analyze`: measures, figures and a report of training runs."""

import argparse
from typing import Any

from onebit.cli.arguments import positive, verb
from onebit.cli.output import one_line, usable_threads, warn
from onebit.data import DATA

DETAILS = """RUN is a folder that `onebit train` made; several are compared in the same figures:
  onebit analyze runs/adabin
  onebit analyze runs/xnor runs/rbnn runs/rebnn --root data --out analysis

The folder receives report.html (one file, which needs nothing else), measures.json, layers.csv and figures/."""


def add(verbs: Any) -> None:
    parser = verb(
        verbs,
        "analyze",
        run,
        "Show what training and one bit did to the networks of runs",
        DETAILS,
        "folder for the report (default: analysis in the folder of a single run)",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run folder, or a checkpoint alone")
    parser.add_argument("--data", help=f"data set: {', '.join(DATA)} (default: the run's)")
    parser.add_argument("--root", help="folder that holds the data set (default: where the run had it)")
    parser.add_argument(
        "--images", type=positive, default=10000, help="test examples that are answered, at most (default 10000)"
    )
    parser.add_argument(
        "--sensitivity",
        type=natural,
        default=500,
        help="test examples for each layer left real; 0 leaves sensitivity out (default 500)",
    )
    parser.add_argument("--threads", type=positive, help="CPU threads of the engine (default, and at most: all CPUs)")


def natural(text: str) -> int:
    return 0 if text == "0" else positive(text)


def run(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from onebit.analysis.analyze import analyze

    result = analyze(
        options.runs,
        options.out,
        data=options.data,
        root=options.root,
        images=options.images,
        sensitivity=options.sensitivity,
        threads=usable_threads(options.threads),
    )
    for measured in result["runs"]:
        for sentence in measured["missing"]:
            warn(f"{measured['name']}: {sentence}")
    return result, one_line(f"{result['report']} ({len(result['figures']) // 2} figures)")
