"""AlexNet, ReActNet-A and MeliusNet, as the papers' tables have them: structures, sizes and operations, some of them published, a
step of training, and the same decisions in the packed file."""

import math

import pytest
import torch
from torch import Tensor, nn

from networks import BACKENDS, check, settle
from onebit import models
from onebit.errors import UserError
from onebit.nn import Hardtanh, Maxout, RPReLU
from onebit.nn.layers import BinaryConv2d, binary_layers, set_progress

SHAPES = {"alexnet": (3, 63, 67), "reactnet_a": (3, 35, 32)}  # odd maps on the way
SMALL = (3, 17, 21)
CASES = [("alexnet", method) for method in ("xnor", "adabin")]
CASES += [("reactnet_a", method) for method in ("float", "reactnet", "adabin", "rebnn")]
CASES += [("meliusnet22", method) for method in ("bnn", "adabin", "rbnn")]
CASES += [(f"meliusnet{size}", "adabin") for size in (29, 42, 59)]
CASES += [("resnet18a", "rbnn")]
WITH_ORACLE = (("alexnet", "xnor"), ("reactnet_a", "reactnet"), ("meliusnet22", "adabin"))  # which takes its time


def step(model: nn.Module, shape: tuple[int, int, int]) -> None:
    """One of training: every gradient is finite, and every convolution learns."""
    set_progress(model, 0.5)
    before = {name: layer.weight.clone() for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)}
    loss = nn.functional.cross_entropy(model.train()(torch.randn(4, *shape)), torch.arange(4) % 3)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * parameter.grad
    layers = dict(model.named_modules())
    assert not [name for name, weight in before.items() if torch.equal(layers[name].weight, weight)]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_they_train_and_pack(name, method, tmp_path):
    shape = SHAPES.get(name, SMALL)
    model = models.create(name, method, classes=5, image_size=shape[1], structure={"norm_weight": 1.0})
    step(model, shape)
    backends = BACKENDS if (name, method) in WITH_ORACLE else BACKENDS[:1]
    check(settle(model, shape), tmp_path / "net.onebit", shape, images=4, oracle_images=1, backends=backends)


def work(model: nn.Module, size: int) -> tuple[int, int]:
    """Products of bits and of floats in convolutions, for an image of size x size pixels."""
    counts = {True: 0, False: 0}

    def count(layer: nn.Module, inputs: object, output: Tensor) -> None:
        counts[isinstance(layer, BinaryConv2d)] += layer.weight[0].numel() * output[0].numel()

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        model.eval()(torch.zeros(1, 3, size, size))
    return counts[True], counts[False]


def mebibytes(model: nn.Module) -> float:
    """A bit for each weight of binary layers, 4 bytes for each other parameter."""
    bits = sum(layer.weight.numel() for _, layer in binary_layers(model))
    return (bits / 8 + 4 * (sum(p.numel() for p in model.parameters()) - bits)) / 2**20


@pytest.mark.parametrize(
    ("name", "size", "operations"),
    [("meliusnet22", 3.9, 2.08), ("meliusnet29", 5.1, 2.14), ("meliusnet42", 10.1, 3.25), ("meliusnet59", 17.4, 5.32)],
)
def test_meliusnets_sizes_and_operations(name, size, operations):
    """MB, which are 2^20 bytes, and 10^8 operations of convolutions, 64 products of bits as one, without those of the layer of
    the classes. MeliusNet59's are those of BEANet's table of AdaBin's results; the others' hold what these structures have."""
    model = models.create(name, "bnn", classes=1000)
    assert round(mebibytes(model), 1) == size
    bits, floats = work(model, 224)
    assert (bits / 64 + floats) / 1e8 == pytest.approx(operations, abs=0.006)


def test_meliusnet22s_parameters():
    """larq_zoo counts 6 944 584 in its MeliusNet22, 3.88 MiB."""
    model = models.create("meliusnet22", "bnn", classes=1000)
    assert sum(p.numel() for p in model.parameters()) == 6_944_584
    assert round(mebibytes(model), 2) == 3.88
    assert len(binary_layers(model)) == 2 * 17


def test_reactnet_as_operations():
    """4.82e9 products of bits, 0.12e8 of floats, 0.87e8 operations with 64 of the former as one: BEANet's table has 4.87e9,
    0.12e8 and 0.88e8 of it with AdaBin, whose sets cost a little more."""
    model = models.create("reactnet_a", "reactnet", classes=1000)
    bits, floats = work(model, 224)
    floats += model.linear.weight.numel()
    assert [round(bits / 1e9, 2), round(floats / 1e8, 2), round((bits / 64 + floats) / 1e8, 2)] == [4.82, 0.12, 0.87]
    assert len(binary_layers(model)) == 2 * 13


