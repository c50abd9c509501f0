"""The method table: one paper, one file, one line here."""

from onebit.methods.adabin import adabin
from onebit.methods.bireal import bireal
from onebit.methods.bnn import bnn
from onebit.methods.full_precision import full_precision
from onebit.methods.irnet import irnet
from onebit.methods.method import Method, Structure, build
from onebit.methods.rbnn import rbnn
from onebit.methods.reactnet import reactnet
from onebit.methods.rebnn import rebnn
from onebit.methods.recu import recu
from onebit.methods.xnor import xnor

METHODS = {
    "float": full_precision,
    "bnn": bnn,
    "xnor": xnor,
    "bireal": bireal,
    "irnet": irnet,
    "rbnn": rbnn,
    "reactnet": reactnet,
    "adabin": adabin,
    "rebnn": rebnn,
    "recu": recu,
}


def create(name: str, **options: object) -> Method:
    """The method `name` of METHODS with its options, for example create("rbnn", variant="released")."""
    return build(METHODS, name, options)


__all__ = ["METHODS", "Method", "Structure", "create"]
