"""Layers of binary networks: the convolution and linear layer whose operands are binarized, and the option-A shortcut."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.nn import forgotten
from onebit.nn.binarizer import ActivationBinarizer, ActivationForm, WeightBinarizer, WeightForm


class _Binarized(nn.Module):
    """What the two binary layers share: their binarizers, and the forward pass around `product`."""

    weight: Any
    bias: Any
    weight_binarizer: WeightBinarizer | None
    activation_binarizer: ActivationBinarizer | None
    watch: forgotten.Watch | None  # None where a loop is known to call the hooks

    def take(self, weights: WeightBinarizer | None, activations: ActivationBinarizer | None) -> None:
        """Be binarized by these, which start from the weights."""
        self.weight_binarizer, self.activation_binarizer = weights, activations
        self.watch = forgotten.Watch()
        if weights is not None:
            weights.initialize(self.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        weights, activations = self.weight_binarizer, self.activation_binarizer
        if self.training and self.watch is not None and not torch.compiler.is_compiling():
            self.watch.count(self)
        evaluating = not self.training and not torch.is_grad_enabled()
        if evaluating and weights is not None and activations is not None:
            y = _evaluate(self, x, weights.freeze(self.weight), activations.freeze())
        else:
            a = x if activations is None else activations(x)
            y = self.product(a, self.weight if weights is None else weights(self.weight))
        return y if self.bias is None else y + self.bias.reshape(-1, *[1] * (y.dim() - 2))

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        raise NotImplementedError

    def as_binarized(self, x: Tensor) -> Tensor:
        """The layer's input, with its channels where binarizers see them: (B, C, ...)."""
        return x

    def window_sum(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class BinaryConv2d(_Binarized, nn.Conv2d):
    """y = conv2d(a(x), w(weight)) + bias with zero padding: x (B, C, H, W) -> y (B, O, H', W').

    `weight_binarizer` and `activation_binarizer` come from a method; None leaves that operand real (for two-step training
    with binary activations and real weights, and for analyses). Padded taps contribute 0, not an activation value.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = False,
        *,
        weight_binarizer: WeightBinarizer | None = None,
        activation_binarizer: ActivationBinarizer | None = None,
    ):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.take(weight_binarizer, activation_binarizer)

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """conv2d(x, weight) with this layer's geometry: (B, C, H, W), (O, C / groups, KH, KW) -> (B, O, H', W')."""
        return F.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def window_sum(self, x: Tensor) -> Tensor:
        """Sum of x over each window and group: (B, C, H, W) -> (B, groups, H', W')."""
        sums = x.unflatten(1, (self.groups, -1)).sum(2)  # (B, groups, H, W)
        kernel = sums.new_ones(self.groups, 1, *self.kernel_size)
        return F.conv2d(sums, kernel, None, self.stride, self.padding, self.dilation, self.groups)


class BinaryLinear(_Binarized, nn.Linear):
    """y = a(x) w(weight)^T + bias: x (B, ..., I) -> y (B, ..., O), operands binarized as in BinaryConv2d.

    The first dimension counts samples, those between are tokens (B, T, I) or pixels (B, H, W, I). Binarizers see them as
    (B, I, ...), as they see a convolution's input: thresholds are of features, and the mean of a sample is over all of its
    tokens and features.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = False,
        *,
        weight_binarizer: WeightBinarizer | None = None,
        activation_binarizer: ActivationBinarizer | None = None,
    ):
        super().__init__(in_features, out_features, bias)
        self.take(weight_binarizer, activation_binarizer)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 2:
            raise ValueError(
                f"x must be (B, ..., {self.in_features}), got {tuple(x.shape)}; add a dimension for the batch"
            )
        if x.dim() == 2:
            return super().forward(x)
        return (
            super().forward(x.movedim(-1, 1)).movedim(1, -1)
        )  # (B, ..., I) -> (B, I, ...) -> (B, O, ...) -> (B, ..., O)

    def as_binarized(self, x: Tensor) -> Tensor:
        """(B, ..., I) -> (B, I, ...)."""
        return x.movedim(-1, 1)

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """x weight^T over the features: (B, I, ...), (O, I) -> (B, O, ...)."""
        if x.dim() == 2:
            return F.linear(x, weight)
        return F.linear(x.movedim(1, -1), weight).movedim(-1, 1)

    def window_sum(self, x: Tensor) -> Tensor:
        """Sum of x over the features: (B, I, ...) -> (B, 1, ...)."""
        return x.sum(1, keepdim=True)


def _evaluate(
    layer: _Binarized, x: Tensor, weights: tuple[WeightForm, ...], activations: tuple[ActivationForm, ...]
) -> Tensor:
    """The layer computed as the engine does it: sums of +-1 first, which float32 holds exactly, scales afterwards.

    Multiplying the real-valued a and w instead would round each sum differently from one machine to the next, and an
    activation near its threshold would then change its sign. Products of several forms are added in the order in which
    packing adds them: for each activation form, each weight form. All of it is in float32 where x is narrower, or autocast
    would make it so: float16 holds whole numbers to 2048 only, bfloat16 to 256. The answer has x's type.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    total = None
    with torch.autocast(x.device.type, enabled=False):
        for activation in activations:
            signs = activation.signs(x.to(wide))  # A (B, C, ...)
            for weight in weights:
                y = _product(layer, signs, weight.to(wide), activation)
                total = y if total is None else total + y
    if total is None:
        raise ValueError(f"{layer}: freeze() returned no form")
    return total.to(x.dtype)


def _product(layer: _Binarized, signs: Tensor, weights: WeightForm, activations: ActivationForm) -> Tensor:
    """What one weight form and one activation form contribute; signs: A of the latter.

    a = s_a A + o_a and w = s_w B + o_w give, with shift = o_a / s_a and 1 for the tensor of ones,
        y = s_a s_w (A*B + shift 1*B) + s_a o_w (A*1 + shift 1*1)
    """
    ones, shift = torch.ones_like(signs[:1]), activations.offset / activations.scale
    per_channel = (-1, *[1] * (signs.dim() - 2))
    scale = (activations.scale * weights.scale).reshape(per_channel)
    y = layer.product(signs, weights.signs)
    constant = scale * shift * layer.product(ones, weights.signs) if shift else scale.new_zeros(())  # (1, O, ...)
    if weights.offset is None:
        return torch.addcmul(constant, y, scale)
    offset = (activations.scale * weights.offset).reshape(per_channel)
    groups = layer.groups if isinstance(layer, BinaryConv2d) else 1
    filters = len(weights.signs) // groups

    def window(a: Tensor) -> Tensor:
        sums = layer.window_sum(a)  # (B, groups, ...), shared by the outputs of a group
        return sums if groups == 1 else sums.repeat_interleave(filters, dim=1)  # (B, 1 or O, ...)

    if shift:
        constant = constant + offset * shift * window(ones)
    return torch.addcmul(constant, y, scale).addcmul_(window(signs), offset)


def binary_layers(model: nn.Module) -> list[tuple[str, BinaryConv2d | BinaryLinear]]:
    """(name, layer) of every binary layer, in registration order."""
    return [(name, m) for name, m in model.named_modules() if isinstance(m, BinaryConv2d | BinaryLinear)]


def hooks_are_called(model: nn.Module) -> None:
    """Say that the loop which trains this model calls the hooks: no layer watches whether it does."""
    for _, layer in binary_layers(model):
        layer.watch = None


def _called(model: nn.Module, hook: str) -> None:
    """Remember that a loop calls a hook."""
    if not torch.compiler.is_compiling():
        for _, layer in binary_layers(model):
            if layer.watch is not None:
                layer.watch.calls.add(hook)


def set_progress(model: nn.Module, fraction: float) -> None:
    """The hook of the start of an epoch: move every binarizer's schedule to fraction = epoch / epochs."""
    _called(model, "set_progress")
    for _, layer in binary_layers(model):
        if layer.weight_binarizer is not None:
            layer.weight_binarizer.set_progress(fraction, layer.weight.detach())
    for module in model.modules():  # those of attention, too
        if isinstance(module, ActivationBinarizer):
            module.set_progress(fraction)


def regularization(model: nn.Module) -> Tensor | None:
    """The sum of the methods' loss terms, or None where the method has none."""
    _called(model, "regularization")
    terms = []  # no comprehension with :=, at which torch.compile breaks the graph
    for _, layer in binary_layers(model):
        term = None if layer.weight_binarizer is None else layer.weight_binarizer.regularization(layer.weight)
        if term is not None:
            terms.append(term)
    return torch.stack(terms).sum() if terms else None


class StepHooks:
    """The hooks around an optimizer step of the layers whose method has them, found once for many steps."""

    def __init__(self, model: nn.Module):
        def layers_with(hook: str) -> list[BinaryConv2d | BinaryLinear]:
            found = [(layer, layer.weight_binarizer) for _, layer in binary_layers(model)]
            default = getattr(WeightBinarizer, hook)
            return [layer for layer, own in found if own is not None and getattr(type(own), hook) is not default]

        self.befores, self.afters = layers_with("before_step"), layers_with("after_step")

    def compile(self) -> None:
        """Many small operators for each layer become a few."""
        if self.befores:
            self.before = torch.compile(self.before)  # type: ignore[method-assign]
        if self.afters:
            self.after = torch.compile(self.after)  # type: ignore[method-assign]

    def before(self) -> None:
        """As `before_step`."""
        for layer in self.befores:
            if layer.weight.grad is not None:
                layer.weight_binarizer.before_step(layer.weight, layer.weight.grad)  # type: ignore[union-attr]

    def after(self, clipping: Tensor | None = None) -> None:
        """As `after_step`."""
        for layer in self.afters:
            if layer.weight.requires_grad:  # what is frozen stays
                gradient = layer.weight.grad
                if gradient is not None and clipping is not None:
                    gradient = gradient / clipping
                layer.weight_binarizer.after_step(layer.weight, gradient)  # type: ignore[union-attr]


def before_step(model: nn.Module, hooks: StepHooks | None = None) -> None:
    """The hook between the backward pass and clipping, for methods that change the gradient of their weights.

    hooks: the model's, where they are known.
    """
    if hooks is None:
        _called(model, "before_step")
        hooks = StepHooks(model)
    hooks.before()


def after_step(model: nn.Module, clipping: Tensor | None = None, hooks: StepHooks | None = None) -> None:
    """The hook after an optimizer step, for methods that watch weights and gradients.

    clipping: what the gradients were multiplied by to bound their norm, if they were; hooks: the model's, where they are known.
    """
    if hooks is None:
        _called(model, "after_step")
        hooks = StepHooks(model)
    hooks.after(clipping)


def float32_bytes(model: nn.Module) -> int:
    """Bytes in float32 of weights (of embeddings, too), biases, and batch norms' parameters and statistics."""
    kinds = nn.Conv2d | nn.Linear | nn.Embedding | nn.modules.batchnorm._BatchNorm
    layers = [m for m in model.modules() if isinstance(m, kinds)]
    own = {id(t): t for m in layers for t in [*m._parameters.values(), *m._buffers.values()] if t is not None}
    return 4 * sum(t.numel() for t in own.values() if t.is_floating_point())


class OptionA(nn.Module):
    """The parameter-free ResNet shortcut: every stride-th pixel, missing channels filled with zeros on both sides.

    (B, C, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))   (He et al. 2016, option A)
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        missing = out_channels - in_channels
        self.stride, self.before, self.after = stride, missing // 2, missing - missing // 2

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]  # (B, C, H', W')
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))
