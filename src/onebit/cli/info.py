"""`onebit info`: what a checkpoint or packed file holds."""

import argparse
from typing import Any

from onebit.cli.arguments import add_model, is_checkpoint, verb
from onebit.cli.output import one_line, printable


def add(verbs: Any) -> None:
    parser = verb(
        verbs,
        "info",
        run,
        "Say what a checkpoint or packed file holds",
        "  onebit info cifar.safetensors --layers",
        reads=("model",),
    )
    add_model(parser, "checkpoint (.ckpt), packed file (.safetensors)")
    parser.add_argument(
        "--layers",
        action="store_true",
        help="a table of its layers: shapes, bits, products, bytes, and the papers' OPs",
    )


def run(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    if is_checkpoint(options.model):
        from onebit.checkpoints import description

        result = description.describe(options.model)
        table = description.layers(options.model) if options.layers else None
    else:
        from onebit.runtime import inspection

        result = inspection.describe(options.model)
        table = inspection.layers(options.model) if options.layers else None
    shown = {key: value for key, value in result.items() if key != "scores"}  # which stand there one by one
    measured = result.get("scores") or {}
    shown |= {key: f"{round(value, 4):g} %" for key, value in measured.items() if key in shown}
    names = {key: key if key in measured else key.replace("_", " ") for key in shown}
    text = "\n".join(line for key, value in shown.items() for line in lines(names[key], value))
    if table is None:
        return result, text
    return result | {"layers": table.record(), "totals": table.totals}, f"{text}\n\n{printable(str(table))}"


def lines(key: str, value: Any) -> list[str]:
    """A value, or on a line each the objects of a list, as text."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return [
            one_line(f"{key.removesuffix('s'):15} {', '.join(f'{name} {part}' for name, part in item.items())}")
            for item in value
        ]
    if isinstance(value, dict):
        value = ", ".join(f"{name} {part}" for name, part in value.items())
    return [one_line(f"{key:15} {value}")]
