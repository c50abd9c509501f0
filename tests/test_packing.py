"""A packed network computes what PyTorch computes: every method in every model, and layers put together freely."""

import math
import operator
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import checks
from networks import SHAPES, check, settle
from onebit import methods, models, pack
from onebit.errors import UserError
from onebit.methods.method import Method
from onebit.nn import Maxout, OptionA, RPReLU, binary_layers
from onebit.runtime import format, load


def wirings(model: str) -> list[checks.Case]:
    """A method for each way in which methods wire this model; what they do in a layer, the smaller networks show."""
    family = models.MODELS[model].family
    return [
        (name, {}) for name in {methods.create(name).structure_of(family): name for name in methods.METHODS}.values()
    ]


NETWORKS = [("resnet8", case) for case in [("float", {}), *checks.cases()]]
NETWORKS += [(model, case) for model in ("resnet20", "resnet18", "vgg_small") for case in wirings(model)]


@pytest.mark.parametrize(
    ("model", "case"), NETWORKS, ids=[f"{model}-{checks.case_id(case)}" for model, case in NETWORKS]
)
def test_networks(model, case, tmp_path):
    shape = SHAPES[model]
    method, options = case
    network = models.create(model, method, classes=7, image_size=shape[1], options=options)
    check(settle(network, shape), tmp_path / "net.onebit", shape, oracle_images=2 if model == "resnet8" else 1)


class Free(nn.Module):
    """Layers of every kind in one network: groups, dilation, stride, odd channel counts, pools, linear after a map."""

    def __init__(self, method: Method):
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, padding=1)
        self.norm0 = nn.BatchNorm2d(24)
        self.conv1 = checks.conv(method, 24, 70, (3, 3), stride=2, padding=1, bias=True)
        self.norm1 = nn.BatchNorm2d(70)
        self.prelu = nn.PReLU(70)
        self.conv2 = checks.conv(method, 70, 70, (3, 3), padding=2, dilation=2, groups=5)
        self.norm2 = nn.BatchNorm2d(70)
        self.conv3 = checks.conv(method, 70, 70, (1, 3), padding=(0, 1), groups=70)
        self.norm3 = nn.BatchNorm2d(70)
        self.maxout = Maxout(70)
        self.max_pool = nn.MaxPool2d(2, ceil_mode=True)
        self.shortcut = OptionA(70, 75, 2)
        self.conv4 = checks.conv(method, 70, 75, (3, 2), stride=(2, 2), padding=(1, 1))
        self.rprelu = RPReLU(75)
        self.avg_pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        self.shared = nn.PReLU()
        self.hidden = checks.linear(method, 75 * 2 * 2, 33, bias=True)
        self.norm4 = nn.BatchNorm1d(33)
        self.dropout = nn.Dropout()
        self.linear = nn.Linear(33, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm0(self.stem(x))  # (B, 24, 13, 11)
        x = self.prelu(self.norm1(self.conv1(x)))  # (B, 70, 7, 6)
        x = F.hardtanh(x + self.norm2(self.conv2(x)))
        x = self.maxout(self.norm3(self.conv3(x)) + x)
        x = self.max_pool(x)  # (B, 70, 4, 3)
        x = torch.add(self.conv4(x), self.shortcut(x))  # (B, 75, 2, 2)
        x = self.shared(self.avg_pool(self.rprelu(x)))
        x = F.relu(self.norm4(self.hidden(x.flatten(1))))  # (B, 33)
        return self.linear(self.dropout(x))


@pytest.mark.parametrize("case", checks.cases(), ids=checks.case_id)
def test_layers_of_every_kind(case, tmp_path):
    name, options = case
    shape = (3, 13, 11)
    model = settle(Free(methods.create(name, **options)), shape)
    check(model, tmp_path / "net.onebit", shape, flattened={"hidden": (75, 2, 2)})


class Mixed(nn.Module):
    """Thresholds and norms of flattened maps: everything per element must be reordered."""

    def __init__(self, method: Method):
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, padding=1)
        self.norm = nn.BatchNorm1d(6 * 5 * 4)
        self.prelu = nn.PReLU(6 * 5 * 4)
        self.hidden = checks.linear(method, 6 * 5 * 4, 9)
        self.linear = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.norm(torch.flatten(self.conv(x), 1)))
        return self.linear(torch.relu(self.hidden(x)))


