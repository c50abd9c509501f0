"""The activations of most methods: their plain sign, trained through one surrogate gradient."""

from torch import Tensor

from onebit.methods.schedule import Schedule
from onebit.nn.binarizer import ActivationBinarizer, ActivationForm
from onebit.nn.sign import Surrogate, surrogate_sign


class PlainSign(ActivationBinarizer):
    """a_b = sign(a), dL/da = dL/da_b derivative(a, t, k): a (B, C, ...) -> a_b (B, C, ...) in {-1, +1}.

    derivative   a surrogate of `onebit.nn.sign`
    schedule     of the derivative's parameters t and k; None: it has none, as ste and approx_sign
    """

    def __init__(self, channels: int, derivative: Surrogate, schedule: Schedule | None = None):
        super().__init__(channels)
        self.derivative = derivative
        self.schedule = schedule

    def set_progress(self, fraction: float) -> None:
        if self.schedule is not None:
            self.schedule.set_progress(fraction)

    def forward(self, x: Tensor) -> Tensor:
        if self.schedule is None:
            return surrogate_sign(x, self.derivative)
        return surrogate_sign(x, self.derivative, self.schedule.t, self.schedule.k)

    def freeze(self) -> tuple[ActivationForm, ...]:
        return (ActivationForm(),)
