"""The command line of `onebit train`: the keys of Recipe as options, with their types and help from its docstring."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from onebit.errors import UserError
from onebit.training import recipe

DESCRIPTION = """Train a network. A recipe file (TOML) sets keys, and the command line overrides them:

  onebit train recipes/cifar10-resnet20-adabin.toml --root data --epochs 40 --out runs/adabin

The run folder receives the resolved recipe, last.ckpt and best.ckpt, metrics.csv and TensorBoard events. A run that was
killed continues with the same command and --resume."""


def make_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="onebit train",
        description=DESCRIPTION,
        exit_on_error=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", nargs="?", help="recipe file; recipes/ holds those that come with onebit")
    parser.add_class_arguments(recipe.Recipe)
    parser.add_argument("--resume", action="store_true", help="continue the run in the run folder, if it holds one")
    parser.add_argument(
        "--profile", action="store_true", help="write where a step's time goes: profile.txt, profile.json.gz"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else")
    return parser


def normalize(arguments: list[str]) -> list[str]:
    """--batch-size as --batch_size, and a switch without a value, such as --download, as --download true."""
    switches = {f"--{f.name}" for f in dataclasses.fields(recipe.Recipe) if f.type in (bool, "bool")}
    result: list[str] = []
    for position, argument in enumerate(arguments):
        if argument.startswith("--"):
            key, equals, value = argument.partition("=")
            argument = key.replace("-", "_").replace("__", "--", 1) + equals + value
        result.append(argument)
        if argument in switches and arguments[position + 1 : position + 2] not in (["true"], ["false"]):
            result.append("true")
    return result


def parse(arguments: list[str]) -> tuple[Any, dict[str, Any], str]:
    """(parsed options, values of the Recipe, name of the run). Raises UserError for unknown keys and wrong types."""
    parser, arguments = make_parser(), normalize(arguments)
    try:
        path = parser.parse_args([a for a in arguments if a not in ("-h", "--help")]).recipe  # wherever it stands
        if path is not None:
            from_file = recipe.read(path)
            parser.parse_object(from_file)  # checks the types of the file's values
            parser.set_defaults(from_file)
        options = parser.parse_args(arguments)
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{reason} (onebit train --help lists the keys)") from error
    names = [f.name for f in dataclasses.fields(recipe.Recipe)]
    values = {name: options[name] for name in names}
    for name in ("options", "structure"):
        values[name] = dict(vars(values[name]) if not isinstance(values[name], dict) else values[name])
    return options, values, Path(path).stem if path else f"{values['data']}-{values['model']}-{values['method']}"
