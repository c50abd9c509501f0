"""BiBERT's and BiT's formulas, by hand, and the binary forms that they freeze to."""

import math

import pytest
import torch
from torch import nn

from onebit import methods
from onebit.errors import UserError
from onebit.methods.bibert import Boolean
from onebit.methods.elastic import LEAST, ElasticLevels, ElasticSign, ElasticStep
from onebit.nn.attention import Attention, BinaryAttention
from onebit.nn.embedding import BinaryEmbedding
from onebit.nn.nonlinearities import ClippedGELU
from onebit.nn.sign import scaled_gradient, sign, with_gradient_of

torch.manual_seed(0)
X = torch.randn(4, 6, 5)


def differentiated(function, *tensors):
    """(value, gradients) of sum(function(...) * G) for a fixed G."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    value = function(*leaves)
    torch.manual_seed(3)
    (value * torch.randn(value.shape)).sum().backward()
    return value.detach(), [leaf.grad for leaf in leaves]


def upstream(shape):
    torch.manual_seed(3)
    return torch.randn(shape)


def test_scaled_gradient_is_the_number_itself():
    value, (gradient,) = differentiated(lambda x: scaled_gradient(x, 3.0), X)
    assert torch.equal(value, X) and torch.allclose(gradient, 3 * upstream(X.shape))


def test_a_value_with_the_gradient_of_another():
    value, (gradient,) = differentiated(lambda x: with_gradient_of(3 * x.detach() ** 2, x), X)
    assert torch.equal(value, 3 * X**2) and torch.equal(gradient, upstream(X.shape))


def test_weights_of_bibert():
    """Row means of |w|, signs about the row's mean; the gradient is not multiplied by the scale."""
    w = torch.randn(5, 7)
    binarizer = methods.create("bibert").weight(w.shape)
    value, (gradient,) = differentiated(binarizer, w)
    centred = w - w.mean(1, keepdim=True)
    assert torch.equal(value, w.abs().mean(1, keepdim=True) * sign(centred))
    inside = upstream(w.shape) * (centred.abs() <= 1)
    torch.testing.assert_close(gradient, inside - inside.mean(1, keepdim=True))
    assert torch.equal(binarizer.freeze(w)[0].weight(), value)


@pytest.mark.parametrize("part", ("weight", "embedding"))
def test_weights_of_bit(part):
    """Means of the whole matrix, of embeddings the scale is the row's; the identity's gradient."""
    w = torch.randn(5, 7) + 0.3
    binarizer = getattr(methods.create("bit"), part)(w.shape)
    value, (gradient,) = differentiated(binarizer, w)
    scale = w.abs().mean() if part == "weight" else w.abs().mean(1, keepdim=True)
    assert torch.equal(value, scale * sign(w - w.mean()))
    torch.testing.assert_close(gradient, upstream(w.shape))
    assert torch.equal(binarizer.freeze(w)[0].weight(), value)


def test_a_row_of_zeros_has_no_gradient_that_is_not_finite():
    w = torch.randn(3, 4)
    w[1] = 0
    for name in ("bibert", "bit"):
        value, (gradient,) = differentiated(methods.create(name).weight(w.shape), w)
        assert value.isfinite().all() and gradient.isfinite().all()


def test_elastic_signs():
    binarizer = ElasticSign(6)
    binarizer.initialize(X)
    torch.testing.assert_close(binarizer.alpha.detach(), 2 * X.abs().mean())
    with torch.no_grad():
        binarizer.shift.copy_(torch.randn(6) / 4)
    alpha, b = binarizer.alpha.item(), binarizer.shift.detach().reshape(1, 6, 1)
    value, (gradient,) = differentiated(binarizer, X)
    assert torch.equal(value, binarizer.alpha.detach() * sign(X + b))
    inside = ((X + b).abs() <= alpha) * upstream(X.shape)
    torch.testing.assert_close(gradient, inside)
    torch.testing.assert_close(binarizer.shift.grad, inside.sum((0, 2)))
    torch.testing.assert_close(binarizer.alpha.grad, (upstream(X.shape) * sign(X + b)).sum() / math.sqrt(X.numel()))
    assert torch.equal(binarizer.freeze()[0].activation(X), value)


