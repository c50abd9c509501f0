"""`onebit eval`: scores of a checkpoint or a packed file."""

import argparse
from typing import Any

from onebit.cli.arguments import add_data, add_engine, is_checkpoint, positive, refuse, verb
from onebit.cli.output import scores, usable_threads

DETAILS = """MODEL is a checkpoint (evaluated with PyTorch) or a packed file (run by the engine):
  onebit eval runs/cifar/last.ckpt --data cifar10 --root data
  onebit eval cifar.safetensors --data cifar10 --root data --threads 2"""


def add(verbs: Any) -> None:
    parser = verb(
        verbs, "eval", run, "Measure the scores of a model on a data set's test examples", DETAILS, reads=("model",)
    )
    parser.add_argument("model", metavar="MODEL", help="checkpoint (.ckpt) or packed file (.safetensors)")
    add_data(parser)
    add_engine(parser)
    parser.add_argument("--batch-size", type=positive, default=100, help="examples at a time (default 100)")


def run(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from onebit.analysis.evaluation import evaluate

    checkpoint = is_checkpoint(options.model)
    if checkpoint:
        refuse(options, f"{options.model} is a checkpoint, which PyTorch runs", isa=None, backend="auto")
    result = evaluate(
        options.model,
        options.data,
        options.root,
        checkpoint=checkpoint,
        download=options.download,
        batch_size=options.batch_size,
        threads=usable_threads(options.threads),
        isa=options.isa,
        backend=options.backend,
    )
    return result, f"{scores(result)} on {result['examples']} examples ({result['runtime']})"
