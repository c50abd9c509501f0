"""The activations of most methods: their plain sign, trained through one surrogate gradient."""

from torch import Tensor

from onebit.nn.binarizer import ActivationBinarizer, ActivationForm


class PlainSign(ActivationBinarizer):
    """a_b = sign(a), dL/da = dL/da_b times the surrogate's slope at a: a (B, C, ...) -> a_b (B, C, ...) in {-1, +1}."""

    def forward(self, x: Tensor) -> Tensor:
        return self.surrogate(x)

    def freeze(self) -> tuple[ActivationForm, ...]:
        return (ActivationForm(),)
