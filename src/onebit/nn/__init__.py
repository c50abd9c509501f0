"""The layers of binary networks and their hooks; methods and models are built from them.

    from onebit.nn import BinaryConv2d, binary_layers, set_progress

A network that is trained outside of `onebit train` needs four calls: `set_progress` at the start of each epoch,
`regularization` in the loss, `before_step` before the optimizer's step and `after_step` after it. Each does nothing for
methods without that duty.
"""

from onebit.nn.layers import (
    BinaryConv2d,
    BinaryLinear,
    OptionA,
    after_step,
    before_step,
    binary_layers,
    float32_bytes,
    regularization,
    set_progress,
)
from onebit.nn.nonlinearities import Hardtanh, Maxout, RPReLU
from onebit.nn.sign import sign

__all__ = [
    "BinaryConv2d",
    "BinaryLinear",
    "Hardtanh",
    "Maxout",
    "OptionA",
    "RPReLU",
    "after_step",
    "before_step",
    "binary_layers",
    "float32_bytes",
    "regularization",
    "set_progress",
    "sign",
]