@pytest.mark.parametrize("shifts", (True, False))
def test_elastic_steps(shifts):
    x = X.abs()
    binarizer = ElasticStep(6, shifts)
    binarizer.initialize(x / 2)
    torch.testing.assert_close(binarizer.alpha.detach(), 2 * x.mean())
    b = torch.zeros(1, 6, 1)
    if shifts:
        with torch.no_grad():
            binarizer.shift.copy_(torch.randn(6) / 4)
        b = binarizer.shift.detach().reshape(1, 6, 1)
    alpha = binarizer.alpha.detach()
    u = (x + b) / alpha
    value, (gradient,) = differentiated(binarizer, x)
    torch.testing.assert_close(value, alpha * u.round().clamp(0, 1))
    assert set(value.unique().tolist()) == {0.0, alpha.item()}
    inside = (u >= 0) & (u <= 1)
    torch.testing.assert_close(gradient, inside * upstream(x.shape))
    of_alpha = torch.where(inside, u.round() - u, (u > 1).float())
    expected = (upstream(x.shape) * of_alpha).sum() / math.sqrt(x.numel())
    torch.testing.assert_close(binarizer.alpha.grad, expected, atol=1e-5, rtol=1e-4)
    (form,) = binarizer.freeze()
    assert torch.equal(form.activation(x), value) and form.scale == form.offset


@pytest.mark.parametrize(("low", "high"), ((-2, 1), (0, 3)))
def test_elastic_levels(low, high):
    """Four levels, with LSQ's gradient of alpha; three forms, which add up to them."""
    x = X if low else X.abs()
    binarizer = ElasticLevels(6, low, high)
    binarizer.initialize(x)
    torch.testing.assert_close(binarizer.alpha.detach(), (2 if low else 4) * x.abs().mean() / math.sqrt(high))
    with torch.no_grad():
        binarizer.alpha.mul_(0.6)
        binarizer.shift.copy_(torch.randn(6) / 4)
    alpha, b = binarizer.alpha.detach(), binarizer.shift.detach().reshape(1, 6, 1)
    u = (x + b) / alpha
    value, (gradient,) = differentiated(binarizer, x)
    torch.testing.assert_close(value, alpha * u.round().clamp(low, high))
    assert len(value.unique()) == 4
    inside = (u >= low) & (u <= high)
    torch.testing.assert_close(gradient, inside * upstream(x.shape))
    torch.testing.assert_close(binarizer.shift.grad, gradient.sum((0, 2)))
    of_alpha = torch.where(inside, u.round() - u, torch.where(u > high, high, low).float())
    expected = (upstream(x.shape) * of_alpha).sum() / math.sqrt(x.numel() * high)
    torch.testing.assert_close(binarizer.alpha.grad, expected, atol=1e-5, rtol=1e-4)
    forms = binarizer.freeze()
    assert len(forms) == 3
    torch.testing.assert_close(sum(form.activation(x) for form in forms), value)
    probabilities = ElasticLevels(2, low, high, shifts=False)
    assert all(isinstance(form.threshold, float) for form in probabilities.freeze())


def test_alpha_is_bounded_from_below():
    binarizer = ElasticSign(2)
    binarizer.initialize(torch.zeros(2, 2))
    assert binarizer.alpha.item() == pytest.approx(LEAST)
    assert binarizer.freeze()[0].scale == pytest.approx(LEAST)
    assert binarizer(torch.ones(2, 2)).unique().item() == pytest.approx(LEAST)
    with torch.no_grad():
        binarizer.alpha.fill_(-0.5)
    assert binarizer.freeze()[0].scale == binarizer(torch.ones(2, 2)).unique().item() == 0.5
    binarizer(torch.ones(2, 2)).sum().backward()
    assert binarizer.alpha.grad.item() == pytest.approx(-2)  # 4 / sqrt(4), towards the other side of 0


def test_booleans():
    x = torch.tensor([[[[-2.0, -0.5, 0.0, 0.5, 2.0, torch.finfo(torch.float32).min]]]])
    value, (gradient,) = differentiated(Boolean(1), x)
    assert value.flatten().tolist() == [0, 0, 0, 1, 1, 0]
    assert torch.equal(gradient != 0, (x.abs() <= 1))
    torch.testing.assert_close(gradient[x.abs() <= 1], upstream(x.shape)[x.abs() <= 1])
    assert torch.equal(Boolean(1).freeze()[0].activation(x), value)


