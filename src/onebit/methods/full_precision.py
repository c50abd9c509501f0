"""The full-precision parent: real weights, real activations, the same layers around them."""

from onebit.methods.method import Method, Structure


def full_precision() -> Method:
    return Method("float", None, None, Structure(block="plain", nonlinearity="relu", head_norm=False))
