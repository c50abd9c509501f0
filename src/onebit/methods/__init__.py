"""The method table: one paper, one file, one line here. Importing it imports no PyTorch; using a row does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from onebit.tables import Table

if TYPE_CHECKING:
    from onebit.methods.method import Method

METHODS: Table[Callable[..., Method]] = Table(
    "method",
    {
        "float": "onebit.methods.full_precision:full_precision",
        "bnn": "onebit.methods.bnn:bnn",
        "xnor": "onebit.methods.xnor:xnor",
        "bireal": "onebit.methods.bireal:bireal",
        "irnet": "onebit.methods.irnet:irnet",
        "rbnn": "onebit.methods.rbnn:rbnn",
        "reactnet": "onebit.methods.reactnet:reactnet",
        "adabin": "onebit.methods.adabin:adabin",
        "rebnn": "onebit.methods.rebnn:rebnn",
        "recu": "onebit.methods.recu:recu",
        "dorefa": "onebit.methods.dorefa:dorefa",
        "lab": "onebit.methods.lab:lab",
        "abcnet": "onebit.methods.abcnet:abcnet",
        "bnn_plus": "onebit.methods.bnn_plus:bnn_plus",
        "rad": "onebit.methods.rad:rad",
        "dsq": "onebit.methods.dsq:dsq",
        "xnor_plus_plus": "onebit.methods.xnor_plus_plus:xnor_plus_plus",
        "slb": "onebit.methods.slb:slb",
        "siman": "onebit.methods.siman:siman",
        "rbonn": "onebit.methods.rbonn:rbonn",
        "reste": "onebit.methods.reste:reste",
        "ovsw": "onebit.methods.ovsw:ovsw",
        "ab_ste": "onebit.methods.ab_ste:ab_ste",
        "bibert": "onebit.methods.bibert:bibert",
        "bit": "onebit.methods.bit:bit",
        "triad": "onebit.methods.triad:triad",
    },
)


def create(name: str, **options: object) -> Method:
    """The method `name` of METHODS with its options, for example create("rbnn", variant="released").

    Raises UserError for an unknown name, option or value.
    """
    from onebit.methods.method import build

    return build(name, METHODS[name], options)


__all__ = ["METHODS", "create"]
