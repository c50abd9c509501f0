"""Networks of tokens, floats, and several inputs and outputs: packed, equal to PyTorch, described, and refused in one line."""

import json
import pickle
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import checks
import onebit
from onebit import methods, pack
from onebit.cli.main import main
from onebit.errors import UserError
from onebit.runtime import Floats, Image, Tokens, load, native

BACKENDS = [
    "reference",
    pytest.param("engine", marks=pytest.mark.skipif(not native.available(), reason="the engine is not built")),
]
backends = pytest.mark.parametrize("backend", BACKENDS)
IMAGE, IDS, SENSORS = Image((3, 6, 7), mean=0.5, std=0.25), Tokens(5, 11), Floats((4,))
INPUTS = {"image": IMAGE, "ids": IDS, "sensors": SENSORS}
Pair = namedtuple("Pair", ["logits", "features"])


class Mixed(nn.Module):
    """An image, tokens and a vector; their features as a map, and logits of their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.binary = checks.conv(methods.create("adabin"), 8, 8, (3, 3), padding=1)
        self.words, self.tokenwise, self.act = nn.Embedding(11, 6), nn.Linear(6, 8), nn.PReLU()
        self.dense, self.head = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, image: Tensor, ids: Tensor, sensors: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
        features = self.binary(self.norm(self.conv(image)))
        words = self.words(ids)
        words = self.act(self.tokenwise(words)) + self.tokenwise(words)
        total = features.mean((2, 3)) + F.relu(words).mean(1) + self.dense(sensors)
        return {"logits": self.head(total), "features": features}


def made(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


def values(batch: int = 3) -> dict[str, Tensor]:
    return {
        "image": torch.randn(batch, 3, 6, 7),
        "ids": torch.randint(11, (batch, 5)),
        "sensors": torch.randn(batch, 4),
    }


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    torch.manual_seed(0)
    model, path = made(Mixed()), tmp_path_factory.mktemp("mixed") / "net.safetensors"
    pack(model, path, inputs=INPUTS, labels=["a", "b", "c"], accuracy=75)
    return model, path


@backends
def test_what_the_file_computes_is_what_the_model_does(packed, backend):
    model, path = packed
    runtime, given = load(path, backend=backend, threads=1), values()
    assert runtime.outputs == ("logits", "features") and runtime.labels == ("a", "b", "c")
    with torch.no_grad():
        expected = model(**given)
    arrays = {name: value.numpy() for name, value in given.items()}
    for found in (
        runtime(**arrays),
        runtime(*arrays.values()),
        runtime(arrays["image"], **dict(list(arrays.items())[1:])),
    ):
        assert list(found) == ["logits", "features"]
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value.numpy(), rtol=1e-4, atol=1e-4)
    traced = runtime.trace(*arrays.values())
    assert np.array_equal(traced["binary"], found["features"]) and "binary:accumulator" in traced
    assert traced["words"].shape == (3, 6, 5, 1)


@backends
def test_bytes_of_an_image_beside_other_inputs(packed, tmp_path, backend):
    """Normalised by the file; with weights of 8 bits, straight into the convolution. Integers of any type, other lengths."""
    model, _ = packed
    pack(model, tmp_path / "int8", inputs=INPUTS, int8=True)
    runtime, reference = (
        load(tmp_path / "int8", backend=backend, threads=1),
        load(tmp_path / "int8", backend="reference"),
    )
    assert {n["op"] for n in runtime.graph["nodes"]} >= {
        "embedding",
        "conv",
        "binary_conv",
        "linear",
        "global_avg_pool",
    }
    pixels = np.random.default_rng(0).integers(0, 256, (2, 6, 7, 3), dtype=np.uint8)
    sensors = np.ones((2, 4), np.float32)
    for length in (5, 1, 9):
        ids = np.arange(2 * length).reshape(2, length) % 11
        found = [runtime(pixels, ids.astype(kind), sensors) for kind in (np.uint8, np.int64)]
        for name, value in reference(pixels, ids, sensors).items():
            assert all(np.array_equal(other[name], value) for other in found)
    floats = (pixels.transpose(0, 3, 1, 2) / np.float32(255) - np.float32(0.5)) / np.float32(0.25)
    np.testing.assert_allclose(runtime(floats, ids, sensors)["features"], found[0]["features"], atol=1e-3)
    alone = runtime(pixels[0], ids[0], sensors[:1])
    np.testing.assert_allclose(alone["logits"], found[0]["logits"][:1], atol=1e-5)


def test_8_bits_hold_the_rows_of_an_embedding(tmp_path):
    model = nn.Sequential(nn.Embedding(7, 5), nn.ReLU()).eval()
    result = pack(model, tmp_path / "net", inputs={"input": Tokens(4, 7)}, int8=True)
    assert result["int8_weights"] == 35 and result["float_weights"] == 7
    ids = np.arange(7)[None]
    found = load(tmp_path / "net", backend="reference")(ids)  # (1, C, T, 1)
    assert found.shape == (1, 5, 7, 1)
    weight = model[0].weight.detach()
    expected = weight.clamp(min=0).numpy().T
    np.testing.assert_allclose(found[0, :, :, 0], expected, atol=float(weight.abs().max()) / 127)


class Tokenwise(nn.Module):
    def __init__(self, function: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.words, self.others, self.linear = nn.Embedding(9, 6, padding_idx=0), nn.Embedding(9, 6), nn.Linear(6, 4)
        self.all, self.norm, self.prelu = nn.Linear(5 * 6, 4), nn.BatchNorm1d(5), nn.PReLU(5)
        self.binary = checks.linear(methods.create("bnn"), 6, 5)
        self.act = nn.Sequential(nn.Hardtanh(), nn.Dropout(), nn.Identity(), nn.PReLU())
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, ids: Tensor) -> Any:
        return self.function(self, ids)


TOKENWISE = {
    "a mean": lambda n, ids: n.linear(n.words(ids).mean(1)),
    "a mean by another axis": lambda n, ids: torch.mean(n.words(ids), dim=-2),
    "layers of every token": lambda n, ids: n.act(n.linear(n.words(ids))).mean(1),
    "a sum of two": lambda n, ids: F.relu(n.words(ids) + n.others(ids.long())).mean(dim=1),
    "two behind each other": lambda n, ids: torch.cat([n.words(ids), F.relu(n.others(ids))], 2).mean(1),
    "flattened": lambda n, ids: n.all(n.words(ids).flatten(1)),
    "viewed": lambda n, ids: n.all(F.hardtanh(n.words(ids)).view(ids.shape[0], -1)),
    "several outputs": lambda n, ids: (n.words(ids).mean(1), n.linear(n.words(ids)).mean(1)),
    "a list": lambda n, ids: [n.words(ids).mean(1), n.others(ids).mean(1)],
    "a named tuple": lambda n, ids: Pair(n.words(ids).mean(1), n.others(ids).mean(1)),
    "one value twice": lambda n, ids: dict.fromkeys(("a", "b"), n.words(ids).mean(1)),
}
NAMES = {
    "several outputs": ("output0", "output1"),
    "a list": ("output0", "output1"),
    "a named tuple": ("logits", "features"),
    "one value twice": ("a", "b"),
}


@backends
@pytest.mark.parametrize("what", TOKENWISE)
def test_sequences(tmp_path, what, backend):
    model = Tokenwise(TOKENWISE[what]).eval()
    pack(model, tmp_path / "net", inputs={"ids": Tokens(5, 9)})
    ids = torch.randint(9, (4, 5))
    runtime = load(tmp_path / "net", backend=backend, threads=1)
    names = NAMES.get(what, ("output",))
    assert runtime.outputs == names
    with torch.no_grad():
        expected = model(ids)
    expected = list(expected.values()) if isinstance(expected, dict) else expected if len(names) > 1 else [expected]
    found = runtime(ids)
    for name, value in zip(names, expected, strict=True):
        np.testing.assert_allclose(found[name] if len(names) > 1 else found, value.numpy(), atol=1e-5)


REFUSED = {
    "a batch norm": (lambda n, ids: n.norm(n.words(ids)).mean(1), "norm: takes the second axis"),
    "a slope for each token": (
        lambda n, ids: n.prelu(n.words(ids)).mean(1),
        "prelu: prelu has parameters for the second axis",
    ),
    "a mean over channels": (lambda n, ids: n.words(ids).mean(2), "mean(1) of a sequence"),
    "a linear layer of tokens": (
        lambda n, ids: n.of_tokens(n.words(ids).transpose(1, 2)),
        "of_tokens: takes the last axis",
    ),
    "a pool": (lambda n, ids: F.adaptive_avg_pool2d(n.words(ids), 1), "has no operator"),
    "tokens as floats": (lambda n, ids: F.relu(ids.float()), "tokens have no operator"),
    "tokens themselves": (lambda n, ids: (n.words(ids), ids), "returns its input"),
    "numbers made whole": (lambda n, ids: n.others(F.relu(F.hardtanh(n.words(ids).mean(1))).long()), "long"),
    "an embedding that changes": (
        lambda n, ids: n.changing(ids).mean(1),
        "changing: nn.Embedding with max_norm",
    ),
    "rows of another count": (lambda n, ids: n.wide(ids).mean(1), "onebit.Tokens(5, 12)"),
    "no tokens": (lambda n, ids: torch.ones(2, 3), "does not depend on"),
    "part of the batch": (lambda n, ids: n.words(ids)[:1], "has no operator"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_sequences_do_not_take(tmp_path, what):
    function, says = REFUSED[what]
    model = Tokenwise(function, changing=nn.Embedding(9, 6, max_norm=1.0), wide=nn.Embedding(12, 6))
    model.of_tokens = nn.Linear(5, 5)
    model.eval()
    check_refusal(tmp_path, model, says, inputs={"ids": Tokens(5, 9)})


TAKEN = {
    "a binary layer": lambda n, ids: n.binary(n.words(ids)).mean(1),
    "a mean that keeps": lambda n, ids: n.linear(n.words(ids).mean(1, keepdim=True)).flatten(1),
    "tokens behind each other": lambda n, ids: torch.cat([n.words(ids), n.others(ids)], 1).mean(1),
    "the first token": lambda n, ids: n.linear(n.words(ids)[:, 0]),
    "some tokens": lambda n, ids: n.linear(n.words(ids)[:, 1:-1:2]).mean(1),
    "a sum with a parameter": lambda n, ids: (n.words(ids) + n.linear.weight[0]).mean(1),
    "a sum for each token": lambda n, ids: (n.words(ids) + torch.arange(30.0).reshape(5, 6)).mean(1),
    "a token in front": lambda n, ids: torch.cat([n.linear.weight[:1].expand(len(ids), 1, 6), n.words(ids)], 1).mean(1),
    "a function": lambda n, ids: F.embedding(ids, n.words.weight).mean(1),
}


@pytest.mark.parametrize("what", TAKEN)
def test_what_sequences_take(tmp_path, what):
    model = made(Tokenwise(TAKEN[what]))
    pack(model, tmp_path / "net", inputs={"ids": Tokens(5, 9)})
    ids = torch.randint(0, 9, (3, 5))
    with torch.no_grad():
        expected = model(ids).numpy()
    np.testing.assert_allclose(load(tmp_path / "net")(ids), expected, atol=1e-5)


def check_refusal(folder: Path, model: nn.Module, says: str, **arguments: Any) -> None:
    with pytest.raises(UserError) as caught:
        pack(model, folder / "net", **arguments)
    message = str(caught.value)
    assert says in message and "\n" not in message and len(message) < 500, message
    assert not list(folder.iterdir())


ARGUMENTS = {
    "no inputs": ({"inputs": {}}, "a dict of 1 to 16"),
    "a list": ({"inputs": [IMAGE, IDS, SENSORS]}, "a dict of 1 to 16"),
    "a shape": ({"inputs": INPUTS | {"image": (3, 6, 7)}}, "must be a onebit.Image, Tokens or Floats"),
    "an argument too few": ({"inputs": {"image": IMAGE, "ids": IDS}}, "more than inputs= names (sensors)"),
    "an unknown argument": ({"inputs": INPUTS | {"picture": IMAGE}}, "'picture', which is no argument"),
    "a name that no file holds": ({"inputs": {"Bild é": IMAGE}}, "letters, digits"),
    "the short form alone": ({"input_shape": (3, 6, 7)}, "more than one input (ids, sensors beside the image)"),
    "both forms": ({"inputs": INPUTS, "input_shape": (3, 6, 7)}, "input_shape= is for models of one image"),
    "a mean beside": ({"inputs": INPUTS, "mean": 0.5}, "mean= is for models of one image"),
    "a length of 0": ({"inputs": INPUTS | {"ids": Tokens(0, 11)}}, "length = 0 must be a whole number from 1 to 32768"),
    "a count of text": ({"inputs": INPUTS | {"ids": Tokens(5, "11")}}, "count = '11' must be a whole number"),
    "a vector of 0": ({"inputs": INPUTS | {"sensors": Floats((0,))}}, "shape = 0 must be a whole number from 1"),
    "floats of two sizes": ({"inputs": INPUTS | {"sensors": Floats((4, 2))}}, "(channels, height, width)"),
    "an image with its batch": ({"inputs": INPUTS | {"image": Image((1, 3, 6, 7))}}, "has a batch"),
    "another std": ({"inputs": INPUTS | {"image": Image((3, 6, 7), std=(1, 0, 1))}}, "must not contain 0"),
    "other shapes": ({"inputs": INPUTS | {"sensors": Floats((5,))}}, "sensors (5,), layer dense: "),
    "labels of another number": ({"inputs": INPUTS, "labels": ["a"]}, "1 labels for the 3 channels"),
}


@pytest.mark.parametrize("what", ARGUMENTS)
def test_arguments_that_do_not_fit(tmp_path, what):
    arguments, says = ARGUMENTS[what]
    check_refusal(tmp_path, Mixed().eval(), says, **arguments)


def test_an_input_without_effect_is_refused(tmp_path):
    class Ignoring(Mixed):
        def forward(self, image: Tensor, ids: Tensor) -> Tensor:
            return self.conv(image)

    check_refusal(tmp_path, Ignoring().eval(), "does not depend on ids", inputs={"image": IMAGE, "ids": IDS})


def test_arguments_by_name_between_defaults(tmp_path):
    class Gaps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.words = nn.Linear(4, 6), nn.Embedding(11, 6)

        def forward(self, sensors: Tensor, scale: int = 2, *, ids: Tensor, other: None = None) -> Tensor:
            return self.linear(sensors) + self.words(ids).mean(1)

    model, given = Gaps().eval(), values()
    pack(model, tmp_path / "net", inputs={"ids": IDS, "sensors": SENSORS})
    runtime = load(tmp_path / "net", backend="reference")
    assert [source.name for source in runtime.inputs] == ["sensors", "ids"], "the order of forward"
    with torch.no_grad():
        expected = model(given["sensors"], ids=given["ids"])
    np.testing.assert_allclose(runtime(given["sensors"], ids=given["ids"]), expected.numpy(), atol=1e-5)


def test_maps_of_floats_go_into_convolutions(tmp_path):
    """Binary ones, whose weights and inputs are of either sign; of another size than the file's, too."""
    model = made(nn.Sequential(checks.conv(methods.create("reactnet"), 5, 4, (3, 3), padding=1), nn.BatchNorm2d(4)))
    pack(model, tmp_path / "net", inputs={"input": Floats((5, 6, 7))})
    runtime = load(tmp_path / "net", backend="reference")
    for size in ((6, 7), (3, 9)):
        x = torch.randn(2, 5, *size)
        with torch.no_grad():
            np.testing.assert_allclose(runtime(x), model(x).numpy(), atol=1e-4)
    with pytest.raises(UserError, match=r"floats must be \(B, 5, H, W\)"):
        runtime(np.zeros((1, 6, 6, 7), np.float32))


