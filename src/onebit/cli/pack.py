"""`onebit pack`: a checkpoint's network as a packed file."""

import argparse
from pathlib import Path
from typing import Any

from onebit.cli.arguments import check_output, expect, verb
from onebit.errors import UserError


def add(verbs: Any) -> None:
    parser = verb(
        verbs,
        "pack",
        run,
        "Write a checkpoint's network as a packed file: 1 bit per binary weight",
        "  onebit pack runs/cifar/last.ckpt --out cifar.safetensors",
        "packed file to write (default: the checkpoint's name with .safetensors)",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint written by onebit train or onebit import")
    parser.add_argument(
        "--int8", action="store_true", help="store the weights that are not binary in 8 bits instead of 32"
    )
    parser.add_argument(
        "--labels", metavar="FILE", help="text file of other names for the labels, one a line, in order"
    )


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
    labels = None if options.labels is None else read_labels(options.labels)
    result = pack_checkpoint(checkpoint.load(options.checkpoint), out, options.int8, labels)
    ratio = result["float32_bytes"] / result["bytes"]
    text = f"{out}: {result['bytes']} bytes, {ratio:.1f} times smaller than float32 ({result['float32_bytes']} bytes)"
    return result, text
