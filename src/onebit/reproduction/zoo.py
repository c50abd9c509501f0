"""Makes a file of the zoo, the packed networks that come with onebit, of a training's checkpoint.

`python -m onebit.reproduction.zoo runs/NAME/last.ckpt --root data` packs it, runs the file in the engine on all test examples, and
writes it once more with those scores, beside what `onebit pack` records of the training. What is no training's, or larger than
a file of the zoo may be, is refused.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from onebit import files
from onebit.analysis.evaluation import evaluate
from onebit.checkpoints import checkpoint as checkpoints
from onebit.errors import UserError
from onebit.packing.from_checkpoint import pack_checkpoint
from onebit.runtime import format as file_format
from onebit.runtime import inspection, zoo
from onebit.runtime.graph import to_dict
from onebit.runtime.operators import OPERATORS

LARGEST = 100_000  # bytes
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def make(
    checkpoint: str, root: str, name: str | None = None, folder: str | Path | None = None, int8: bool = False
) -> dict[str, Any]:
    """Write folder/NAME.safetensors, by default into the package. Returns `inspection.describe` of it.

    name   default: that of the recipe
    int8   as in `onebit.pack`

    Raises UserError for a checkpoint that no training wrote, for a name that is none, and for a file that would be too large.
    """
    saved = checkpoints.load(checkpoint)
    if saved.progress is None:
        raise UserError(f"{checkpoint} was not written by a training: recipe, seed and epochs are not known")
    name = name or saved.source or ""
    if not NAME.fullmatch(name):
        raise UserError(
            f"--name {name!r} must be 1 to 64 small letters, digits, _ or -, and start with one of the first two"
        )
    data = saved.progress.recipe["data"]
    target = Path(folder or str(zoo.SHIPPED)) / f"{name}{zoo.SUFFIX}"
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / target.name
        pack_checkpoint(saved, path, int8)
        measured = evaluate(str(path), data, root, checkpoint=False)
        graph, tensors = file_format.read(path)
    source = to_dict(graph, OPERATORS)
    source["task"]["scores"] = {key: measured[key] for key in measured["scores"]}
    source["training"] |= {"scores_of": f"the engine on {measured['examples']} test examples"}
    content = file_format.encode(file_format.validate(source, tensors), tensors)
    if len(content) > LARGEST:
        raise UserError(
            f"{checkpoint} packs in {len(content)} bytes, a file of the zoo has at most {LARGEST}; train a smaller model"
        )
    files.write(target, lambda file: file.write(content))
    return inspection.describe(str(target))


def main() -> int:
    parser = argparse.ArgumentParser("onebit.reproduction.zoo", description=(__doc__ or "").strip().split("\n")[0])
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help="of a run folder: last.ckpt or best.ckpt")
    parser.add_argument("--root", default="data", help="folder that holds the data set (default data)")
    parser.add_argument("--name", help="of the file, where there is one checkpoint (default: its recipe's)")
    parser.add_argument("--folder", help="where to write (default: the zoo of this onebit)")
    parser.add_argument("--int8", action="store_true", help="store the weights that are not binary in 8 bits")
    options = parser.parse_args()
    try:
        if options.name and len(options.checkpoints) > 1:
            raise UserError(f"--name {options.name} is for one checkpoint, {len(options.checkpoints)} are given")
        for path in options.checkpoints:
            made = make(path, options.root, options.name, options.folder, options.int8)
            scores = ", ".join(f"{key} {value:.2f} %" for key, value in made["scores"].items())
            print(f"{made['file']}: {made['bytes']} bytes, {scores}")
    except UserError as error:
        print(f"onebit: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
