"""`onebit pack`: a checkpoint's network as a packed file."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from onebit.cli.arguments import check_output, expect, positive, refuse, verb
from onebit.cli.evaluate import examples
from onebit.cli.output import scores
from onebit.data import DATA
from onebit.errors import UserError


def add(verbs: Any) -> None:
    parser = verb(
        verbs,
        "pack",
        run,
        "Write a checkpoint's network as a packed file: 1 bit per binary weight",
        "  onebit pack runs/cifar/last.ckpt --out cifar.safetensors\n"
        "With --data also what the file scores, and with --int8 what it would score without:\n"
        "  onebit pack runs/cifar/last.ckpt --int8 --data cifar10 --root data",
        "packed file to write (default: the checkpoint's name with .safetensors)",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint written by onebit train or onebit import")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="store the weights that are not binary in 8 bits instead of 32; their layers multiply whole numbers",
    )
    parser.add_argument(
        "--labels", metavar="FILE", help="text file of other names for the labels, one a line, in order"
    )
    parser.add_argument("--data", help=f"measure the file's scores on a data set: {', '.join(DATA)}")
    parser.add_argument("--root", help="folder that holds the data set (default data)")
    parser.add_argument("--limit", type=positive, metavar="N", help="on N of its test examples (default all)")


def read_labels(path: str) -> list[str]:
    """The lines of a text file. Raises UserError for one that cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--labels {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def run(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from onebit.checkpoints import checkpoint
    from onebit.packing.from_checkpoint import pack_checkpoint

    expect(options.checkpoint, "checkpoint")
    out = options.out or str(Path(options.checkpoint).with_suffix(".safetensors"))
    check_output(out, [path for path in (options.checkpoint, options.labels) if path], "packed")
    if options.data is None:
        refuse(options, "it is for --data", root=None, limit=None)
    labels = None if options.labels is None else read_labels(options.labels)
    network = checkpoint.load(options.checkpoint)
    result = pack_checkpoint(network, out, options.int8, labels)
    ratio = result["float32_bytes"] / result["bytes"]
    text = f"{out}: {result['bytes']} bytes, {ratio:.1f} times smaller than float32 ({result['float32_bytes']} bytes)"
    if options.data is not None:
        result |= measured(out, options)
        text += f"\n{scores(result)}"
        if options.int8:
            with tempfile.TemporaryDirectory() as folder:
                wide = f"{folder}/float32.safetensors"
                pack_checkpoint(network, wide, False, labels)
                result["float32"] = measured(wide, options)
            text += f" in 8 bits, {scores(result['float32'])} in float32"
        text += f", on {examples(result)}"
    return result, text


def measured(path: str, options: argparse.Namespace) -> dict[str, Any]:
    """The packed file's scores on the data set."""
    from onebit.analysis.evaluation import evaluate

    found = evaluate(path, options.data, options.root or "data", checkpoint=False, limit=options.limit)
    return {key: found[key] for key in (*found["scores"], "scores", "examples", "of_examples")}