GIVEN = {k: v.numpy() for k, v in values(2).items()}
CALLS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "nothing": (lambda m: m(), "image, ids, sensors is missing"),
    "one too few": (
        lambda m: m(GIVEN["image"], GIVEN["ids"]),
        "sensors (floats (4,)): sensors is missing",
    ),
    "one too many": (lambda m: m(*GIVEN.values(), 1), "4 values are given in order"),
    "one twice": (lambda m: m(*GIVEN.values(), ids=GIVEN["ids"]), "ids is given twice"),
    "an unknown name": (
        lambda m: m(GIVEN["image"], GIVEN["ids"], sensor=GIVEN["sensors"]),
        "sensors is missing; sensor is unknown",
    ),
    "batches that differ": (
        lambda m: m(**GIVEN | {"ids": GIVEN["ids"][:1]}),
        "the batches differ: image 2, ids 1, sensors 2",
    ),
    "a token too large": (lambda m: m(**GIVEN | {"ids": GIVEN["ids"] * 0 + 11}), "input ids: the token 11 is unknown"),
    "a negative token": (
        lambda m: m(**GIVEN | {"ids": GIVEN["ids"] * 0 - 1}),
        "the token -1 is unknown; tokens must be from 0 to 10",
    ),
    "a token beyond 64 bits": (
        lambda m: m(**GIVEN | {"ids": np.full((2, 5), 2**64 - 1, np.uint64)}),
        "the token 18446744073709551615 is unknown",
    ),
    "tokens of floats": (
        lambda m: m(**GIVEN | {"ids": GIVEN["ids"] * 1.0}),
        "input ids: tokens must be integers, got float64",
    ),
    "tokens of bools": (lambda m: m(**GIVEN | {"ids": GIVEN["ids"] > 0}), "tokens must be integers, got bool"),
    "tokens in a list": (lambda m: m(**GIVEN | {"ids": [[1]]}), "tokens must be a numpy array, got list"),
    "tokens of three axes": (lambda m: m(**GIVEN | {"ids": GIVEN["ids"][None]}), "tokens must be (B, T) or (T,)"),
    "no tokens": (lambda m: m(**GIVEN | {"ids": GIVEN["ids"][:, :0]}), "rows of 0 tokens"),
    "too many tokens": (lambda m: m(**GIVEN | {"ids": np.zeros((2, 2**15 + 1), int)}), "rows of 32769 tokens"),
    "no rows of tokens": (lambda m: m(**GIVEN | {"ids": GIVEN["ids"][:0]}), "the batch is empty"),
    "floats of 64 bits": (
        lambda m: m(**GIVEN | {"sensors": GIVEN["sensors"].astype("f8")}),
        "float32 (B, 4), got float64",
    ),
    "floats of another size": (
        lambda m: m(**GIVEN | {"sensors": GIVEN["sensors"][:, :3]}),
        "floats must be (B, 4), got (2, 3)",
    ),
    "floats that are NaN": (
        lambda m: m(**GIVEN | {"sensors": GIVEN["sensors"] * np.float32(np.nan)}),
        "NaN or infinity",
    ),
    "no floats": (lambda m: m(**GIVEN | {"sensors": GIVEN["sensors"][:0]}), "the batch is empty"),
    "an image that is NaN": (lambda m: m(**GIVEN | {"image": GIVEN["image"] * np.float32(np.nan)}), "NaN or infinity"),
    "an image of other channels": (
        lambda m: m(**GIVEN | {"image": GIVEN["image"][:, :2]}),
        "input image: float32 images must be",
    ),
    "its shape": (
        lambda m: m.input_shape,
        "mixed takes image (an image (3, 6, 7)), ids (5 tokens from 0 to 10), sensors (floats (4,))",
    ),
    "its kind": (lambda m: m.input_kind, "onebit.runtime.load(FILE)(image=..., ids=..., sensors=...)"),
    "its resize": (lambda m: m.resize, "onebit.runtime.load(FILE)(image=..., ids=..., sensors=...)"),
    "a picture": (
        lambda m: m.predict(np.zeros((6, 7, 3), np.uint8)),
        "onebit.runtime.load(FILE)(image=..., ids=..., sensors=...)",
    ),
}


