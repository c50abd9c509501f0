"""Models as people write them: what packs although it needs more than layers in a row, and one line for what does not."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit import pack
from onebit.errors import UserError
from onebit.runtime import load

SHAPE = (3, 8, 8)


class Own(nn.Module):
    """A convolution, and any function of (the model, its map)."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function, self.conv = function, nn.Conv2d(3, 8, 3, padding=1)
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, self.conv(x))


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)  # (B, H·W, C)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * torch.relu(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Hidden(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(np.tanh(x.detach().numpy()))

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Gate(nn.Module):
    """Squeeze and excite."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = F.silu(self.down(F.adaptive_avg_pool2d(x, 1)))
        return x * self.up(gate).sigmoid().expand_as(x)


class Attention(nn.Module):
    """As it is written in most scripts: one linear layer for queries, keys and values, and heads."""

    def __init__(self, call: bool):
        super().__init__()
        self.qkv, self.out, self.call = nn.Linear(8, 24), nn.Linear(8, 8), call

    def forward(self, x: Tensor) -> Tensor:
        batch, count, channels = x.shape
        q, k, v = self.qkv(x).reshape(batch, count, 3, 2, channels // 2).permute(2, 0, 3, 1, 4)
        if self.call:
            x = F.scaled_dot_product_attention(q, k, v)
        else:
            x = ((q * 0.5) @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        return self.out(x.transpose(1, 2).reshape(batch, count, channels))


def shuffled(x: Tensor, groups: int) -> Tensor:
    batch, channels, height, width = x.shape
    x = x.view(batch, groups, channels // groups, height, width).transpose(1, 2).contiguous()
    return x.view(batch, channels, height, width)


def counted(number: Tensor, x: Tensor) -> Tensor:
    x = x * number
    number += 1
    return x * number


TAKEN = {
    "a layer that is called twice": lambda: Own(lambda n, x: n.again(F.relu(n.again(x))), again=nn.Conv2d(8, 8, 1)),
    "a weight norm": lambda: Own(lambda n, x: n.c(x), c=nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 4, 3))),
    "a spectral norm": lambda: Own(lambda n, x: n.c(x), c=nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 4, 3))),
    "an autograd function of calls": lambda: Own(lambda n, x: Doubled.apply(x)),
    "branches": lambda: Own(
        lambda n, x: sum(branch(x) for branch in n.all),
        all=nn.ModuleList([nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 3, padding=1)]),
    ),
    "squeeze and excite": lambda: Own(lambda n, x: n.gate(x), gate=Gate()),
    "a gate of the map": lambda: Own(lambda n, x: x * torch.sigmoid(n.conv2(x)), conv2=nn.Conv2d(8, 8, 1)),
    "a gate of pixels": lambda: Own(lambda n, x: x * torch.sigmoid(n.conv2(x)), conv2=nn.Conv2d(8, 1, 1)),
    "a shuffle": lambda: Own(lambda n, x: n.c(shuffled(x, 2)), c=nn.Conv2d(8, 4, 3, groups=4)),
    "a shuffle at the end": lambda: Own(lambda n, x: shuffled(x, 4)),
    "channels in two halves": lambda: Own(lambda n, x: torch.cat([x.chunk(2, dim=1)[0], F.relu(x[:, 4:])], 1)),
    "activations": lambda: Own(
        lambda n, x: (
            F.gelu(F.elu(x)) + F.hardswish(x) - F.leaky_relu(x, 0.2) + F.silu(x).tanh() + F.relu6(x) + F.hardsigmoid(x)
        )
    ),
    "a U": lambda: Own(
        lambda n, x: torch.cat([x, F.interpolate(n.down(x), scale_factor=2, mode="bilinear")], 1),
        down=nn.Conv2d(8, 4, 2, 2),
    ),
    "a U with a transposed convolution": lambda: Own(
        lambda n, x: x + n.up(F.max_pool2d(x, 2)),
        up=nn.ConvTranspose2d(8, 8, 3, 2, padding=1, output_padding=1, groups=2),
    ),
    "padding modes": lambda: Own(
        lambda n, x: n.b(n.a(x)),
        a=nn.Conv2d(8, 4, 3, padding=1, padding_mode="reflect"),
        b=nn.Conv2d(4, 4, 2, padding="same"),
    ),
    "group norms": lambda: Own(lambda n, x: n.b(n.a(x)), a=nn.GroupNorm(4, 8), b=nn.InstanceNorm2d(8, affine=True)),
    "a norm of channels last": lambda: Own(
        lambda n, x: n.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), norm=nn.LayerNorm(8)
    ),
    "attention": lambda: Own(lambda n, x: n.a(tokens(x)).mean(1), a=Attention(True)),
    "attention that is written out": lambda: Own(lambda n, x: n.a(tokens(x)).mean(1), a=Attention(False)),
    "a multi-head attention": lambda: Own(
        lambda n, x: n.a(tokens(x), tokens(x), tokens(x))[0].mean(1), a=nn.MultiheadAttention(8, 2, batch_first=True)
    ),
    "a transformer's layer": lambda: Own(
        lambda n, x: n.a(tokens(x)).mean(1), a=nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    ),
    "a token for the class": lambda: Own(
        lambda n, x: n.norm(torch.cat([n.token.weight[None].expand(len(x), 1, 8), tokens(x)], 1))[:, 0],
        token=nn.Linear(8, 1),
        norm=nn.LayerNorm(8),
    ),
    "zeros like a tensor": lambda: Own(lambda n, x: torch.cat([x, torch.zeros_like(x[:, :2])], 1)),
    "the mode of inference": lambda: Own(torch.inference_mode()(lambda n, x: F.relu(n.c(x))), c=nn.Conv2d(8, 4, 1)),
    "axes that are moved": lambda: Own(
        lambda n, x: n.f(x.mean((2, 3), keepdim=True).movedim(1, -1)[:, 0, 0]), f=nn.Linear(8, 3)
    ),
    "a constant that changes": lambda: Own(lambda n, x: counted(torch.ones(8, 1, 1), x)),
    "the largest pixel": lambda: Own(lambda n, x: x.amax((2, 3))),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("what", TAKEN)
def test_what_packs(what, tmp_path):
    torch.manual_seed(0)
    model = TAKEN[what]().eval()
    pack(model, tmp_path / "net", input_shape=SHAPE)
    x = torch.randn(3, *SHAPE)
    with torch.no_grad():
        expected = model(x).numpy()
    for backend in ("engine", "reference"):
        np.testing.assert_allclose(load(tmp_path / "net", backend=backend)(x.numpy()), expected, rtol=1e-4, atol=1e-5)


SIZES = {  # of the packed 8 x 8 alone, or of others too
    "the last pixel": (lambda n, x: x[:, :, -1, -1], True),
    "the middle": (lambda n, x: x[:, :, x.shape[2] // 2, x.shape[3] // 2], True),
    "all but an edge": (lambda n, x: x[:, :, :-1, :-1].mean((2, 3)), True),
    "every other pixel": (lambda n, x: x[:, :, ::2, ::2].mean((2, 3)), True),
    "a condition": (lambda n, x: F.max_pool2d(x, 2).mean((2, 3)) if x.shape[2] > 6 else x.mean((2, 3)), True),
    "a number": (lambda n, x: x.mean((2, 3)) * x.shape[-1] ** -0.5, True),
    "a pool of all": (lambda n, x: F.avg_pool2d(x, x.shape[2:]).flatten(1), True),
    "tokens": (lambda n, x: tokens(x)[:, 1:].mean(1), True),
    "a mean": (lambda n, x: F.relu(x).mean((2, 3)), False),
    "a view": (lambda n, x: tokens(x).mean(1), False),
    "attention": (lambda n, x: F.scaled_dot_product_attention(tokens(x), tokens(x), tokens(x)).mean(1), False),
    "pools and sizes": (lambda n, x: F.interpolate(F.avg_pool2d(x, 2), scale_factor=2).mean((2, 3)), False),
}


@pytest.mark.parametrize("what", SIZES)
def test_other_sizes_are_right_or_refused(what, tmp_path):
    function, fixed = SIZES[what]
    torch.manual_seed(0)
    model = Own(function).eval()
    pack(model, tmp_path / "net", input_shape=SHAPE)
    for backend in ("engine", "reference"):
        network = load(tmp_path / "net", backend=backend)
        for batch, size in ((1, 8), (3, 8), (2, 16), (1, 4)):
            x = torch.randn(batch, 3, size, size)
            if fixed and size != 8:
                with pytest.raises(UserError, match="takes this size alone"):
                    network(x.numpy())
                continue
            with torch.no_grad():
                np.testing.assert_allclose(network(x.numpy()), model(x).numpy(), rtol=1e-4, atol=1e-5)


REFUSED = {
    "data-dependent control flow": (
        lambda: Own(lambda n, x: x if x.mean() > 0 else -x),
        "bool() of a tensor asks for numbers",
    ),
    "data-dependent loops": (
        lambda: Own(lambda n, x: [x * i for i in range(1 + int(x.abs().max()) % 3)][-1]),
        "int() of a tensor asks for numbers",
    ),
    "complex numbers": (lambda: Own(lambda n, x: torch.fft.fft2(x).abs()), "fft_fft2 (test_own_models.py line"),
    "three dimensions": (
        lambda: Own(lambda n, x: n.c(x[:, :, None]), c=nn.Conv3d(8, 8, 1)),
        "layer c: conv3d has no operator",
    ),
    "recurrence": (lambda: Own(lambda n, x: n.l(tokens(x))[0], l=nn.LSTM(8, 8, batch_first=True)), "layer l: lstm"),
    "a view that is changed": (lambda: Own(lambda n, x: (x[:, :4].relu_(), x)[1]), "changes in place"),
    "values that are written": (lambda: Own(lambda n, x: written(torch.zeros_like(x), x)), "writes into a tensor"),
    "an autograd function of numpy": (lambda: Own(lambda n, x: Hidden.apply(x)), "numpy() of a tensor"),
    "the statistics of a batch": (
        lambda: Own(lambda n, x: n.norm(x), norm=nn.BatchNorm2d(8, track_running_stats=False)),
        "running statistics",
    ),
    "a product between images": (lambda: Own(lambda n, x: x.flatten(1) @ x.flatten(1).T), "no operator"),
    "a choice of elements": (lambda: Own(lambda n, x: x.flatten(1).topk(3)[0]), "return the scores"),
    "logarithms of probabilities": (
        lambda: Own(lambda n, x: F.log_softmax(x.mean((2, 3)), 1)),
        "answers are probabilities",
    ),
    "an index by a tensor": (lambda: Own(lambda n, x: x[:, torch.tensor([1, 0])]), "by a tensor or a list"),
    "a mask": (
        lambda: Own(
            lambda n, x: F.scaled_dot_product_attention(tokens(x), tokens(x), tokens(x), is_causal=True).mean(1)
        ),
        "with a mask",
    ),
    "the weights of attention": (
        lambda: Own(lambda n, x: n.a(*[tokens(x)] * 3)[1], a=nn.MultiheadAttention(8, 2, batch_first=True)),
        "the weights of attention",
    ),
    "TorchScript inside": (
        lambda: Own(lambda n, x: n.s(x), s=torch.jit.trace(nn.ReLU(), torch.ones(1))),
        "TorchScript",
    ),
    "a quotient by 0": (lambda: Own(lambda n, x: x / 0), "by 0 is no number"),
    "code of a module": (
        lambda: Own(lambda n, x: n.inner(x[:, :3]), inner=Own(lambda n, x: torch.sin(x))),
        ", in inner)",
    ),
    "an odd size": (lambda: Own(lambda n, x: F.interpolate(x, size=(11, 11))), "a whole number of times"),
    "a sampling": (
        lambda: Own(lambda n, x: F.grid_sample(x, torch.zeros(len(x), 4, 4, 2), align_corners=False)),
        "grid_sample",
    ),
    "a random choice": (lambda: Own(lambda n, x: x * torch.rand(8, 1, 1)), "differently each time"),
    "a mean over the batch": (
        lambda: Own(lambda n, x: x.mean((2, 3)) / len(x)),
        "depends on how many images there are, first at div",
    ),
    "a weight over the batch": (
        lambda: Own(lambda n, x: F.conv2d(x, n.c.weight / x.shape[0]), c=nn.Conv2d(8, 4, 1)),
        "depends on how many images there are, first at conv2d",
    ),
    "one image alone": (lambda: Own(lambda n, x: F.relu(x) if len(x) > 1 else x), "depends on how many images"),
    "two images": (lambda: Own(lambda n, x: x.reshape(2, -1, 8, 8).mean((2, 3))), "takes 2 images and not 3"),
    "the images one by one": (lambda: Own(lambda n, x: torch.stack([v for v in x.unbind(0)])), "no operator"),
    "bounds for each channel": (
        lambda: Own(lambda n, x: x.clamp(min=n.conv.bias.view(-1, 1, 1))),
        "more than one number",
    ),
    "a wrong size": (lambda: Own(lambda n, x: n.f(x.flatten(1)), f=nn.Linear(9, 2)), "does not run on images"),
}


def written(into: Tensor, x: Tensor) -> Tensor:
    into[:, 1:] = x[:, 1:]
    return into


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(what, tmp_path):
    make, says = REFUSED[what]
    with pytest.raises(UserError) as caught:
        pack(make().eval(), tmp_path / "net", input_shape=SHAPE)
    message = str(caught.value)
    assert says in message and "\n" not in message and len(message) < 500, message
    assert not list(tmp_path.iterdir())
