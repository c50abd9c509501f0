"""AB-STE: Adaptive Blended Gradient Estimation for Efficient Binarized Networks (Gupta et al., ECML PKDD 2025).

weights       w_b = mean |w_o| sign(w), the mean held constant, as Bi-Real Net
activations   a_b = sign(a)
backward      both signs through a blend of a line and a hyperbolic tangent, (1 - s) x + s tanh(t x):

    slope = (1 - s) + s t (1 - tanh^2(t x))

The line keeps a gradient where tanh is flat, tanh makes it sign's near 0. Of the paper only the abstract was available, which
says that a linear and a non-linear (arctan or tanh) component are blended adaptively. The course is an own choice: s grows
linearly from 0 to 0.9, t geometrically from 1 to 10; and so is all but the slope: weights, structure. It is a row of the
surrogates, "blended", so that every method takes it.
"""

from onebit.methods.bireal import MagnitudeAwareSign
from onebit.methods.method import Method
from onebit.methods.plain_sign import PlainSign
from onebit.nn.structure import Structure
from onebit.nn.surrogates import SURROGATES


def ab_ste() -> Method:
    """Blended STE: a shortcut around each convolution, then hardtanh. It has no options."""
    return Method(
        "ab_ste",
        lambda shape: MagnitudeAwareSign(shape, SURROGATES["blended"]()),
        lambda channels: PlainSign(channels, SURROGATES["blended"]()),
        Structure(),
    )
