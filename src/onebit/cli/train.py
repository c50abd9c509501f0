"""`onebit train`: the keys of a recipe as options, each with its default and help from its declaration."""

import argparse
import dataclasses
import json
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from onebit.cli.arguments import value_of, verb
from onebit.cli.output import scores
from onebit.errors import UserError
from onebit.training import recipe
from onebit.training.recipe import GROUPS, KEYS, TABLES, Recipe, check_names

DETAILS = """A recipe sets keys: one that comes with onebit by its name (`onebit list recipes`), or a TOML file. The command line overrides
them:

  onebit train cifar10-resnet20-adabin --root data --epochs 40 --out runs/adabin

The run folder receives the resolved recipe, last.ckpt and best.ckpt, metrics.csv and TensorBoard events. A run that was
killed continues with the same command and --resume, and one that is to learn longer with --extend."""


def add(verbs: Any) -> None:
    parser = verb(
        verbs, "train", run, "Train a network from a recipe", DETAILS, "run folder; default runs/<recipe's name>-<seed>"
    )
    parser.tables = ("options", "structure", "arguments")
    parser.add_argument(
        "recipe",
        nargs="?",
        default=argparse.SUPPRESS,  # which leaves alone what a Switch found
        help="name of a recipe that comes with onebit, or a recipe file (TOML)",
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in the run folder, if it holds one")
    parser.add_argument(
        "--extend",
        action="store_true",
        help="continue it with other epochs, learning rate, schedule, momentum, weight decay or bound on the gradient",
    )
    parser.add_argument(
        "--profile", action="store_true", help="write where a step's time goes: profile.txt, profile.json.gz"
    )
    for options in GROUPS:
        group = parser.add_argument_group(options.__doc__)
        hints = typing.get_type_hints(options)
        for field in sorted(dataclasses.fields(options), key=lambda f: f.name not in options.__annotations__):
            if field.name != "out":  # which every verb has
                add_key(group, field, hints[field.name])
    parser.set_defaults(parser=parser)


def add_key(group: Any, field: Any, kind: Any) -> None:
    """The option of one key, spelled with _ or -. What is not given is not in the parsed options."""
    spellings = dict.fromkeys((f"--{field.name}", f"--{field.name.replace('_', '-')}"))
    default = field.default if field.default is not dataclasses.MISSING else field.default_factory()
    text = field.metadata["help"]
    if field.name in TABLES:
        text += f": {', '.join(TABLES[field.name])}"
    shown = json.dumps(default) if not isinstance(default, str) else default or "empty"
    settings: dict[str, Any] = {"default": argparse.SUPPRESS, "help": f"{text} (default {shown})".replace("%", "%%")}
    if typing.get_origin(kind) is Literal:
        settings |= {"choices": typing.get_args(kind)}
    elif kind is bool:
        settings |= {"action": Switch, "metavar": "true|false"}
    else:
        settings |= {"type": reader(kind), "metavar": field.name.rpartition("_")[2].upper()}
    group.add_argument(*spellings, **settings)


class Switch(argparse.Action):
    """--key, --key true or --key false."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any):
        super().__init__(option_strings, dest, nargs="?", **settings)

    def __call__(self, parser: Any, namespace: argparse.Namespace, value: Any, option: str | None = None) -> None:
        if value not in (None, "true", "false"):
            if "recipe" in namespace:
                raise argparse.ArgumentError(self, f"{value!r} is not true or false")
            namespace.recipe, value = value, None  # a recipe that follows a switch
        setattr(namespace, self.dest, value != "false")


def a_table(text: str) -> dict[str, Any]:
    """'{"variant": "paper"}' or 'variant=paper,t_max=2' as a dict."""
    if text.lstrip().startswith("{"):
        try:
            return dict(json.loads(text))
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from error
    found = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise argparse.ArgumentTypeError(f"{part!r} is not KEY=VALUE")
        found[name.strip()] = value_of(value)
    return found


def a_list(text: str) -> list[Any]:
    """'[0.5, 0.75]' or '0.5,0.75' as a list."""
    try:
        return list(json.loads(text if text.lstrip().startswith("[") else f"[{text}]"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers, such as 0.5,0.75") from error


def a_list_of_names(text: str) -> list[str]:
    """'["stem", "*.bias"]' or 'stem,*.bias' as a list."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None  # of patterns, such as [ab]*
    return found if isinstance(found, list) else [part.strip() for part in text.split(",") if part.strip()]


READERS: dict[Any, Callable[[str], Any]] = {
    int: int,
    float: float,
    str: str,
    dict: a_table,
    list[float]: a_list,
    list[str]: a_list_of_names,
}


def reader(kind: Any) -> Callable[[str], Any]:
    """What reads a value of this type; of a type or None, what reads the type."""
    if isinstance(kind, types.UnionType):
        (kind,) = [part for part in typing.get_args(kind) if part is not types.NoneType]
    return READERS[kind if kind in READERS else typing.get_origin(kind) or kind]


def recipe_of(options: argparse.Namespace) -> tuple[Recipe, str]:
    """(the recipe, name of the run): defaults < recipe file < command line. Raises UserError for unusable values."""
    source = getattr(options, "recipe", None)
    values = {} if source is None else recipe.read(source)
    values |= {
        key: value for key, value in vars(options).items() if key in KEYS and (key != "out" or value is not None)
    }
    resolved = Recipe(**values)
    if source is not None:
        return resolved, recipe.find(source).stem
    return resolved, f"{resolved.data}-{resolved.model.replace(':', '-')}-{resolved.method}"


def run(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    given = [key for key in vars(options) if key in KEYS and getattr(options, key) is not None]
    if "recipe" not in options and not given:
        options.parser.print_help()
        return {}, ""
    if (options.resume or options.extend) and "recipe" not in options and "data" not in given and options.out:
        raise UserError(
            f"--resume without a recipe: name the one that {options.out} was trained with, or its keys, which "
            f"{Path(options.out) / 'recipe.json'} holds"
        )
    if options.out == "":
        raise UserError("--out '' names no folder; give one, or leave it out")
    chosen, name = recipe_of(options)
    check_names(chosen)
    from lightning_fabric.utilities.rank_zero import rank_zero_only

    from onebit.training.train import train

    result = train(
        chosen,
        resume=options.resume,
        extend=options.extend,
        name=name,
        quiet=options.json,
        profile=options.profile,
    )
    if getattr(rank_zero_only, "rank", 0):  # one of several processes prints the result
        options.json = False
        return result, ""
    best = f"; best {result['best']:.2f} % ({result['best_checkpoint']})" if result["best_checkpoint"] else ""
    early = f", none better for {chosen.early_stop} epochs" if result["epochs"] < chosen.epochs else ""
    return result, f"{scores(result)} after epoch {result['epochs']}{early} ({result['last_checkpoint']}){best}"
