"""Networks of half the precision evaluate to the sums of the engine: whole numbers that float16 and bfloat16 do not hold."""

import pytest
import torch
from torch import Tensor

from checks import Case, case_id, cases, conv, disturb, linear
from onebit import methods
from onebit.nn.layers import BinaryLinear


def exact(layer: BinaryLinear, x: Tensor) -> Tensor:
    """The layer in float64, from its binary forms as they are."""
    activations = sum(form.activation(x.double()) for form in layer.activation_binarizer.freeze())
    forms = layer.weight_binarizer.freeze(layer.weight)
    weights = sum(form.to(torch.float64).weight() for form in forms)
    return activations @ weights.T


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", cases(), ids=case_id)
def test_wide_layers_in_half_precision(case: Case, dtype):
    """Sums to 5000 of inputs that mostly have the weight's sign; scaled, so that the answer itself fits the type."""
    torch.manual_seed(0)
    method = methods.create(case[0], **case[1])
    layer = disturb(linear(method, 5000, 3)).eval()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(3, 5000))
        layer.weight[:, 0] = 1e-3
        for name, parameter in layer.named_parameters():
            if "scal" in name:
                parameter.copy_(torch.full_like(parameter, 0.01))
    layer = layer.to(dtype)
    x = torch.where(torch.rand(2, 5000) < 0.9, layer.weight[:1].float().sign(), 1.0).to(dtype) + 0
    with torch.no_grad():
        found, expected = layer(x), exact(layer, x)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=0.51 * torch.finfo(dtype).eps, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_does_not_narrow_the_sums(dtype):
    """Of whole numbers with scale 1, which float32 holds."""
    torch.manual_seed(0)
    layer = conv(methods.create("bnn"), 600, 4, (3, 3), padding=1).eval()
    x = torch.randn(1, 600, 5, 5) + 1.5
    with torch.no_grad():
        layer.weight.abs_()
        expected = layer(x)
        with torch.autocast("cpu", dtype=dtype):
            assert torch.equal(layer(x), expected)
    assert expected.abs().max() > 4096


def test_other_types_are_as_they_were():
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.float64):
        layer = conv(methods.create("xnor"), 8, 4, (3, 3)).eval().to(dtype)
        with torch.no_grad():
            assert layer(torch.randn(1, 8, 5, 5, dtype=dtype)).dtype == dtype
