"""`onebit bench-train`, or `onebit bench train`: time of training steps, by method."""

import argparse
from typing import Any

from onebit.cli.arguments import describe, names, positive, verb
from onebit.errors import UserError
from onebit.methods import METHODS
from onebit.models import MODELS

WHAT = "Time training steps of methods against their full-precision parent"
DETAILS = """  onebit bench train --model resnet20 --methods xnor,rbnn,adabin,rebnn
The first losses are checked against plain PyTorch before any time is printed; steps of all methods take turns,
and ratios are medians over rounds. `onebit bench-train` is the same verb."""


def add(verbs: Any) -> None:
    add_options(verb(verbs, "bench-train", run, WHAT, DETAILS))


def fill(parser: argparse.ArgumentParser) -> None:
    """Make a parser this verb's."""
    parser.description = f"{WHAT}.\n\n{DETAILS}"
    describe(parser, run)
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    add_argument = parser.add_argument
    add_argument("--model", default="resnet20", help=f"network: {', '.join(MODELS)} (default resnet20)")
    add_argument(
        "--methods",
        type=names,
        default=["xnor", "rbnn", "adabin", "rebnn"],
        help=f"methods among {','.join(METHODS)} (default xnor,rbnn,adabin,rebnn)",
    )
    add_argument("--size", type=positive, default=32, help="image size in pixels (default 32)")
    add_argument("--classes", type=positive, default=10, help="number of classes (default 10)")
    add_argument("--batch", type=positive, default=128, help="images a step (default 128)")
    add_argument(
        "--precision",
        default="auto",
        choices=("auto", "32-true", "bf16-mixed"),
        help="as in a recipe (default auto)",
    )
    add_argument("--eager", action="store_true", help="without torch.compile")
    add_argument("--threads", type=positive, default=0, help="CPU threads (default: PyTorch's)")
    add_argument("--device", default="auto", help="cpu, cuda or auto (default auto)")
    add_argument("--rounds", type=positive, default=20, help="interleaved rounds (default 20)")


def run(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    if options.rounds < 2:
        raise UserError("--rounds 1 is too few: the quartiles of times need 2 or more")
    from onebit.bench.training import bench_training, step_table

    result = bench_training(
        options.model,
        options.methods,
        size=options.size,
        classes=options.classes,
        batch=options.batch,
        precision=options.precision,
        compiled=not options.eager,
        threads=options.threads,
        device=options.device,
        rounds=options.rounds,
    )
    return result, step_table(result)
