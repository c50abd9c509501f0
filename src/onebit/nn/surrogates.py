"""The surrogate gradients: what stands in for the derivative of `sign`, which is 0 almost everywhere.

A derivative here is a pure function `derivative(x, *parameters) -> tensor shaped like x`. A `Surrogate` is sign forward and
`grad * derivative(x, *parameters)` backward, with its parameters as buffers that a schedule moves; SURROGATES makes one by
name, for every method's options `surrogate` (activations) and `weight_surrogate`.

| name           | derivative at x                                          | source                                      |
|----------------|----------------------------------------------------------|---------------------------------------------|
| ste            | 1 where |x| <= clip, else 0                              | Hubara et al. 2016 (BNN), eq. 4: clip = 1   |
| identity       | 1                                                        | Bengio et al. 2013                          |
| approx_sign    | max(2 - 2|x|, 0)                                         | Liu et al. 2018 (Bi-Real Net), eq. 5        |
| ede            | k t (1 - tanh^2(t x)), k = max(1/t, 1)                   | Qin et al. 2020 (IR-Net), eq. 10            |
| training_aware | max(k (sqrt(2) t - t^2 |x|), 0), k = max(1/t, 1)         | Lin et al. 2020 (RBNN), eq. 13              |
| swish_sign     | b (2 - b x tanh(b x / 2)) / (1 + cosh b x)               | Darabi et al. 2018 (BNN+), eq. 5            |
| tanh           | t (1 - tanh^2(t x))                                      | Gong et al. 2019 (DSQ): the slope of tanh   |
| blended        | (1 - s) + s t (1 - tanh^2(t x))                          | Gupta et al. 2025 (AB-STE), as abstracted    |
| reste          | |x|^(1/o - 1) / o where |x| <= clip, bounded near 0      | Wu et al. 2023 (ReSTE), authors' code       |
| exste          | o e^(-o|x|) / (1 - e^(-o)) where |x| <= clip, else 0     | BEANet, table IV (unpublished)              |
| fourier        | (4 w / pi) sum_{i < n} cos((2i + 1) w x) where |x| <= 1  | Xu et al. 2021 (FDA-BNN); w = pi/2          |

t, s, o and n move over training, geometrically (t) or linearly (s, o, n) from their first to their last value.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from onebit.errors import UserError
from onebit.nn.sign import Derivative, sign, surrogate_sign, with_gradient_of

Course = Callable[[float], float]  # a parameter's value at fraction = epoch / epochs of the training


def ste(x: Tensor, clip: Tensor | float = 1.0) -> Tensor:
    """1 where |x| <= clip, else 0: the slope of clamp(x, -clip, clip) (BNN, eq. 4)."""
    if torch.compiler.is_compiling():
        return (
            (1 + clip - x.abs()).floor().clamp(0, 1)
        )  # exactly; with a comparison it would keep masks, which a CPU reads slowly
    return x.abs().le_(clip)


def identity(x: Tensor) -> Tensor:
    """1: the slope of x (Bengio et al. 2013)."""
    return torch.ones_like(x)


def approx_sign(x: Tensor) -> Tensor:
    """max(2 - 2|x|, 0): the slope of a piecewise quadratic (Bi-Real Net, eq. 5)."""
    return (2 - 2 * x.abs()).clamp(min=0)


def ede(x: Tensor, t: Tensor, k: Tensor) -> Tensor:
    """k t (1 - tanh^2(t x)): the slope of k tanh(t x) (IR-Net, eq. 10)."""
    return k * t * (1 - torch.tanh(t * x) ** 2)


def training_aware(x: Tensor, t: Tensor, k: Tensor) -> Tensor:
    """max(k (sqrt(2) t - t^2 |x|), 0) (RBNN, eq. 13)."""
    return (k * (2 * torch.sqrt(t * t / 2) - t * t * x.abs())).clamp(min=0)


def swish_sign(x: Tensor, b: Tensor) -> Tensor:
    """b (2 - b x tanh(b x / 2)) / (1 + cosh b x): the slope of SignSwish (BNN+, eq. 5)."""
    return b * (2 - b * x * torch.tanh(b * x / 2)) / (1 + torch.cosh(b * x))


def tanh(x: Tensor, t: Tensor) -> Tensor:
    """t (1 - tanh^2(t x)): the slope of tanh(t x)."""
    return t * (1 - torch.tanh(t * x) ** 2)


def blended(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """(1 - s) + s t (1 - tanh^2(t x)): the slope of (1 - s) x + s tanh(t x)."""
    return 1 - s + s * t * (1 - torch.tanh(t * x) ** 2)


RESTE_NEAR = 0.1  # below it the slope, infinite at 0, is its mean over [0, RESTE_NEAR]: the authors' "interval"


def reste(x: Tensor, o: Tensor, clip: Tensor) -> Tensor:
    """|x|^(1/o - 1) / o where RESTE_NEAR <= |x| <= clip, m^(1/o) / m where |x| < m = RESTE_NEAR, else 0: the slope of the
    power function sign(x) |x|^(1/o), whose mean slope over [0, m] bounds it near 0."""
    size = x.abs()
    slope = size.clamp(min=RESTE_NEAR) ** (1 / o - 1) / o
    slope = torch.where(size < RESTE_NEAR, RESTE_NEAR ** (1 / o - 1), slope)
    return slope * ste(x, clip)


def exste(x: Tensor, o: Tensor, clip: Tensor) -> Tensor:
    """o e^(-o|x|) / (1 - e^(-o)) where |x| <= clip, else 0: an exponential that falls from 0 on, of area 2 over |x| <= 1."""
    return o * torch.exp(-o * x.abs()) / -torch.expm1(-o) * ste(x, clip)


FOURIER_FREQUENCY = math.pi / 2  # w: the square wave of period 4 is sign(x) on |x| < 2


def fourier(x: Tensor, n: Tensor) -> Tensor:
    """(4 w / pi) sum_{i < n} cos((2i + 1) w x) where |x| <= 1, else 0: the slope of the square wave's first n terms.

    In closed form sum_{i < n} cos((2i + 1) y) = sin(2 n y) / (2 sin y), and n at y = 0; for whole n.
    """
    y = FOURIER_FREQUENCY * x
    sine = torch.sin(y)
    near = sine.abs() < 1e-4
    series = torch.where(near, n, torch.sin(2 * n * y) / (2 * sine.masked_fill(near, 1.0)))
    return 4 * FOURIER_FREQUENCY / math.pi * series * ste(x)


class Surrogate(nn.Module):
    """sign(x) whose gradient is the incoming one times derivative(x, *parameters).

    Args:
        derivative: a pure function of x and the parameters
        courses: of the parameters by name, in the derivative's order: each one's value at fraction in [0, 1] of the
            training. At most two

    The values are buffers: saved with the model, and moving them does not recompile a compiled one.
    """

    def __init__(self, derivative: Derivative, **courses: Course):
        super().__init__()
        self.derivative, self.courses = derivative, courses
        for name, course in courses.items():
            self.register_buffer(name, torch.tensor(float(course(0.0))))

    def set_progress(self, fraction: float) -> None:
        """Move the parameters to fraction = epoch / epochs of the training."""
        for name, course in self.courses.items():
            getattr(self, name).fill_(course(fraction))

    def parameters_now(self) -> tuple[Tensor, ...]:
        """The derivative's parameters."""
        return tuple(getattr(self, name) for name in self.courses)

    def slope(self, x: Tensor) -> Tensor:
        """The derivative at x, shaped like x."""
        return self.derivative(x, *self.parameters_now())

    def forward(self, x: Tensor) -> Tensor:
        if self.derivative is identity:
            return with_gradient_of(sign(x), x)
        return surrogate_sign(x, self.derivative, *self.parameters_now())


