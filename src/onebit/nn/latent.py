"""What a binarizer takes the signs of: the real numbers behind the binary ones, whatever a method does to its weights first."""

import copy

import torch
from torch import Tensor

from onebit.nn.binarizer import WeightBinarizer, WeightForm
from onebit.nn.sign import sign
from onebit.nn.surrogates import Surrogate


@torch.no_grad()
def binarized(binarizer: WeightBinarizer, weight: Tensor, forms: tuple[WeightForm, ...]) -> list[Tensor]:
    """x (O, ...), float32, for each of the binarizer's forms of weight (O, ...), with sign(x) the form's signs.

    x is what reaches the binarizer's surrogates: RBNN's rotated weights, AdaBin's equalized ones. It is looked for in a
    copy, since a compiled network would notice a hook. Of a binarizer without surrogates, or whose surrogates saw other
    signs than those it freezes to, x is the weight less the form's offset; and the list is empty where that has other signs,
    too.
    """
    for found in (inputs_of_surrogates(binarizer, weight), [centred(weight, form) for form in forms]):
        if len(found) == len(forms) and all(torch.equal(sign(x), form.signs) for x, form in zip(found, forms)):
            return [x.float() for x in found]
    return []


def inputs_of_surrogates(binarizer: WeightBinarizer, weight: Tensor) -> list[Tensor]:
    """What a forward pass gives to the binarizer's surrogates, in order."""
    seen: list[Tensor] = []
    twin = copy.deepcopy(binarizer)
    surrogates = [module for module in twin.modules() if isinstance(module, Surrogate)]
    for module in surrogates:
        module.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    if surrogates:
        twin(weight.detach())
    return seen


def centred(weight: Tensor, form: WeightForm) -> Tensor:
    """weight less the form's offset, shaped like weight (O, ...)."""
    if form.offset is None:
        return weight
    return weight - form.offset.reshape(-1, *[1] * (weight.dim() - 1))
