"""`onebit import`: a checkpoint of a paper's released code as one of ours."""

import argparse
from pathlib import Path
from typing import Any

from onebit.cli.arguments import check_output, verb

DETAILS = """  onebit import adabin-resnet20 model_best.th --out adabin.ckpt
Every tensor of the file must be used, and every tensor of the network found. A file name ending in
.safetensors makes a packed file at once. `onebit list importers` names the kinds."""


def add(verbs: Any) -> None:
    parser = verb(
        verbs,
        "import",
        run,
        "Convert a checkpoint trained with a paper's released code",
        DETAILS,
        "checkpoint (.ckpt) or packed file (.safetensors) to write (default: KIND.ckpt)",
    )
    parser.add_argument("kind", metavar="KIND", help="what the file holds: adabin-resnet20, ...")
    parser.add_argument("file", metavar="FILE", help="the authors' checkpoint")


def run(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from onebit.checkpoints import checkpoint, importers
    from onebit.packing.from_checkpoint import pack_checkpoint

    out = options.out or f"{options.kind}.ckpt"
    packed = out.endswith(".safetensors")
    check_output(out, [options.file], "packed" if packed else "checkpoint")
    content = importers.load(options.kind, options.file)
    if packed:
        result = pack_checkpoint(content, out)
    else:
        checkpoint.save(out, content)
        result = {"path": out, "bytes": Path(out).stat().st_size}
    result = {"kind": options.kind, **result, "tensors": len(content.model)}
    return result, f"{out}: {options.kind}, {result['tensors']} tensors, all used"