# Courses are partial calls of functions of this module, so that a model can be pickled.


def constant(value: float) -> Course:
    """The course of what does not move."""
    return partial(_between, value, value)


def linear(first: float, last: float) -> Course:
    """first + fraction (last - first)."""
    return partial(_between, first, last)


def geometric(first: float, last: float, least: float = 0.0) -> Course:
    """10^(log first + fraction (log last - log first)), but not below `least` (IR-Net eq. 11, RBNN eq. 12)."""
    return partial(_power, math.log10(first), math.log10(last), least)


def _between(first: float, last: float, fraction: float) -> float:
    return first + fraction * (last - first)


def _power(low: float, high: float, least: float, fraction: float) -> float:
    return max(10.0 ** (low + fraction * (high - low)), least)


def _inverse(t: Course, fraction: float) -> float:
    return max(1.0 / t(fraction), 1.0)


def _rounded(course: Course, fraction: float) -> float:
    return float(round(course(fraction)))


def sharpening(derivative: Derivative, t_min: float, t_max: float, t_least: float = 0.0) -> Surrogate:
    """A derivative of t, which grows, and k = max(1/t, 1), which keeps its size while t < 1 (IR-Net eq. 11, RBNN eq. 12;
    AdaBin's released code). `t_least` bounds t from below: 1 for RBNN's activations, so that k = 1."""
    t = geometric(t_min, t_max, t_least)
    return Surrogate(derivative, t=t, k=partial(_inverse, t))


