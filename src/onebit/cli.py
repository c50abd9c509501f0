"""The command `onebit`: one verb, one module-level function; the modules a verb needs are imported when it runs."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from onebit.errors import UserError


def train_command(arguments: Sequence[str]) -> dict[str, Any]:
    """onebit train [RECIPE.toml] [--key value ...]"""
    from jsonargparse import ArgumentParser

    from onebit import recipe
    from onebit.train import train

    parser = ArgumentParser(
        prog="onebit train",
        description="Train a network. A recipe file (TOML) sets keys, the command line overrides them: "
        "onebit train recipes/cifar10-resnet20-adabin.toml --root data --epochs 40",
    )
    parser.add_argument("recipe", nargs="?", help="recipe file; recipes/ holds those that come with onebit")
    parser.add_class_arguments(recipe.Recipe)
    parser.add_argument("--resume", action="store_true", help="continue the run in the run folder, if it holds one")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else")
    return {}


if __name__ == "__main__":
    sys.exit()
