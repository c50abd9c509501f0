"""`onebit.binarize`: networks of others become binary in place, and what is left is said with its reason."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import onebit
from checks import case_id, cases
from onebit import methods
from onebit.errors import UserError
from onebit.models.conversion import Conversion
from onebit.models.dataflow import dataflow
from onebit.models.thresholds import constant_signs
from onebit.nn import BinaryConv2d, BinaryLinear, binary_layers

METHODS = [case for case in cases() if case[0] != "float"]


class Own(nn.Module):
    """A script's network: a functional call, a block of its own, a layer in a plain list, one used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.norm = nn.BatchNorm2d(32)
        self.depth = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.shared = nn.Conv2d(32, 32, 3, padding="same", bias=True)
        self.narrow = nn.Conv2d(32, 16, 1)
        self.wide = nn.Conv2d(16, 64, 3, padding=1, padding_mode="reflect")
        self.behind = nn.Conv2d(64, 64, 1)
        self.head = nn.Linear(64, 5)
        self.listed = [self.behind]

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        x = self.shared(self.shared(self.depth(x)))
        x = F.relu(self.wide(self.narrow(x)))
        x = self.listed[0](F.max_pool2d(x, 2))
        return self.head(x.mean((2, 3)))


class Branching(nn.Module):
    """Looks at values, so that no symbolic trace is possible. Its last layer is registered first."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(32, 4)
        self.a, self.b, self.unused = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x).relu())
        return self.out(x if x.sum() > 0 else -x)


def quiet(model: nn.Module, *arguments: object, **options: object) -> Conversion:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return onebit.binarize(model, *arguments, **options)


def test_what_is_left_by_default_and_why():
    model = Own()
    table = quiet(model)
    assert table.converted == ["shared", "behind"]
    assert table.left == {
        "stem": "first layer",
        "depth": "depth-wise",
        "narrow": "1x1 of 16 channels",
        "wide": "padding mode reflect",
        "head": "last layer",
    }
    text = str(table).splitlines()
    assert len(text) == 10 and text[-1] == "4 new parameters to train: make the optimizer after this"
    text.pop()
    assert text[-1].startswith("2 of 7 layers binary, 13,312 of ")
    assert [line for line in text if "64x64x1x1" in line and "binary" in line and "never negative (relu)" in line]


def test_a_layer_stays_the_object_it_was():
    torch.manual_seed(0)
    model = Own().double().eval()
    model.behind.weight.requires_grad_(False)
    calls = []
    model.shared.register_forward_hook(lambda *_: calls.append("hook"))
    before, keys = copy.deepcopy(model.state_dict()), set(model.state_dict())
    objects = {
        name: (id(layer), id(layer.weight), id(layer.bias))
        for name, layer in model.named_modules()
        if name in ("shared", "behind")
    }
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    quiet(model)
    assert type(model.shared) is type(model.behind) is BinaryConv2d
    assert model.listed[0] is model.behind
    for name, (layer, weight, bias) in objects.items():
        now = model.get_submodule(name)
        assert (id(now), id(now.weight), id(now.bias)) == (layer, weight, bias)
    assert keys < set(model.state_dict())
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert not any(module.training for module in model.modules())
    assert not any(p.requires_grad for p in model.behind.activation_binarizer.parameters())
    assert all(p.requires_grad for p in model.shared.activation_binarizer.parameters())
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    model(x).sum().backward()
    assert calls == ["hook", "hook"], "called twice, as before"
    optimizer.step()
    assert not torch.equal(model.shared.weight, before["shared.weight"]), "the optimizer made before still holds it"


@pytest.mark.parametrize(
    "skip, also, converted",
    [
        ("shared", None, ["behind"]),
        (["beh*"], None, ["shared"]),
        (None, ["narrow", "stem"], ["stem", "shared", "narrow", "behind"]),
        (lambda name, layer: layer.bias is not None and name > "c", "head", ["behind"]),
        (nn.BatchNorm2d, None, "BatchNorm2d names no convolution or linear layer of Own"),
        ("sharde", None, "did you mean 'shared'"),
        (["layer*.conv"], None, "skip = 'layer*.conv' names no"),
        (None, ["heat"], "also = 'heat' names no"),
        ([3], None, "skip: 3 is none of a name, a pattern, a type"),
        (nn.Conv2d, None, "none of the 7 layers of Own would become binary, such as stem: skip: Conv2d"),
    ],
)
def test_choices(skip, also, converted):
    model = Own()
    if isinstance(converted, list):
        assert quiet(model, skip=skip, also=also).converted == converted
        return
    with pytest.raises(UserError, match=converted.replace("*", r"\*")):
        quiet(model, skip=skip, also=also)
    assert not binary_layers(model)


def test_names_of_containers_stand_for_their_layers():
    model = torchvision.models.resnet18(num_classes=3)
    left = quiet(model, skip="layer4").left
    assert {name for name in left if name.startswith("layer")} == {
        name for name, m in model.named_modules() if name.startswith("layer4") and isinstance(m, nn.Conv2d)
    }


def odd_layers() -> dict[str, tuple[nn.Module, str]]:
    class Scaled(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    class Unchanged(nn.Conv2d):
        pass

    replaced = nn.Conv2d(32, 32, 3)
    replaced.forward = lambda x: x
    hooked = nn.Conv2d(32, 32, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hooked = torch.nn.utils.weight_norm(hooked)
    return {
        "subclass": (Unchanged(32, 32, 3, padding=1), ""),
        "own": (Scaled(32, 32, 3), "Scaled has a forward pass of its own"),
        "same": (timm.layers.Conv2dSame(32, 32, 3), "Conv2dSame has a forward pass of its own"),
        "standardized": (timm.layers.ScaledStdConv2d(32, 32, 3), "ScaledStdConv2d has a forward pass of its own"),
        "replaced": (replaced, "Conv2d has a forward pass of its own"),
        "normed": (parametrizations.weight_norm(nn.Conv2d(32, 32, 3)), "its weight is parametrized"),
        "hooked": (hooked, "its weight is made by a hook"),
        "complex": (nn.Conv2d(32, 32, 3, dtype=torch.complex64), "its weight is torch.complex64"),
        "transposed": (nn.ConvTranspose2d(32, 32, 3), "ConvTranspose2d has no binary form"),
        "solid": (nn.Conv3d(32, 32, 3), "Conv3d has no binary form"),
        "even": (nn.Conv2d(32, 32, 2, padding="same"), "'same' padding of an even kernel"),
        "timm": (timm.layers.Linear(32, 32), ""),
    }


@pytest.mark.parametrize("kind", odd_layers())
def test_layers_without_a_binary_form_are_left_with_the_reason(kind):
    layer, reason = odd_layers()[kind]
    model = nn.ModuleDict(
        {"stem": nn.Conv2d(3, 32, 3), "odd": layer, "plain": nn.Conv2d(32, 32, 3), "head": nn.Linear(32, 2)}
    )
    table = quiet(model)  # no forward pass, hence no trace
    assert ("odd" in table.converted) == (reason == "")
    assert table.left.get("odd", "").startswith(reason)
    assert "plain" in table.converted


def test_shared_weights_and_weights_that_the_network_reads():
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.d = (nn.Linear(32, 32) for _ in range(4))
            self.e, self.f = nn.Linear(32, 32), nn.Linear(32, 32)
            self.c.weight = self.b.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.f(F.linear(self.c(self.b(self.a(x))), self.d.weight))

    assert quiet(model := Reads()).left == {
        "a": "first layer",
        "c": "shares its weight with b",
        "d": "the network reads its weight itself",
        "e": "the network does not call it",
        "f": "last layer",
    }
    assert isinstance(model.b, BinaryLinear)


def test_a_transformer_of_pytorch_evaluates_its_binary_layers():
    """Its fast path, which would read the real weights, is off; the projection of its attention is left."""
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
    model = nn.Sequential(nn.Linear(8, 32), layer, nn.Linear(32, 2)).eval()
    table = quiet(model)
    assert table.converted == ["1.linear1", "1.linear2"]
    assert table.left["1.self_attn.out_proj"] == "MultiheadAttention reads its weight itself"
    x = torch.randn(3, 5, 8)
    with torch.no_grad():
        fast = model(x)
    slow = model(x)
    assert torch.allclose(fast, slow, atol=1e-5)
    layer.linear2.weight.data.neg_()
    with torch.no_grad():
        assert not torch.allclose(model(x), fast, atol=1e-3)


def test_without_a_trace_the_order_of_registration_counts_and_an_example_tells_more():
    assert dataflow(Branching()) is None
    assert quiet(Branching()).left == {"out": "first layer", "unused": "last layer"}  # as it is registered
    table = quiet(Branching(), example_input=torch.randn(2, 8))
    assert table.left == {"out": "last layer", "a": "first layer", "unused": "the network does not call it"}
    assert table.rows[2].name == "b" and "never negative" in table.rows[2].reason


@pytest.mark.parametrize("case", METHODS, ids=case_id)
def test_linear_layers_take_tokens_and_pixels_with_every_method(case):
    """(B, T, I) and (B, H, W, I) give what a 1x1 convolution gives; evaluation what training gives."""
    name, options = case
    torch.manual_seed(0)
    method = methods.create(name, **options)
    weight, activation = method.weight(torch.Size((6, 9))), method.activation(9)
    layer = BinaryLinear(9, 6, True, weight_binarizer=weight, activation_binarizer=activation)
    conv = BinaryConv2d(9, 6, 1, bias=True)
    with torch.no_grad():
        conv.weight.copy_(layer.weight[:, :, None, None])
        conv.bias.copy_(layer.bias)
    onebit.set_progress(layer, 1.0)
    forms = layer.weight_binarizer.freeze(layer.weight.detach())
    x = torch.randn(3, 4, 5, 9, requires_grad=True)  # (B, H, W, I)
    y = layer(x)
    a = layer.activation_binarizer(x.movedim(-1, 1))
    w = sum(form.weight() for form in forms)
    expected = F.conv2d(a, w[:, :, None, None], layer.bias).movedim(1, -1)
    assert torch.allclose(y, expected, atol=1e-5)
    tokens = layer(x.flatten(1, 2))  # (B, T, I)
    assert torch.allclose(tokens, y.flatten(1, 2), atol=1e-5)
    tokens.square().sum().backward()
    assert x.grad is not None and x.grad.shape == x.shape
    layer.eval()
    with torch.no_grad():
        assert torch.allclose(layer(x), layer(x.flatten(1, 2)).unflatten(1, (4, 5)), atol=1e-6)
        if name not in ("dorefa",):
            assert torch.allclose(layer(x), y, atol=1e-4)


def test_the_mean_of_a_sample_is_over_its_tokens_and_features():
    method = methods.create("rbnn", variant="released")
    layer = BinaryLinear(
        4, 2, activation_binarizer=method.activation(4), weight_binarizer=method.weight(torch.Size((2, 4)))
    )
    x = torch.zeros(1, 2, 4)
    x[0, 1] = 1.0  # the mean is 1/2: the first token is all -1, the second all +1
    signs = layer.activation_binarizer(x.movedim(-1, 1)).movedim(1, -1)
    assert torch.equal(signs, 2 * x - 1)
    assert torch.allclose(layer(x)[0, 0], -layer(x)[0, 1])


def test_one_sided_inputs_are_warned_of_with_the_remedy():
    plain = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU6(), nn.Conv2d(32, 32, 3), nn.Flatten(), nn.Linear(128, 2))
    with pytest.warns(UserWarning, match=r"layer 2: inputs never negative \(ReLU6\) .* calibrate=images"):
        onebit.binarize(copy.deepcopy(plain))
    with pytest.warns(UserWarning, match="choose a method with a learned threshold"):
        onebit.binarize(copy.deepcopy(plain), "xnor")
    for name in ("rbnn", "dorefa"):  # the mean of the sample; the set {0, 1}
        onebit.binarize(copy.deepcopy(plain), name)


@pytest.mark.parametrize("name", ["adabin", "triad", "reactnet", "abcnet", "dsq"])
def test_calibration_starts_thresholds_inside_the_inputs(name):
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=3).train()
    model.maxpool = nn.Identity()
    images = torch.randn(4, 3, 16, 16)
    buffers = {key: value.clone() for key, value in model.named_buffers()}
    state = torch.get_rng_state()
    onebit.binarize(model, name, calibrate=images)  # no warning
    if name in ("adabin", "triad"):
        assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, buffers[key]) for key, value in model.named_buffers() if key in buffers)
    behind = model.layer1[0].conv1
    assert not constant_signs(behind)
    seen = []
    behind.activation_binarizer.register_forward_hook(lambda module, inputs, out: seen.append(out.detach()))
    model(images)
    assert 0.1 < float((seen[0] == seen[0].max()).float().mean()) < 0.9, "signs of both kinds"


def test_what_cannot_be_changed_is_one_line():
    class Wrapped(nn.Module):
        pass

    Wrapped.__name__ = "DistributedDataParallel"
    for model, words in (
        ("resnet18", "takes an nn.Module, got str"),
        (nn.Sequential(nn.ReLU()), "holds no Conv2d and no Linear"),
        (nn.Sequential(nn.LazyLinear(3)), "has no weights yet"),
        (torch.compile(nn.Linear(3, 3)), "compiled already"),
        (Wrapped(), "wrapped in DistributedDataParallel"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            onebit.binarize(model)
        assert "\n" not in str(caught.value)
    for arguments, words in (
        ({"method": "float"}, "has no binary activations"),
        ({"method": "adabim"}, "did you mean 'adabin'"),
        ({"options": {"variant": "?"}}, "variant = '\\?' is unknown"),
        ({"operands": "weights"}, "operands = 'weights' is unknown"),
    ):
        with pytest.raises(UserError, match=words):
            onebit.binarize(Own(), **arguments)


def test_activations_alone():
    model = Own()
    quiet(model, operands="activations")
    assert model.shared.weight_binarizer is None and model.shared.activation_binarizer is not None


@pytest.mark.parametrize(
    "name", ["timm:mobilenetv3_small_050", "timm:test_vit", "timm:test_convnext", "torchvision:googlenet"]
)
def test_networks_of_the_libraries(name):
    library, _, name = name.partition(":")
    torch.manual_seed(0)
    if library == "timm":
        model = (
            timm.create_model(name, num_classes=4, img_size=160)
            if "vit" in name
            else timm.create_model(name, num_classes=4)
        )
    else:
        model = torchvision.models.get_model(name, weights=None, num_classes=4, aux_logits=False, init_weights=False)
    size = 160 if "vit" in name else 64
    images = torch.randn(2, 3, size, size)
    table = quiet(model, calibrate=images)
    assert table.converted and "first layer" in table.left.values() and "last layer" in table.left.values()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    F.cross_entropy(model(images), torch.tensor([0, 1])).backward()
    assert all(layer.weight.grad is not None for _, layer in binary_layers(model))
    optimizer.step()
    model.eval()
    with torch.no_grad():
        frozen = model(images)
    assert torch.allclose(frozen, model(images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "images, says",
    [
        (torch.full((4, 3, 8, 8), torch.nan), "a number is not finite"),
        (torch.zeros(0, 3, 8, 8), "holds no images"),
        (torch.zeros(2, 4, 8, 8), "does not run on it: .* 4 channels"),
        ("images", "is no batch of images"),
        ([], "is no batch of images"),
    ],
)
def test_images_that_thresholds_cannot_start_from_change_nothing(images, says):
    model = Own()
    with pytest.raises(UserError, match=says) as caught:
        onebit.binarize(model, "adabin", calibrate=images)
    assert "\n" not in str(caught.value) and not binary_layers(model)


def test_images_of_other_libraries_calibrate():
    one, two = Own(), Own()
    two.load_state_dict(one.state_dict())
    images = np.random.default_rng(0).normal(size=(4, 3, 8, 8))
    quiet(one, calibrate=images)
    quiet(two, calibrate=torch.from_numpy(images).float())
    for (_, a), (_, b) in zip(binary_layers(one), binary_layers(two)):
        assert torch.equal(a.activation_binarizer.beta, b.activation_binarizer.beta)


@pytest.mark.parametrize("case", METHODS, ids=case_id)
def test_a_binary_network_is_pickled(case):
    """As torch.save of a whole model does it, and processes that are spawned."""
    name, options = case
    model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3), nn.Flatten(), nn.Linear(32 * 16, 4))
    quiet(model, name, options=options)
    onebit.set_progress(model, 0.5)
    twin = pickle.loads(pickle.dumps(model))
    x = torch.randn(2, 3, 8, 8)
    onebit.set_progress(twin, 0.75)
    onebit.set_progress(model, 0.75)
    torch.manual_seed(0)
    expected = model(x)
    torch.manual_seed(0)
    assert torch.equal(twin(x), expected)


@pytest.mark.parametrize(
    "given, says",
    [
        ({"skip": 3}, "skip: 3 is none of a name"),
        ({"skip": lambda name: True}, "called with a name and a module"),
        ({"options": "paper"}, "must be a dict"),
        ({"also": ["wide"]}, "also names wide, which cannot become binary: padding mode reflect"),
    ],
)
def test_choices_that_say_nothing_are_one_line(given, says):
    model = Own()
    with pytest.raises(UserError, match=says) as caught:
        onebit.binarize(model, "adabin", **given)
    assert "\n" not in str(caught.value) and not binary_layers(model)
    with pytest.raises(UserError, match="its name, 'behind'"):
        onebit.binarize(model, "adabin", skip=[model.behind])
    for wrong in ("32", (3, 0, 8), 3):
        with pytest.raises(UserError, match="input_shape"):
            onebit.summary(model, wrong)
