"""Models as training scripts leave them, and what they compute beside their weights: packed, or refused in one line."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel

import checks
from onebit import methods, models, pack
from onebit.errors import UserError
from onebit.nn import BinaryConv2d
from onebit.packing import comparison
from onebit.packing.preparation import prepared, unwrapped
from onebit.runtime import format, load

SHAPE = (3, 8, 8)


def network() -> nn.Sequential:
    binary = checks.conv(methods.create("adabin"), 8, 8, (3, 3), padding=1)
    stem, head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)
    net = nn.Sequential(stem, binary, nn.BatchNorm2d(8), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    net[2].running_mean.normal_()
    return net.eval()


class Around(nn.Module):
    """A network of 5 outputs, to be called in some way."""

    def __init__(self):
        super().__init__()
        self.net = network()


class Defaults(Around):
    def forward(self, x: Tensor, features: bool = False, *rest: Tensor, mask: Tensor | None = None) -> Tensor:
        return (x, self.net(x)) if features or mask is not None else self.net(x)


class Two(Around):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.net(x) + y


class Keyword(Around):
    def forward(self, x: Tensor, *, y: Tensor) -> Tensor:
        return self.net(x) + y


class Conv3x3(nn.Conv2d):
    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 3, padding=1)


class Standardized(nn.Conv2d):
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight - weight.mean((1, 2, 3), keepdim=True), bias)


def changed(change) -> nn.Module:
    net = network()
    change(net)
    return net


def around(layer: nn.Module) -> nn.Module:
    return nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()


def lazy() -> nn.Module:
    return around(nn.LazyConv2d(8, 3))


def initialized(net: nn.Module) -> nn.Module:
    net(torch.zeros(1, *SHAPE))
    return net


def hook(net: nn.Module) -> None:
    net[2].register_forward_hook(lambda layer, inputs, output: output.clamp(-0.5, 0.5))


def hook_before(net: nn.Module) -> None:
    net[1].register_forward_pre_hook(lambda layer, inputs: (-inputs[0],))


def hook_on_a_layer_that_does_nothing(net: nn.Module) -> None:
    net[3].register_forward_hook(lambda layer, inputs, output: output + 1)


def replaced(net: nn.Module) -> None:
    old = net[6].forward
    net[6].forward = lambda x: 3 * old(x)


def small_change(net: nn.Module) -> None:
    net[4].register_forward_hook(lambda layer, inputs, output: 1.01 * output)


def hook_of_all(net: nn.Module) -> None:
    net.register_forward_hook(lambda layer, inputs, output: 2 * output)


PACKED = {
    "DataParallel": lambda: nn.DataParallel(network()),
    "an average": lambda: AveragedModel(network()),
    "compiled": lambda: torch.compile(network()),
    "compiled in DataParallel": lambda: nn.DataParallel(torch.compile(network())),
    "a compiled layer": lambda: changed(lambda net: net.__setitem__(0, torch.compile(net[0]))),
    "compiled in place": lambda: changed(lambda net: net.compile()),
    "float64": lambda: network().double(),
    "float16": lambda: network().half(),
    "bfloat16": lambda: network().bfloat16(),
    "in training": lambda: network().train(),
    "arguments with defaults": lambda: Defaults().eval(),
    "a subclass": lambda: around(Conv3x3(3, 8)),
    "synchronized norms": lambda: nn.SyncBatchNorm.convert_sync_batchnorm(network()),
    "a weight norm": lambda: changed(lambda net: parametrizations.weight_norm(net[6])),
    "pruned": lambda: changed(lambda net: prune.l1_unstructured(net[0], "weight", 0.5)),
    "a lazy layer that has run": lambda: initialized(lazy()),
    "names with other letters": lambda: nn.Sequential(nn.Sequential(*network()[:4])).append(
        changed(lambda net: net.add_module("é +", nn.Identity()))[4:]
    ),
    "a hook that watches": lambda: changed(lambda net: net[0].register_forward_hook(lambda layer, inputs, y: None)),
    "a layer alone": lambda: nn.Conv2d(3, 5, 3),
    "a hook": lambda: changed(hook),
    "a hook before": lambda: changed(hook_before),
    "a hook on a layer that does nothing": lambda: changed(hook_on_a_layer_that_does_nothing),
    "a replaced forward": lambda: changed(replaced),
    "a hook of one per cent": lambda: changed(small_change),
    "a hook of the model": lambda: changed(hook_of_all),
    "a subclass that computes": lambda: around(Standardized(3, 8, 3)),
}


@pytest.mark.parametrize("what", PACKED)
def test_what_packs(what, tmp_path, capfd):
    model = PACKED[what]()
    pack(model, tmp_path / "net", input_shape=SHAPE, mean=0.5, std=np.float32(0.25))
    x = torch.randn(3, *SHAPE)
    with torch.no_grad():
        expected = prepared(unwrapped(model))(x).numpy()
    np.testing.assert_allclose(load(tmp_path / "net")(x.numpy()), expected, rtol=0, atol=1e-4)
    assert capfd.readouterr().err == ""


def test_names_of_layers_become_names_of_the_file(tmp_path):
    net = nn.Sequential()
    for name in ("conv é", "conv+é", "x" * 300):
        net.add_module(name, nn.Conv2d(3, 3, 1))
    pack(net.eval(), tmp_path / "net", input_shape=SHAPE)
    graph, _ = format.read(tmp_path / "net")
    assert graph.nodes[0].name == "conv__" and len({node.name for node in graph.nodes}) == 3


class Tripled(BinaryConv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 3 * super().forward(x)


def tripled() -> nn.Module:
    net = network()
    net[1].__class__ = Tripled
    return net


def replaced_binary(net: nn.Module) -> None:
    old = net[1].forward
    net[1].forward = lambda x: 3 * old(x)


REFUSED = {
    "a binary layer that computes": (tripled, "class Tripled changes what its base computes"),
    "a binary layer's replaced forward": (lambda: changed(replaced_binary), "its forward was replaced"),
    "two inputs": (lambda: Two(), "more than one input .*inputs="),
    "a keyword": (lambda: Keyword(), "more than one input .*inputs="),
    "no forward": (lambda: nn.Module(), "forward"),
    "lazy": (lazy, "0.weight has no shape"),
    "meta": (lambda: network().to("meta"), "meta"),
    "complex": (
        lambda: changed(lambda net: net.register_buffer("c", torch.zeros(1, dtype=torch.complex64))),
        "complex",
    ),
    "text": (lambda: "last.ckpt", "onebit pack"),
    "weights": (lambda: network().state_dict(), "load_state_dict"),
    "a class": (lambda: Two, "type"),
    "None": (lambda: None, "NoneType"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(what, tmp_path, capfd):
    make, says = REFUSED[what]
    with pytest.raises(UserError, match=says) as caught:
        pack(make(), tmp_path / "net", input_shape=SHAPE)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert not list(tmp_path.iterdir()) and capfd.readouterr().err == ""


@pytest.mark.parametrize("method", ["rbnn", "reactnet", "xnor", "float"])
@pytest.mark.parametrize("seed", range(3))
def test_networks_with_random_weights_are_not_refused(method, seed, tmp_path):
    torch.manual_seed(seed)
    model = models.create("resnet56", method, image_size=16).eval()
    pack(model, tmp_path / "net", mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])


def test_a_network_whose_values_overflow_is_not_refused(tmp_path):
    net = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(12)), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    for layer in net[:12]:
        layer.weight.data.mul_(1e4)
    pack(net, tmp_path / "net", input_shape=SHAPE)


def test_every_changed_number_of_a_file_is_found(tmp_path, monkeypatch):
    """The comparison sees each tensor: a file that differs from the model in one of them is not written."""
    found, plain = {}, comparison.compare

    def changed_one_by_one(lowering, places, graph, tensors, images):
        for name, array in tensors.items():
            other = copy.deepcopy(tensors)
            other[name] = 255 - array if array.dtype == np.uint8 else array + 0.1 + abs(array)
            with pytest.raises(UserError) as caught:
                plain(lowering, places, graph, other, images)
            found[name] = str(caught.value)
        plain(lowering, places, graph, tensors, images)

    monkeypatch.setattr("onebit.packing.pack.compare", changed_one_by_one)
    pack(network(), tmp_path / "net", input_shape=SHAPE)
    assert found.keys() == {"0.weight", "0.bias", "1.bits", "1.channels", "6.weight", "6.bias"}
    for name, message in found.items():
        assert message.startswith(f"layer {2 if name[0] == '1' else name[0]}: "), (name, message)


ARGUMENTS = {
    "height first": ({"input_shape": (8, 8, 3)}, r"\(height, width, channels\).*\(3, 8, 8\)"),
    "a batch": ({"input_shape": (1, 3, 8, 8)}, r"batch.*\(3, 8, 8\)"),
    "a size": ({"input_shape": 8}, "input_shape = 8"),
    "another number of channels": ({"input_shape": (4, 8, 8)}, "layer 0: .* 4 channels"),
    "one mean of three": ({"mean": [0.5]}, "mean = .* one per channel"),
    "a mean that is text": ({"mean": "half"}, "mean = 'half'"),
    "std 0": ({"std": 0}, "std = 0"),
    "an accuracy that is text": ({"accuracy": "good"}, "accuracy = 'good'"),
    "half a pixel": ({"resize": 7.5}, "resize = 7.5"),
    "labels that are text": ({"labels": "abcde"}, "labels = 'abcde'"),
    "a number as labels": ({"labels": 5}, "labels = 5"),
    "a number as scores": ({"scores": 5}, "scores = 5"),
    "a task that is no text": ({"task": "\udce9"}, "task="),
    "numbers as labels": ({"labels": [1, 2, 3, 4, 5]}, r"labels\[0\].*labels="),
    "a label that is no text": ({"labels": ["a", "caf\udce9"]}, r"labels\[1\].*labels="),
    "a name that is no text": ({"name": "\udce9"}, "name="),
    "a recipe that is too long": ({"recipe": "x" * 1001}, "recipe="),
}


@pytest.mark.parametrize("what", ARGUMENTS)
def test_arguments_are_checked_before_any_work(what, tmp_path, monkeypatch):
    arguments, says = ARGUMENTS[what]
    if what != "height first" and "channels" not in what:
        monkeypatch.setattr("onebit.packing.pack.prepared", lambda model: pytest.fail("work was done"))
    with pytest.raises(UserError, match=says):
        pack(network(), tmp_path / "net", **{"input_shape": SHAPE, **arguments})


def test_a_folder_as_a_name(tmp_path):
    for name in (f"{tmp_path}/folder/", ""):
        with pytest.raises(UserError, match="give the name of one"):
            pack(network(), name, input_shape=SHAPE)
    assert not list(tmp_path.iterdir())


def test_numbers_of_other_libraries(tmp_path):
    shape = tuple(np.array(SHAPE))
    pack(
        network(),
        tmp_path / "net",
        input_shape=shape,
        accuracy=np.mean([90, 91]),
        resize=np.int64(9),
        mean=torch.zeros(3),
    )
    model = load(tmp_path / "net")
    assert model.task.scores == {"accuracy": 90.5} and model.input_shape == SHAPE
