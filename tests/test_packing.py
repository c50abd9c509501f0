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
from onebit import methods, models, pack
from onebit.errors import UserError
from onebit.nn import layers
from onebit.nn.layers import BinaryConv2d, BinaryLinear, OptionA, binary_layers
from onebit.nn.nonlinearities import Maxout, RPReLU
from onebit.runtime import format, load, native

BACKENDS = ["engine", "reference"] if native.available() else ["reference"]


@torch.no_grad()
def settle(model: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """A model as training leaves it: batch statistics of its own activations, parameters of both signs."""
    checks.disturb(model)
    layers.set_progress(model, 0.5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # the running statistics become those of the batches below
            size = 0.5 + torch.rand_like(module.weight)
            module.weight.copy_(torch.where(torch.rand_like(size) < 0.3, -size, size))
            module.bias.normal_(0, 0.3)
        elif isinstance(module, Maxout | RPReLU | nn.PReLU):
            for parameter in module.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        elif isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            module.bias.normal_(0, 0.3)
    model.train()
    model(torch.randn(6, *shape))
    return model.eval()


class Watch:
    """Records, while a model runs, how close to its threshold the closest activation of each image came.

    Float32 sums differ in their last digits between PyTorch and the engine. An activation closer to its threshold than
    that takes either value, and the image's logits then say nothing.
    """

    def __init__(self, model: nn.Module, images: int):
        self.margin = torch.full((images,), math.inf)
        for _, layer in binary_layers(model):
            layer.register_forward_pre_hook(self.see)

    def see(self, layer: nn.Module, inputs: tuple[Tensor]) -> None:
        (x,) = inputs
        threshold = layer.activation_binarizer.freeze().threshold
        if isinstance(threshold, str):
            threshold = x.mean(dim=tuple(range(1, x.dim())), keepdim=True)
        elif isinstance(threshold, Tensor):
            threshold = threshold.reshape(1, -1, *[1] * (x.dim() - 2))
        relative = ((x - threshold).abs() / x.square().mean().sqrt()).flatten(1).amin(1)
        self.margin = torch.minimum(self.margin, relative)


def binary_sums(layer: BinaryConv2d | BinaryLinear, x: np.ndarray) -> Tensor:
    """The integer sums A*B of a layer by PyTorch's convolution of +-1 in float64, from the engine's own input x."""
    values = torch.from_numpy(x).double()
    signs = layer.weight_binarizer.freeze(layer.weight.detach()).signs.double()
    threshold = layer.activation_binarizer.freeze().threshold
    if isinstance(threshold, str):
        threshold = torch.from_numpy(x).double().mean(dim=tuple(range(1, x.ndim)), keepdim=True).float().double()
    elif isinstance(threshold, Tensor):
        threshold = threshold.double().reshape(1, -1, *[1] * (x.ndim - 2))
    a = torch.where(values >= threshold, 1.0, -1.0).double()
    if isinstance(layer, BinaryLinear):
        return a @ signs.T
    return F.conv2d(a, signs, None, layer.stride, layer.padding, layer.dilation, layer.groups)


def check(
    model: nn.Module,
    path: Path,
    shape: tuple[int, int, int],
    images: int = 6,
    oracle_images: int = 2,
    flattened: dict[str, tuple[int, int, int]] | None = None,
) -> None:
    """Pack, load in both backends, and compare: sums to the integer, logits to 1e-3.

    flattened: (C, H, W) of the maps that linear layers read; the file orders their elements (H, W, C).
    """
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pack(model, path, input_shape=shape)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "pack changed the model"
    x = torch.randn(images, *shape)
    runtimes = [load(path, backend=backend) for backend in BACKENDS]
    traces = [runtime.trace(x[:oracle_images].numpy()) for runtime in runtimes]
    named = dict(binary_layers(model))
    nodes = {node["name"]: node for node in runtimes[0].graph["nodes"]}
    assert named.keys() <= nodes.keys()
    for name, layer in named.items():
        sums = [trace[f"{name}:accumulator"] for trace in traces]
        assert all(s.dtype == np.int32 for s in sums)
        assert all(np.array_equal(s, sums[0]) for s in sums)
        source = nodes[name]["inputs"][0]
        source = traces[0][source] if source in nodes else x[:oracle_images].numpy()
        if name in (flattened or {}):
            channels, height, width = flattened[name]
            source = source.reshape(-1, height, width, channels).transpose(0, 3, 1, 2).reshape(len(source), -1)
        expected = binary_sums(layer, source).numpy()
        turned = np.abs(expected - sums[0]).sum(axis=(0, *range(2, expected.ndim))) != 0
        expected[:, turned] *= -1  # a negative scale is moved into the bits of its channel, whole
        np.testing.assert_array_equal(sums[0], expected, err_msg=name)
    watch = Watch(model, images)
    with torch.inference_mode():
        logits = model(x).numpy()
    counted = (watch.margin > 2e-6).numpy()
    assert counted.sum() >= 2, "too many images with an activation on its threshold; take another seed"
    for runtime, part in zip(runtimes, (images, oracle_images), strict=False):
        chosen = counted[:part]
        difference = np.abs(runtime(x[:part].numpy()) - logits[:part])[chosen]
        assert difference.size == 0 or difference.max() < 1e-3 * max(1.0, np.abs(logits).max())


SHAPES = {"resnet8": (3, 13, 11), "resnet20": (3, 13, 11), "resnet18": (3, 12, 9), "vgg_small": (3, 8, 8)}
DEFAULTS = [(name, {}) for name in methods.METHODS]
NETWORKS = [("resnet8", case) for case in [("float", {}), *checks.cases()]]
NETWORKS += [(model, case) for model in ("resnet20", "resnet18", "vgg_small") for case in DEFAULTS]


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

    def __init__(self, method: methods.Method):
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

    def __init__(self, method: methods.Method):
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
    for method, suffixes in (("rebnn", ("gamma", "last_weight", "last_scale")), ("rbnn", ("schedule.t", "schedule.k"))):
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
    "control flow": (lambda net, x: x if x.sum() > 0 else -x, "traced"),
    "unknown function": (lambda net, x: torch.sigmoid(x), "sigmoid"),
    "unknown method": (lambda net, x: x.mean((2, 3)), "mean"),
    "product": (lambda net, x: x * x, "mul"),
    "a constant": (lambda net, x: x + 1.0, "constant"),
    "a keyword": (lambda net, x: torch.relu(input=x), "keyword"),
    "a parameter": (lambda net, x: x + net.constant, "constant"),
    "a scaled sum": (lambda net, x: torch.add(x, x, alpha=2), "alpha"),
    "another hardtanh": (lambda net, x: F.hardtanh(x, -2.0, 2.0), "hardtanh"),
    "another hardtanh by name": (lambda net, x: F.hardtanh(x, max_val=6.0), "hardtanh"),
    "flatten of everything": (lambda net, x: x.flatten(), "flatten"),
    "flatten of rows": (lambda net, x: torch.flatten(x, 2), "flatten"),
    "flatten of two dimensions": (lambda net, x: x.flatten(1, 2), "flatten"),
    "flatten of two by name": (lambda net, x: x.flatten(start_dim=1, end_dim=2), "flatten"),
    "two orders": (lambda net, x: x.flatten(1) + net.linear(x.flatten(1)), "order"),
    "a change in place": (lambda net, x: F.relu(x, inplace=True) + x, "in place, which add reads"),
    "a sum in place": (lambda net, x: operator.iadd(x, net.conv2(x)) + x, "in place"),
    "a change under a view": (
        lambda net, x: net.linear(x.flatten(1)) + net.linear(changed_after(x.flatten(1), x)),
        "in place",
    ),
    "two outputs": (lambda net, x: (x, x), "more than one"),
}


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
        nn.GELU(),
        nn.Hardtanh(-2, 2),
        nn.AdaptiveAvgPool2d(2),
        nn.MaxPool2d(2, dilation=2),
        nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(3, 3, 3, padding="same"),
        nn.BatchNorm2d(3, track_running_stats=False),
        nn.Flatten(1, 2),
        checks.conv(methods.Method("half", methods.create("bnn").weight, lambda channels: None), 3, 3, (1, 1)),
    ):
        model = nn.Sequential(nn.Conv2d(3, 3, 1), layer, nn.Flatten()).eval()
        refused(model, tmp_path, "" if isinstance(layer, nn.BatchNorm2d) else "1")
    refused(nn.Sequential(nn.Linear(6, 2)), tmp_path, "")  # of rows, not of a vector
    refused(nn.Sequential(nn.Conv2d(4, 2, 1)), tmp_path, "traced")  # another number of channels
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