@backends
@pytest.mark.parametrize("what", CALLS)
def test_calls_that_do_not_fit(packed, tmp_path, what, backend):
    model, _ = packed
    call, says = CALLS[what]
    pack(model, tmp_path / "net", inputs=INPUTS, name="mixed")
    runtime = load(tmp_path / "net", backend=backend, threads=1)
    with pytest.raises(UserError) as caught:
        call(runtime)
    message = str(caught.value)
    assert says in message and "\n" not in message and len(message) < 500, message


def test_sizes_that_do_not_fit(tmp_path):
    model = Tokenwise(TOKENWISE["flattened"]).eval()
    pack(model, tmp_path / "net", inputs={"ids": Tokens(5, 9)})
    with pytest.raises(
        UserError, match=r"inputs of ids \(6, 1, 1\) do not fit, .*made for ids \(5, 1, 1\): .*shape \(any, 36\)"
    ):
        load(tmp_path / "net", backend="reference")(np.zeros((1, 6), int))


def test_info_describes_it(packed, capsys):
    _, path = packed
    assert main(["info", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "packed file, version 2" and found["model"] == "Mixed" and found["classes"] == 3
    assert found["inputs"] == [
        {"name": "image", "type": "image", "shape": [3, 6, 7], "mean": [0.5] * 3, "std": [0.25] * 3},
        {"name": "ids", "type": "tokens", "length": 5, "count": 11},
        {"name": "sensors", "type": "floats", "shape": [4]},
    ]
    assert found["outputs"] == [{"name": "logits", "shape": [3]}, {"name": "features", "shape": [8, 6, 7]}]
    assert "input_shape" not in found and found["accuracy"] == 75
    assert main(["info", str(path)]) == 0
    assert "logits" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [
        ["run", "NET", "cat.png"],
        ["eval", "NET", "--data", "digits"],
        ["bench", "NET"],
        ["bench", "NET", "--layers"],
        ["bench", "NET", "--memory"],
    ],
    ids=" ".join,
)
def test_commands_for_images_say_what_it_takes(packed, tmp_path, monkeypatch, capfd, command):
    _, path = packed
    monkeypatch.chdir(tmp_path)
    assert main([str(path) if part == "NET" else part for part in command]) == 2
    out, err = capfd.readouterr()
    assert (
        out == ""
        and err.count("\n") == 1
        and "call it from Python: onebit.runtime.load(FILE)(image=..., ids=..., sensors=...)" in err
    ), err


def test_several_outputs_of_one_image_answer_by_the_first(packed, tmp_path, monkeypatch, capfd):
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 10, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.conv(x).mean((2, 3)), self.conv(x)

    monkeypatch.chdir(tmp_path)
    pack(Two().eval(), "net", input_shape=(1, 8, 8), mean=0.306, std=0.377, labels=list("0123456789"))
    model = load("net", backend="reference")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 1), dtype=np.uint8)
    assert [source.name for source in model.inputs] == ["input"] and model.input_shape == (1, 8, 8)
    assert model.predict(pixels)[0]["label"] == str(model(pixels)["output0"].argmax())
    assert main(["eval", "net", "--data", "digits"]) == 0
    capfd.readouterr()
    assert main(["bench", "net", "--rounds", "1"]) == 0
    assert "onebit" in capfd.readouterr().out
    for option in ("--layers", "--memory"):
        assert main(["bench", "net", option]) == 0


def test_it_travels_and_describes_itself(packed):
    _, path = packed
    model = load(path, backend="reference")
    copied = pickle.loads(pickle.dumps(model))
    assert copied.graph == model.graph and copied.inputs == model.inputs and copied.outputs == model.outputs
    found = [m(**GIVEN) for m in (model, copied)]
    assert all(np.array_equal(found[0][name], found[1][name]) for name in model.outputs)
    assert [onebit.Image, onebit.Tokens, onebit.Floats] == [type(source) for source in model.inputs]


def test_openvino_takes_one_image(packed):
    pytest.importorskip("openvino", reason="the package openvino is not installed: pip install '.[peers]'")
    from onebit.export.openvino import openvino_model

    with pytest.raises(UserError, match="one image and one output"):
        openvino_model(str(packed[1]), 1)