class TwoConvolutions(nn.Module):
    """The block of the authors' code: where channels double, two 1x1 convolutions and two norms, whose outputs are put behind
    each other after the shortcut."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        block = self.block
        y = block.act1(block.bn1(block.conv1(x)) + nn.functional.avg_pool2d(x, 2))
        a, w = block.conv2.activation_binarizer(y), block.conv2.weight_binarizer(block.conv2.weight)
        halves = []
        for half in w.chunk(2), block.bn2.weight.chunk(2), block.bn2.bias.chunk(2):
            halves.append(half)
        outputs = [
            nn.functional.batch_norm(nn.functional.conv2d(a, weight), None, None, scale, bias, True) + y
            for weight, scale, bias in zip(*halves, strict=True)
        ]
        return block.act2(torch.cat(outputs, 1))


def test_a_block_that_doubles_channels_is_the_authors():
    block = models.create("reactnet_a", "reactnet", classes=5).blocks[1]
    for norm in (block.bn1, block.bn2):
        norm.weight.data.uniform_(0.5, 2)
        norm.bias.data.normal_()
    for parameter in (
        *block.act1.parameters(),
        *block.act2.parameters(),
        *block.conv2.activation_binarizer.parameters(),
    ):
        parameter.data.normal_(0, 0.3)
    x = torch.randn(4, 64, 6, 6)
    torch.testing.assert_close(block.train()(x), TwoConvolutions(block)(x), rtol=1e-4, atol=1e-4)
    assert block(x).shape == (4, 128, 3, 3)


def test_blocks_of_reactnet_a():
    model = models.create("reactnet_a", "adabin", classes=5)
    shapes = [(b.conv1.in_channels, b.conv2.out_channels, b.conv1.stride[0]) for b in model.blocks]
    assert shapes == [
        *[(32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)],
        *[(512, 512, 1)] * 5,
        *[(512, 1024, 2), (1024, 1024, 1)],
    ]
    assert isinstance(model.blocks[3].act2, Maxout)
    theirs = models.create("reactnet_a", "reactnet", classes=5)
    assert isinstance(theirs.act1, nn.Identity) and isinstance(theirs.bn2, nn.Identity)
    assert isinstance(theirs.blocks[3].act2, RPReLU)


def test_blocks_of_meliusnet():
    """The dense block leaves its input in front; the improvement block changes the last 64 channels alone."""
    model = models.create("meliusnet22", "adabin", classes=5).eval()
    dense, improvement = model.stages[0][:2]
    x = torch.randn(2, 64, 5, 7)
    y = dense(x)
    assert torch.equal(y[:, :64], x) and torch.equal(y[:, 64:], dense.conv(dense.bn(x)))
    z = improvement(y)
    assert torch.equal(z[:, :64], x) and torch.equal(z[:, 64:], y[:, 64:] + improvement.conv(improvement.bn(y)))


def test_who_decides_the_nonlinearity():
    """Of MeliusNet its own paper, for every method, unless the caller does; of the others the method."""
    for method in ("adabin", "bnn", "reactnet"):
        model = models.create("meliusnet22", method, classes=5)
        assert not [m for m in model.modules() if isinstance(m, (Maxout, RPReLU, Hardtanh))]
        assert sum(isinstance(m, nn.ReLU) for m in model.modules()) == 3 + 3 + 1
    model = models.create("meliusnet22", "adabin", classes=5, structure={"nonlinearity": "maxout"})
    assert sum(isinstance(m, Maxout) for m in model.modules()) == 7
    assert model.config["structure"] == {"nonlinearity": "maxout"}


def test_alexnet_is_xnor_nets():
    """Norm, sign, convolution, pooling: what the authors' network computes where the nonlinearity changes no sign."""
    model = settle(models.create("alexnet", "xnor", classes=5, image_size=63), (3, 63, 63))
    layers = [type(layer).__name__ for layer in model.features]
    convolution = ["BinaryConv2d", "BatchNorm2d", "Hardtanh"]
    pooled = ["BinaryConv2d", "MaxPool2d", "BatchNorm2d", "Hardtanh"]
    assert layers == [
        "BatchNorm2d",
        "Hardtanh",
        *pooled,
        *convolution * 2,
        *pooled,
        *convolution,
        *convolution[:2],
        "ReLU",
    ]
    x = torch.randn(3, 3, 63, 63)
    with torch.no_grad():
        y = model.stem(x)
        for layer in model.features:
            y = y if isinstance(layer, Hardtanh) else layer(y)
        torch.testing.assert_close(model(x), model.linear(y.flatten(1)))
    whole = models.create("alexnet", "xnor", classes=5)
    weights = [tuple(layer.weight.shape) for layer in whole.modules() if isinstance(layer, nn.Conv2d)]
    assert weights == [
        *[(96, 3, 11, 11), (256, 96, 5, 5), (384, 256, 3, 3), (384, 384, 3, 3), (256, 384, 3, 3)],
        *[(4096, 256, 6, 6), (4096, 4096, 1, 1)],
    ]
    assert math.prod(whole.linear.weight.shape) == 4096 * 5


def test_images_that_alexnet_does_not_take():
    with pytest.raises(UserError, match="image size 62 is too small; choose 63 or more"):
        models.create("alexnet", "xnor", image_size=62)