def _steps(first: float, last: float) -> Course:
    return partial(_rounded, linear(first, last))


SURROGATES: dict[str, Callable[..., Surrogate]] = {
    "ste": lambda *, clip=1.0: Surrogate(ste, clip=constant(clip)),
    "identity": lambda: Surrogate(identity),
    "approx_sign": lambda: Surrogate(approx_sign),
    "ede": lambda *, t_min=1e-3, t_max=10.0: sharpening(ede, t_min, t_max),
    "training_aware": lambda *, t_min=1e-2, t_max=10.0, t_least=0.0: sharpening(training_aware, t_min, t_max, t_least),
    "swish_sign": lambda *, b=5.0: Surrogate(swish_sign, b=constant(b)),
    "tanh": lambda *, t_min=1.0, t_max=10.0: Surrogate(tanh, t=geometric(t_min, t_max)),
    "blended": lambda *, t_min=1.0, t_max=10.0: Surrogate(blended, t=geometric(t_min, t_max), s=linear(0.0, 0.9)),
    "reste": lambda *, o_min=1.0, o_max=3.0, clip=1.5: Surrogate(reste, o=linear(o_min, o_max), clip=constant(clip)),
    "exste": lambda *, o_min=1.0, o_max=3.0, clip=1.5: Surrogate(exste, o=linear(o_min, o_max), clip=constant(clip)),
    "fourier": lambda *, n_min=1.0, n_max=5.0: Surrogate(fourier, n=_steps(n_min, n_max)),
}


SMALLEST, LARGEST = 1e-6, 1e6  # of a parameter: float32 holds what derivatives make of it
BOUNDS = {
    "t_least": (0.0, LARGEST),
    "n_min": (1.0, 100.0),
    "n_max": (1.0, 100.0),
}  # of others; n counts terms of a series


def create(owner: str, value: object) -> Surrogate:
    """The surrogate that an option names: "ste", or {"name": "ste", "clip": 1.5} with parameters of its own.

    Raises UserError, which calls the option `owner`, for a name, parameter or value that there is not.
    """
    name, parameters = value, {}
    if isinstance(value, Mapping):
        parameters = {key: number for key, number in value.items() if key != "name"}
        name = value.get("name")
        if "name" not in value:
            raise UserError(f"{owner} = {dict(value)!r} has no name; give one of {', '.join(SURROGATES)}")
    if not isinstance(name, str) or name not in SURROGATES:
        raise UserError(f"{owner}: surrogate {name!r} is unknown; choose one of {', '.join(SURROGATES)}")
    known = inspect.signature(SURROGATES[name]).parameters
    for key, number in parameters.items():
        if key not in known:
            raise UserError(
                f"{owner}: surrogate {name!r} has no {key!r}; it has: {', '.join(known) or 'no parameters'}"
            )
        least, largest = BOUNDS.get(key, (SMALLEST, LARGEST))
        if type(number) not in (int, float) or not least <= number <= largest:
            raise UserError(
                f"{owner}: {key} of surrogate {name!r} must be a number from {least:g} to {largest:g}, got {number!r:.40}"
            )
    arguments: dict[str, Any] = parameters
    return SURROGATES[name](**arguments)
