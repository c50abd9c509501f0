"""Functions and methods in a model's forward: those with an operator pack, all others are one line that says what to do."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import checks
from networks import settle
from onebit import methods, pack
from onebit.errors import UserError
from onebit.runtime import load, native

SHAPE = (3, 6, 6)


class Call(nn.Module):
    """A network around one function of (the network, a map of 8 channels)."""

    def __init__(self, function: Callable[["Call", Tensor], object]):
        super().__init__()
        self.function = function
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.grouped, self.wide = nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(8, 8, 3, padding=1)
        self.binary = checks.conv(methods.create("adabin"), 8, 8, (1, 1))
        self.binary3 = checks.conv(methods.create("reactnet"), 8, 8, (3, 3), padding=1)
        self.after = nn.BatchNorm2d(8)
        self.prelu = nn.PReLU(8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear, self.all = nn.Linear(8, 5), nn.Linear(8 * 6 * 6, 5)
        self.two, self.three, self.flat = (nn.Linear(8 * n, 5) for n in (2, 3, 72))
        self.binary16, self.norm16 = checks.conv(methods.create("adabin"), 16, 16, (1, 1)), nn.BatchNorm2d(16)

    def forward(self, x: Tensor) -> object:
        return self.function(self, self.norm(self.conv(x)))


PACKED = {
    "max_pool2d": lambda n, x: n.linear(F.max_pool2d(x, 6).flatten(1)),
    "max_pool2d by name": lambda n, x: n.linear(F.max_pool2d(x, kernel_size=3, stride=2, padding=1).mean((2, 3))),
    "avg_pool2d": lambda n, x: n.linear(F.avg_pool2d(x, 6).view(x.size(0), -1)),
    "avg_pool2d by name": lambda n, x: n.linear(F.avg_pool2d(x, (4, 4), ceil_mode=True).mean((2, 3))),
    "adaptive_avg_pool2d": lambda n, x: n.linear(F.adaptive_avg_pool2d(x, 1).reshape(x.shape[0], -1)),
    "squeeze": lambda n, x: n.linear(F.adaptive_avg_pool2d(x, (1, 1)).squeeze(-1).squeeze(-1)),
    "view of a map": lambda n, x: n.all(x.view(x.shape[0], -1)),
    "reshape of a map": lambda n, x: n.all(torch.reshape(x.contiguous(), (x.size(0), 8 * 6 * 6))),
    "mean": lambda n, x: n.linear(torch.mean(x, dim=[-1, -2])),
    "clamp": lambda n, x: n.linear(torch.clamp(n.binary3(x), -1, 1).mean((2, 3))),
    "clamp in place": lambda n, x: n.linear(n.binary3(x).clamp_(min=-1, max=1).mean((2, 3))),
    "clamp from 0": lambda n, x: n.linear(n.binary3(x).clamp(min=0).mean((2, 3))),
    "relu in place": lambda n, x: n.linear((n.binary3(x).relu_() + x).mean((2, 3))),
    "dropout": lambda n, x: n.linear(F.dropout(x, 0.5, n.training).mean((2, 3))),
    "a layer twice": lambda n, x: n.linear(n.wide(n.wide(x)).mean((2, 3))),
    "cat": lambda n, x: n.two(torch.cat([n.wide(x), n.prelu(x)], 1).mean((2, 3))),
    "cat of one": lambda n, x: n.linear(torch.cat([x], dim=1).mean((2, 3))),
    "cat of three": lambda n, x: n.three(torch.concat((x, n.wide(x), x), dim=-3).mean((2, 3))),
    "cat by name": lambda n, x: n.two(torch.concatenate(axis=1, tensors=[x, x]).mean((2, 3))),
    "cat of vectors": lambda n, x: n.two(torch.cat([x.mean((2, 3)), F.relu(x).mean((2, 3))], -1)),
    "cat behind a pooling": lambda n, x: n.two(torch.cat([n.pool(x), n.pool(F.relu(x))], 1).flatten(1)),
    "cat, then flatten": lambda n, x: n.flat(torch.cat([x, n.wide(x)], 1).flatten(1)),
    "binary layers of a cat": lambda n, x: n.two(
        (n.norm16(n.binary16(torch.cat([n.binary3(x), x], 1))) + torch.cat([x, x], 1)).mean((2, 3))
    ),
    "pad of channels": lambda n, x: n.two((torch.cat([x, x], 1) + F.pad(n.wide(x), (0, 0, 0, 0, 8, 0))).mean((2, 3))),
    "pad of both sides": lambda n, x: n.two(F.pad(x, pad=(0, 0, 0, 0, 3, 5), value=0.0).mean((2, 3))),
    # behind a global pooling, where PyTorch still has a map
    "groups behind a mean": lambda n, x: n.linear(n.grouped(x.mean((2, 3), keepdim=True)).flatten(1)),
    "3x3 behind a pooling": lambda n, x: n.linear(n.wide(n.pool(x)).flatten(1)),
    "binary layers behind a pooling": lambda n, x: n.linear(
        n.prelu(n.after(n.binary3(n.binary(n.pool(x))))).flatten(1)
    ),
    "a sum behind a pooling": lambda n, x: n.linear((n.after(n.binary(n.pool(x))) + n.pool(x)).flatten(1)),
    "two poolings": lambda n, x: n.linear(n.pool(n.pool(x)).flatten(1)),
    "clamp to 6": lambda n, x: n.linear(x.clamp(0, 6).mean((2, 3))),
    "conv2d": lambda n, x: n.linear(F.conv2d(x, n.wide.weight).mean((2, 3))),
    "cat of rows": lambda n, x: n.linear(torch.cat([x, n.wide(x)[:, :, :2]], 2).mean((2, 3))),
    "cat with a constant": lambda n, x: n.two(torch.cat([x, torch.ones(len(x), 8, 6, 6)], 1).mean((2, 3))),
    "pad of pixels": lambda n, x: n.linear(F.pad(x, (1, 1, 0, 2)).mean((2, 3))),
    "pad by reflection": lambda n, x: n.linear(F.pad(x, (1, 1, 1, 1), mode="reflect").mean((2, 3))),
    "gates": lambda n, x: n.linear((x * n.grouped(n.pool(x))).mean((2, 3))),
    "a pooling to 2": lambda n, x: n.linear(F.adaptive_avg_pool2d(x, 2).amax((2, 3))),
    "an int": lambda n, x: n.all(x.view(int(x.shape[0]), -1)),
}


@pytest.mark.parametrize("what", PACKED)
def test_calls_with_an_operator(what, tmp_path):
    model = settle(Call(PACKED[what]), SHAPE)
    pack(model, tmp_path / "net", input_shape=SHAPE)
    x = torch.randn(3, *SHAPE)
    with torch.no_grad():
        expected = model(x).numpy()
    for backend in ["engine", "reference"] if native.available() else ["reference"]:
        np.testing.assert_allclose(load(tmp_path / "net", backend=backend)(x.numpy()), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [6, 9])
def test_a_classifier_of_1x1_convolutions_takes_other_sizes(size, tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 5, 1), nn.Flatten()).eval()
    pack(model, tmp_path / "net", input_shape=SHAPE)
    x = torch.randn(2, 3, size, size)
    np.testing.assert_allclose(load(tmp_path / "net")(x.numpy()), model(x).detach().numpy(), atol=1e-5)


REFUSED = {
    "dropout": (lambda n, x: F.dropout(x, 0.5), "nn.Dropout"),
    "noise": (lambda n, x: x + torch.randn_like(x), "randn_like"),
    "cat of a batch": (lambda n, x: torch.cat([x, x]), "along 0"),
    "cat of flattened maps": (lambda n, x: torch.cat([x.flatten(1), x.flatten(1)], 1), "a flattened map"),
    "cat of a map and a vector": (
        lambda n, x: torch.cat([F.avg_pool2d(x, 6), n.pool(x)], 1),
        "maps or vectors alone",
    ),
    "pad with ones": (lambda n, x: F.pad(x, (0, 0, 0, 0, 1, 1), value=1.0), "pads channels of maps with zeros"),
    "pad that cuts": (lambda n, x: F.pad(x, (0, 0, 0, 0, -1, 1)), "pads channels of maps with zeros"),
    "pad of both": (lambda n, x: F.pad(x, (1, 1, 1, 1, 2, 0)), "pad one after the other"),
    "broadcast": (lambda n, x: x + n.grouped(n.pool(x)), "same shape"),
    "mean of channels": (lambda n, x: x.mean(1), "AdaptiveAvgPool2d(1)"),
    "a pooling to 4": (lambda n, x: F.adaptive_avg_pool2d(x, 4), "divides the other"),
    "a pooling of a pooling": (lambda n, x: F.max_pool2d(n.pool(x), 1), "AvgPool2d"),
    "a batch of one": (lambda n, x: n.linear(x.mean((2, 3)).view(1, -1)), "flatten(1)"),
    "a number": (lambda n, x: {"logits": n.linear(x.mean((2, 3))), "count": 3}, "int as 'count'"),
    "an if": (lambda n, x: x if x.sum() > 0 else -x, "x if x.sum() > 0 else -x"),
    "an int": (lambda n, x: x[:, : int(x.abs().max())], "int()"),
    "no image": (lambda n, x: torch.ones(2, 5), "does not depend on what it is given"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_calls_without_an_operator(what, tmp_path, capfd):
    """One line, without a traceback beside it, with the line of the model's code where there is one to change."""
    function, says = REFUSED[what]
    with pytest.raises(UserError) as caught:
        pack(Call(function).eval(), tmp_path / "net", input_shape=SHAPE)
    message = str(caught.value)
    assert says in message and "\n" not in message and len(message) < 500, message
    assert "test_calls.py line" in message or what in (
        "a batch of one",
        "a number",
        "no image",
        "a pooling of a pooling",
    )
    assert not list(tmp_path.iterdir()) and capfd.readouterr().err == ""