@pytest.mark.parametrize("name", ["reactnet", "adabin", "rbnn"])
def test_elements_of_a_flattened_map_keep_their_order(name, tmp_path):
    model = settle(Mixed(methods.create(name)), (2, 5, 4))
    check(model, tmp_path / "net.onebit", (2, 5, 4), flattened={"hidden": (6, 5, 4)})


def test_linear_after_a_map(tmp_path):
    model = nn.Sequential(nn.Conv2d(2, 5, 3), nn.Flatten(), nn.Linear(5 * 4 * 3, 6))
    check(settle(model, (2, 6, 5)), tmp_path / "net.onebit", (2, 6, 5))


def test_training_state_stays_behind(tmp_path):
    """gamma, last weights and schedules change nothing in the file; rotations and latent weights are not in it."""
    for method, suffixes in (
        ("rebnn", ("gamma", "last_weight", "last_scale")),
        ("rbnn", ("surrogate.t", "surrogate.k")),
    ):
        model = settle(models.create("resnet8", method, image_size=8), (3, 8, 8))
        pack(model, tmp_path / "one")
        touched = 0
        for name, buffer in model.named_buffers():
            if name.endswith(suffixes):
                buffer.add_(torch.rand_like(buffer))
                touched += 1
        assert touched >= 2 * len(binary_layers(model))
        pack(model, tmp_path / "two")
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
        binary = {name: layer for name, layer in binary_layers(model)}
        _, tensors = format.read(tmp_path / "one")
        for name, layer in binary.items():
            mine = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.rpartition(".")[0] == name}
            assert mine.keys() <= {"bits", "channels", "threshold"}
            out = layer.out_channels
            assert mine["bits"].nbytes == out * math.ceil(layer.weight[0].numel() / 8)
            assert mine["channels"].size <= 3 * out


# ---- what cannot be packed


class Call(nn.Module):
    """A network around one function of (the network, a map)."""

    def __init__(self, function: Callable[["Call", Tensor], Tensor]):
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(3, 4, 1)
        self.binary = checks.conv(methods.create("adabin"), 4, 4, (3, 3), padding=1)
        self.conv2 = nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.linear = nn.Linear(4 * 6 * 6, 4 * 6 * 6)
        self.constant = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, self.norm(self.binary(self.conv(x))))


def changed_after(view: Tensor, x: Tensor) -> Tensor:
    F.relu(x, inplace=True)
    return view


