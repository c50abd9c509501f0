"""ImageNet's ResNet-18 and -34: torchvision's networks with real operands, the papers' structures with binary ones, and the
same logits in the packed file, at even and odd sizes."""

import math
import re

import pytest
import torch
import torchvision
from torch import nn

from networks import check, settle
from onebit import models, pack
from onebit.errors import UserError
from onebit.nn.layers import BinaryConv2d, binary_layers
from onebit.nn.structure import NONLINEARITIES

ODD = (3, 65, 63)  # maps of 33x32, 17x16, 9x8, 5x4, 3x2 pixels
CASES = [("imagenet_resnet18", m) for m in ("float", "rbnn", "adabin", "rebnn", "reactnet", "bireal")]
CASES += [("imagenet_resnet34", "adabin")]


@pytest.mark.parametrize(("model", "method"), CASES)
def test_packed_networks_compute_the_same(model, method, tmp_path):
    network = settle(models.create(model, method, classes=7, image_size=65), ODD)
    check(network, tmp_path / "net.onebit", ODD, images=4, oracle_images=1)


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_the_float_parent_is_torchvisions_network(name):
    """The same tensors under other names, the same number of parameters, and the same logits."""
    theirs = getattr(torchvision.models, name)(num_classes=10).eval()
    ours = models.create(f"imagenet_{name}", "float", image_size=64).eval()
    state = {}
    for key, value in theirs.state_dict().items():
        key = re.sub(r"^layer(\d)", lambda m: f"stages.{int(m[1]) - 1}", key)
        state[key.replace("downsample", "shortcut").replace("fc.", "linear.")] = value
    ours.load_state_dict(state, strict=True)
    x = torch.randn(2, *ODD)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)


def test_rbnn_starts_its_norms_as_its_authors_do():
    """1e-8 in ResNet-20 and the ImageNet networks, 1 in ResNet-18 and VGG-small."""
    for name, value in (("resnet20", 1e-8), ("resnet18", 1.0), ("vgg_small", 1.0), ("imagenet_resnet18", 1e-8)):
        size = 64 if name.startswith("imagenet") else 32
        model = models.create(name, "rbnn", classes=5, image_size=size)
        for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
            torch.testing.assert_close(norm.weight, torch.full_like(norm.weight, value), rtol=0, atol=0)


FACTS = {  # block, nonlinearity, average pooling before the 1x1 shortcut, batch norm before the linear layer, after the stem
    "float": ("plain", "relu", False, False, True),
    "rbnn": ("bireal", "hardtanh", False, True, True),
    "adabin": ("bireal", "maxout", True, True, True),
    "rebnn": ("bireal", "rprelu", True, False, False),
    "reactnet": ("bireal", "rprelu", True, False, False),
    "bireal": ("bireal", "identity", True, True, True),
}


@pytest.mark.parametrize("method", FACTS)
def test_the_papers_structures(method):
    block, name, average, head_norm, stem = FACTS[method]
    nonlinearity = type(NONLINEARITIES[name](1))
    model = models.create("imagenet_resnet34", method, classes=5, image_size=64)
    assert [len(stage) for stage in model.stages] == [3, 4, 6, 3]
    assert (model.conv1.kernel_size, model.conv1.stride, model.conv1.out_channels) == ((7, 7), (2, 2), 64)
    assert isinstance(model.act1, nonlinearity if stem else nn.Identity)
    assert isinstance(model.bn2, nn.BatchNorm1d if head_norm else nn.Identity)
    assert type(model.linear) is nn.Linear
    binary = [name for name, _ in binary_layers(model)]
    assert binary == (
        [] if method == "float" else [n for n, m in model.named_modules() if re.search(r"\d\.conv\d$", n)]
    )
    for index, stage in enumerate(model.stages):
        for position, part in enumerate(stage):
            assert part.bireal == (block == "bireal")
            assert isinstance(part.act1, nonlinearity) and isinstance(part.act2, nonlinearity)
            kinds = [type(layer) for layer in part.shortcut.children()]
            if index == 0 or position:
                assert isinstance(part.shortcut, nn.Identity)
            else:
                assert kinds == ([nn.AvgPool2d] if average else []) + [nn.Conv2d, nn.BatchNorm2d]
                assert part.shortcut[-2].stride == ((1, 1) if average else (2, 2))
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        torch.testing.assert_close(norm.weight, torch.full_like(norm.weight, 1e-8 if method == "rbnn" else 1.0))
    for layer in (model.conv1, model.stages[3][2].conv2, model.stages[2][0].conv1, model.stages[2][0].shortcut[-2]):
        outputs, inputs, *kernel = layer.weight.shape
        fan = math.prod(kernel) * (inputs if method == "rbnn" else outputs)
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan), rel=0.03)


def test_an_average_of_odd_sizes_is_of_the_pixels_that_there_are():
    model = models.create("imagenet_resnet18", "reactnet", image_size=64)
    pool = model.stages[1][0].shortcut[0]
    x = torch.arange(15.0).reshape(1, 1, 3, 5)
    torch.testing.assert_close(pool(x), torch.tensor([[[[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]]]]))


# ---- binary activations, real weights


def test_binary_activations_alone(tmp_path):
    """Real weights and their gradient, binary inputs of every convolution; such a network is not packed."""
    model = models.create("imagenet_resnet18", "rebnn", classes=5, image_size=32, binarize="activations")
    assert model.config["binarize"] == "activations"
    layer = model.stages[1][0].conv1
    assert isinstance(layer, BinaryConv2d) and layer.weight_binarizer is None
    x = torch.randn(2, 64, 5, 5)
    signs = torch.where(x >= 0, 1.0, -1.0)
    expected = nn.functional.conv2d(signs, layer.weight, stride=2, padding=1)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.eval()(x), expected)
    with pytest.raises(UserError, match="last training step"):
        pack(model, tmp_path / "net")
    again = models.create(**model.config)
    assert again.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("method", "binarize", "named"), [("float", "activations", "float"), ("bnn", "both ", "both ")]
)
def test_operands_that_cannot_be_binarized_are_refused(method, binarize, named):
    with pytest.raises(UserError, match=named):
        models.create("resnet8", method, binarize=binarize)
