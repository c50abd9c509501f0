"""SLB: Searching for Low-Bit Weights in Quantized Neural Networks (Yang et al., NeurIPS 2020, arXiv 2009.08695), for one bit.

Each weight is a choice from {-1, +1}, with one auxiliary state for each value, and a temperature that falls over training:

    p = softmax(t (A_-, A_+)),  w_soft = p_+ - p_-,  w_b = +1 if A_+ >= A_- else -1        (t = 1 / temperature)

Of two states only the difference matters: w_soft = tanh(t (A_+ - A_-) / 2), and both move by equal and opposite gradients. So one
latent weight w = (A_+ - A_-) / 2 is the whole state, at half the memory:

    w_b = sign(w),  dL/dw = dL/dw_soft t (1 - tanh^2(t w))

(SGD of the states at a rate r is SGD of w at r / 2). t grows geometrically from 1 to 10.

Different here: the forward pass takes w_b from the first step on, where the paper convolves with w_soft and evaluates with w_b. The
gap between the two, which its second set of batch norm statistics (state batch norm) closes, does not arise; the gradient
is that of the soft weights. t's course is an own choice. Activations are a plain sign with the straight-through estimator. As
described in the paper; what its authors released holds no code.
"""

from onebit.methods.bnn import SignWeight
from onebit.methods.method import Method
from onebit.methods.plain_sign import PlainSign
from onebit.nn.structure import Structure
from onebit.nn.surrogates import Surrogate, geometric, ste, tanh

T_MIN, T_MAX = 1.0, 10.0


def slb() -> Method:
    """SLB, in networks with a shortcut around two convolutions. It has no options."""
    return Method(
        "slb",
        lambda shape: SignWeight(shape, Surrogate(tanh, t=geometric(T_MIN, T_MAX))),
        lambda channels: PlainSign(channels, Surrogate(ste)),
        Structure(block="plain"),
    )