REFUSED = {
    "control flow": (lambda net, x: x if x.sum() > 0 else -x, "traced at test_packing.py line"),
    "a number of a tensor": (lambda net, x: x * x.mean().item(), "item() of a tensor"),
    "numpy": (lambda net, x: torch.from_numpy(np.sin(x.detach().numpy())), "numpy() of a tensor"),
    "unknown function": (lambda net, x: torch.sin(x), "sin (test_packing.py line"),
    "unknown method": (lambda net, x: x.mean((1, 2)), "mean"),
    "a weight that is computed": (
        lambda net, x: F.linear(x.flatten(1), x.flatten(1)),
        "a weight that depends on an input",
    ),
    "another dimension": (lambda net, x: x + torch.ones(2, 4, 6, 1, 6).amax(3) * torch.ones(3, 1, 1, 1, 1), "makes"),
    "a constant for each image": (
        lambda net, x: x + torch.arange(2.0).reshape(2, 1, 1, 1),
        "differs between the images",
    ),
    "hardtanh between orders": (lambda net, x: F.hardtanh(x, 2.0, -2.0), ""),
    "flatten of everything": (lambda net, x: x.flatten(), "flatten"),
    "flatten of two dimensions": (lambda net, x: x.flatten(1, 2), "axes in an order"),
    "two orders": (lambda net, x: x.flatten(1) + net.linear(x.flatten(1)), "order"),
    "a change under a view": (
        lambda net, x: net.linear(x.flatten(1)) + net.linear(changed_after(x.flatten(1), x)),
        "in place",
    ),
    "a value written into another": (lambda net, x: written(torch.zeros_like(x), x), "writes into a tensor"),
    "no tensor beside the output": (lambda net, x: (F.relu(x), None), "NoneType as 'output1'"),
    "outputs in each other": (lambda net, x: {"a": (F.relu(x),)}, "tuple as 'a'"),
    "a name that no file holds": (lambda net, x: {"a b": F.relu(x)}, "named 'a b'"),
    "nothing": (lambda net, x: {}, "0 tensors"),
    "channels last": (lambda net, x: x.permute(0, 2, 3, 1), "axes in an order"),
    "a convolution of columns": (lambda net, x: net.conv2(x.transpose(1, 2)[:, :4]), "layer conv2: reads"),
    "random numbers": (lambda net, x: x + torch.randn(4, 1, 1), "differently each time"),
    "dropout": (lambda net, x: F.dropout(x), "random"),
}


def written(into: Tensor, x: Tensor) -> Tensor:
    into[:, 1:] = x[:, 1:]
    return into


TAKEN = {
    "a constant": lambda net, x: x + 1.0,
    "a constant in front": lambda net, x: 2 - x,
    "a quotient": lambda net, x: x / 3,
    "a keyword": lambda net, x: torch.relu(input=x),
    "a parameter": lambda net, x: x + net.constant,
    "a number for each pixel": lambda net, x: x * torch.linspace(0, 1, 36).reshape(6, 6),
    "a scaled sum": lambda net, x: torch.add(x, net.conv2(x), alpha=2),
    "a difference": lambda net, x: x - net.conv2(x),
    "a change in place": lambda net, x: F.relu(x, inplace=True) + x,
    "a sum in place": lambda net, x: operator.iadd(x, net.conv2(x)) + x,
    "a view": lambda net, x: net.conv2(x.flatten(2).unflatten(2, (6, 6))),
    "a condition of sizes": lambda net, x: F.relu(x) if x.shape[1] == 4 and len(x) > 0 else x,
    "a type that is asked for": lambda net, x: F.relu(x) if isinstance(x, Tensor) else x[0],
    "channels last": lambda net, x: F.linear(x.permute(0, 2, 3, 1), net.conv2.weight[:, :, 0, 0]).permute(0, 3, 1, 2),
    "a norm of weights": lambda net, x: F.conv2d(x, F.normalize(net.conv2.weight, dim=1), padding="same"),
    "parts of the channels": lambda net, x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "rows and columns": lambda net, x: x[:, 1:3, ::2, -4:],
    "the function of a layer": lambda net, x: F.batch_norm(x, net.norm.running_mean, net.norm.running_var, eps=0.5),
    "maps behind each other": lambda net, x: torch.cat([x, net.conv2(x)], 3),
    "a pool of a divisor": lambda net, x: F.adaptive_avg_pool2d(x, (2, 3)),
    "the mean of rows of a linear layer": lambda net, x: net.linear(x.reshape(len(x), -1)) * 2,
}


@pytest.mark.parametrize("what", TAKEN)
def test_functions_that_need_no_operator_of_their_own(what, tmp_path):
    model = settle(Call(TAKEN[what]), (3, 6, 6))
    check(model, tmp_path / "net", (3, 6, 6))


def test_changes_in_place_that_nobody_sees(tmp_path):
    """As torchvision's ResNets have them: the old value is not read again."""

    def forward(net: Call, x: Tensor) -> Tensor:
        y = F.relu(x, inplace=True)
        z = net.conv2(y)
        z += y
        return F.relu(z, inplace=True)

    check(settle(Call(forward), (3, 6, 6)), tmp_path / "net", (3, 6, 6))