def attention(name, heads=2, width=8):
    made = methods.create(name).attention
    operands = (made.operand(width), made.operand(width), made.operand(width))
    module = BinaryAttention(heads, 0.0, operands, made.probability(heads), made.softmax)
    if name == "bit":
        with torch.no_grad():
            for part, alpha in zip(operands, (0.7, 1.1, 0.6)):
                part.alpha.fill_(alpha)
                part.shift.copy_(torch.randn(width) / 4)
            module.probability_binarizer.alpha.fill_(0.4)
    return module


@pytest.mark.parametrize("name", ("bibert", "bit"))
def test_attention_by_hand(name):
    """Head by head; keys that fill up get 0, whatever their scores."""
    module = attention(name)
    q, k, v = torch.randn(3, 2, 5, 8)
    hidden = torch.tensor([[False] * 5, [False, False, False, True, True]])
    a, b, c = (
        part(x.movedim(-1, 1)).movedim(1, -1)
        for part, x in zip((module.query_binarizer, module.key_binarizer, module.value_binarizer), (q, k, v))
    )
    expected = torch.zeros(2, 5, 8)
    for text in range(2):
        for head in range(2):
            d = slice(4 * head, 4 * head + 4)
            scores = a[text, :, d] @ b[text, :, d].T / 2
            if name == "bibert":
                p = (scores > 0).float()
            else:
                soft = scores.masked_fill(hidden[text], -math.inf).softmax(-1)
                p = 0.4 * (soft / 0.4).round().clamp(0, 1)
            p[:, hidden[text]] = 0
            expected[text, :, d] = p @ c[text, :, d]
    found = module(q, k, v, hidden)
    torch.testing.assert_close(found, expected)
    module.eval()
    with torch.no_grad():
        torch.testing.assert_close(module(q, k, v, hidden), found.detach())
    assert (expected != 0).any()


def test_real_attention_is_that_of_pytorch():
    q, k, v = torch.randn(3, 2, 5, 8)
    hidden = torch.tensor([[False] * 5, [False, False, False, True, True]])
    parts = (x.unflatten(-1, (2, 4)).transpose(1, 2) for x in (q, k, v))
    expected = torch.nn.functional.scaled_dot_product_attention(*parts, attn_mask=~hidden[:, None, None])
    torch.testing.assert_close(Attention(2)(q, k, v, hidden), expected.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("name", ("bibert", "bit"))
def test_rows_of_words_are_those_of_the_frozen_matrix(name):
    torch.manual_seed(0)
    layer = BinaryEmbedding(9, 6, methods.create(name).embedding(torch.Size((9, 6))))
    ids = torch.tensor([[1, 2, 8], [0, 1, 1]])
    (form,) = layer.weight_binarizer.freeze(layer.weight.detach())
    rows = layer(ids)
    torch.testing.assert_close(rows.detach(), form.weight()[ids])
    (rows * torch.arange(6)).sum().backward()
    assert not layer.weight.grad[[3, 4, 5, 6, 7]].any() and layer.weight.grad[[0, 1, 2, 8]].abs().sum() > 0


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
def test_gelu_is_negative_where_its_input_is(dtype):
    """PyTorch's is -0 far below 0, and the sign of that +1: layers behind it would see no negative sign."""
    x = torch.cat([-torch.logspace(-3, 3, 200), torch.logspace(-3, 1, 50)]).to(dtype)
    assert (nn.functional.gelu(x)[x < -6] == 0).all()
    y = ClippedGELU()(x)
    assert torch.equal(sign(y), sign(x))
    exact = x.double() * (1 + torch.erf(x.double() / math.sqrt(2))) / 2
    torch.testing.assert_close(y.double(), exact, atol=2e-6, rtol=1e-2 if dtype == torch.bfloat16 else 1e-6)


@pytest.mark.parametrize("bits", [0, 3, "x", 2.0, True])
def test_other_bits_are_refused(bits):
    with pytest.raises(UserError, match="bits must be 1 or 2, got"):
        methods.create("bit", bits=bits)
