"""The full-precision parent: real weights, real activations, the same layers around them."""

from onebit.methods.method import Method
from onebit.nn.structure import Structure


def full_precision() -> Method:
    """ReLU, and a shortcut around two convolutions. It has no options."""
    return Method("float", None, None, Structure(block="plain", nonlinearity="relu", head_norm=False))
