"""Float weights in 8 bits: what is stored, what the engine computes with it, and the command."""

import json

import numpy as np
import pytest
import torch

from onebit import models, pack, runtime
from onebit.cli.main import main
from onebit.packing import pack as packing


def test_weights_are_within_half_a_step_and_the_largest_is_exact():
    weight = np.random.default_rng(0).normal(size=(5, 3, 2, 2)).astype(np.float32)
    weight[3] = 0
    eight, scale = packing.quantized(weight)
    assert eight.dtype == np.int8 and scale.dtype == np.float32 and scale.shape == (5,)
    error = np.abs(eight * scale.reshape(-1, 1, 1, 1) - weight)
    assert (error <= scale.reshape(-1, 1, 1, 1) * 0.5001).all() and (eight[3] == 0).all()
    np.testing.assert_array_equal(np.abs(eight).reshape(5, -1).max(axis=1), [127, 127, 127, 0, 127])


def test_the_engine_runs_the_network_with_rounded_weights_and_pixels(tmp_path):
    torch.manual_seed(0)
    model = models.create("imagenet_resnet18", "adabin", image_size=64, classes=1000).eval()
    sizes = {int8: pack(model, tmp_path / f"{int8}.safetensors", int8=int8)["bytes"] for int8 in (False, True)}
    assert sizes[False] <= 4.3e6 and sizes[True] <= 2.2e6
    nodes = {node["name"]: node for node in runtime.load(tmp_path / "True.safetensors").graph["nodes"]}
    real = {name: layer for name, layer in model.named_modules() if type(layer) in (torch.nn.Conv2d, torch.nn.Linear)}
    assert {name for name, node in nodes.items() if node.get("activations") == "int8"} == real.keys() - {"conv1"}
    assert len(real) == 5  # the stem, which takes the image's bytes, three shortcuts, the classifier
    images = torch.randn(6, 3, 64, 64)
    engine = runtime.load(tmp_path / "True.safetensors")(images.numpy())
    with torch.no_grad():
        for name, layer in real.items():
            layer.weight.copy_(rounded(layer.weight))
            if name != "conv1":
                layer.register_forward_pre_hook(lambda _, values: by_pixel(values[0]))
        expected = model(images).numpy()
    error = np.abs(engine - expected).max(1) / np.abs(expected).max()  # (B)
    assert np.median(error) <= 0.01 and error.max() <= 0.5  # a rounding error may turn a sign, and all behind it
    assert np.abs(engine - runtime.load(tmp_path / "False.safetensors")(images.numpy())).max() > 0


def test_convolutions_of_few_products_keep_their_values(tmp_path):
    """Where rounding a pixel costs more than its products: few channels, or few outputs and taps. Vectors have one pixel alone."""
    torch.manual_seed(0)
    layers = {"stem": (3, 15, 3), "thin": (15, 24, 1), "few": (24, 23, 1), "taps": (23, 8, 3), "point": (8, 16, 3)}
    layers |= {"whole": (16, 24, 1)}
    net = torch.nn.Sequential()
    for name, (inputs, outputs, kernel) in layers.items():
        net.add_module(name, torch.nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2))
        net.add_module(f"{name}_relu", torch.nn.ReLU())
    net.append(torch.nn.AdaptiveAvgPool2d(1)).append(torch.nn.Flatten())
    net.add_module("classifier", torch.nn.Linear(24, 5))
    pack(net.eval(), tmp_path / "net", input_shape=(3, 8, 8), int8=True)
    nodes = runtime.load(tmp_path / "net").graph["nodes"]
    assert [node["name"] for node in nodes if node.get("activations") == "int8"] == ["taps", "whole", "classifier"]


def by_pixel(x: torch.Tensor) -> torch.Tensor:
    """Each pixel (of a vector: all of it) in steps of a 127th of its largest magnitude."""
    step = x.abs().amax(1, keepdim=True) / 127
    return (x / step).round() * step


def rounded(weight: torch.Tensor) -> torch.Tensor:
    eight, scale = packing.quantized(weight.numpy())
    return torch.from_numpy(eight * scale.reshape(-1, *[1] * (eight.ndim - 1)))


def test_the_command(tmp_path, capsys):
    run = [
        "train",
        "src/onebit/recipes/digits-resnet8-adabin.toml",
        "--epochs",
        "1",
        "--out",
        str(tmp_path / "run"),
        "--json",
    ]
    assert main(run) == 0
    capsys.readouterr()
    sizes = []
    for options in ([], ["--int8"]):
        out = tmp_path / f"{len(options)}.safetensors"
        assert main(["pack", str(tmp_path / "run" / "last.ckpt"), "--out", str(out), *options, "--json"]) == 0
        summary = json.loads(capsys.readouterr().out)
        sizes.append(summary["bytes"])
        assert main(["info", str(out), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["int8_weights"] == summary["int8_weights"] == (784 if options else 0)
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("int8", [False, True])
def test_the_same_network_gives_the_same_bytes(int8, tmp_path):
    torch.manual_seed(0)
    model = models.create("resnet8", "rebnn").eval()
    for name in "ab":
        pack(model, tmp_path / name, int8=int8)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