def test_a_layer_may_be_called_input(tmp_path):
    model = nn.Sequential(OrderedDict(input=nn.Conv2d(3, 4, 1), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten()))
    pack(model.eval(), tmp_path / "net", input_shape=(3, 6, 6))
    x = torch.randn(2, 3, 6, 6)
    np.testing.assert_allclose(load(tmp_path / "net")(x.numpy()), model(x).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("what", REFUSED)
def test_functions_without_an_operator_are_refused(what, tmp_path):
    function, named = REFUSED[what]
    refused(Call(function).eval(), tmp_path, named)


def refused(model: nn.Module, folder: Path, named: str, shape: tuple[int, int, int] | None = (3, 6, 6)) -> None:
    """UserError of one line that names the culprit; a file of that name stays as it was, and no other is left."""
    path = folder / "net.onebit"
    path.write_bytes(b"precious")
    with pytest.raises(UserError) as caught:
        pack(model, path, input_shape=shape)
    message = str(caught.value)
    assert named in message and "\n" not in message and len(message) < 500, message
    assert path.read_bytes() == b"precious"
    assert [p.name for p in folder.iterdir()] == ["net.onebit"]


def test_unknown_layers_are_refused(tmp_path):
    for layer in (
        nn.Softplus(),
        nn.AdaptiveAvgPool2d(4),
        nn.MaxPool2d(2, dilation=2),
        nn.BatchNorm2d(3, track_running_stats=False),
        checks.conv(Method("half", methods.create("bnn").weight, lambda channels: None), 3, 3, (1, 1)),
    ):
        model = nn.Sequential(nn.Conv2d(3, 3, 1), layer, nn.Flatten()).eval()
        refused(model, tmp_path, "" if isinstance(layer, nn.BatchNorm2d) else "1")
    refused(nn.Sequential(nn.Linear(6, 2)), tmp_path, "")  # of rows, not of a vector
    refused(nn.Sequential(nn.Conv2d(4, 2, 1)), tmp_path, "layer 0")  # another number of channels
    refused(nn.Sequential(nn.Conv2d(3, 2, 1)), tmp_path, "input_shape", shape=None)


def test_a_flattened_map_as_output_is_refused(tmp_path):
    """PyTorch orders the elements (C, H, W), the format (H, W, C)."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten()).eval()
    refused(model, tmp_path, "order")


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    "name",
    [
        "conv1.weight",
        "bn1.bias",
        "bn1.running_var",
        "stages.0.0.conv1.weight",
        "stages.1.0.conv2.activation_binarizer.alpha",
        "stages.1.0.conv2.activation_binarizer.beta",
        "stages.0.0.bn1.running_mean",
        "stages.0.0.act1.positive",
        "linear.bias",
    ],
)
def test_values_that_are_not_finite_are_refused(name, value, tmp_path):
    model = models.create("resnet8", "adabin", image_size=8).eval()
    tensor = dict([*model.named_parameters(), *model.named_buffers()])[name]
    with torch.no_grad():
        tensor.view(-1)[0] = value
    layer = name.rpartition(".activation_binarizer")[0] or name.rpartition(".")[0]
    if name.endswith("running_var") and value == math.inf:
        return  # 1 / sqrt(inf) is 0, a finite scale
    refused(model, tmp_path, layer.replace("bn1", "conv1"), shape=None)


def test_equal_activation_values_are_refused(tmp_path):
    model = models.create("resnet8", "adabin", image_size=8)
    with torch.no_grad():
        model.stages[0][0].conv1.activation_binarizer.alpha.zero_()
    refused(model, tmp_path, "stages.0.0.conv1", shape=None)


def test_an_unwritable_place_is_refused(tmp_path):
    model = models.create("resnet8", "bnn", image_size=8)
    with pytest.raises(UserError, match="cannot write"):
        pack(model, tmp_path / "missing" / "net.onebit")
