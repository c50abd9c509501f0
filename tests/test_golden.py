"""Parity with the layers the papers' authors released: outputs and every gradient, float64, 1e-9 relative.

Reads every *.safetensors of $ONEBIT_GOLDEN (default: ../shared/golden): a layer, its input, upstream gradient, results.
"""

import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from onebit import methods
from onebit.nn.layers import BinaryConv2d

GOLDEN = Path(os.environ.get("ONEBIT_GOLDEN", Path(__file__).parents[2] / "shared" / "golden"))
FILES = sorted(GOLDEN.glob("*.safetensors"))

# golden name -> (method, options); and for each: name in the file -> parameter of our layer
METHOD = {
    "adabin": ("adabin", {"variant": "released"}),
    "rbnn": ("rbnn", {"variant": "released"}),
    "rbnn_update": ("rbnn", {"variant": "released"}),
    "irnet": ("irnet", {"variant": "released"}),
    "reactnet": ("reactnet", {}),
    "rebnn_released": ("rebnn", {"variant": "released"}),
    "recu": ("recu", {}),
}
PARAMETER = {
    "weight": "weight",
    "alpha_a": "activation_binarizer.alpha",
    "beta_a": "activation_binarizer.beta",
    "alpha": "weight_binarizer.scale",
    "rotate": "weight_binarizer.theta",
    "move0": "activation_binarizer.shift",
    "scaling_factor": "weight_binarizer.scaling_factor",
}


def load(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    with safe_open(path, framework="pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def build(meta: dict[str, str], tensors: dict[str, torch.Tensor]) -> BinaryConv2d:
    """Our layer with the file's parameters, rotations and schedule values."""
    name, options = METHOD[meta["method"]]
    method = methods.create(name, **options)
    weight = tensors["param.weight"]
    layer = BinaryConv2d(
        weight.shape[1],
        weight.shape[0],
        tuple(weight.shape[2:]),
        int(meta["stride"]),
        int(meta["padding"].split()[0]),
        weight_binarizer=method.weight(weight.shape),
        activation_binarizer=method.activation(weight.shape[1]),
    ).double()
    parameters = dict(layer.named_parameters())
    with torch.no_grad():
        for key, value in tensors.items():
            if key.startswith("param."):
                target = parameters.pop(PARAMETER[key.removeprefix("param.")])
                target.copy_(value.reshape(target.shape))
        assert not parameters, f"parameters without a golden value: {sorted(parameters)}"
        if "R1_before" in tensors:
            layer.weight_binarizer.r1.copy_(tensors["R1_before"])
            layer.weight_binarizer.r2.copy_(tensors["R2_before"])
        if meta["t"] != "None":
            set_schedule(layer, meta)
    return layer


def set_schedule(layer: BinaryConv2d, meta: dict[str, str]) -> None:
    t = float(meta["t"])
    if meta["method"] == "recu":
        layer.weight_binarizer.tau.fill_(t)
    for binarizer in (layer.weight_binarizer, layer.activation_binarizer):
        surrogate = binarizer.surrogate
        if "t" not in surrogate.courses:
            continue
        least = 1.0 if meta["method"] == "rbnn" and binarizer is layer.activation_binarizer else 0.0
        if t < least:  # the authors' bound is a float32 tensor, whose rounding reaches their gradient
            surrogate.t = torch.tensor(least, dtype=torch.float32)
        else:
            surrogate.t.fill_(t)
        surrogate.k.fill_(1.0 if least else float(meta["k"]))


def close(name: str, ours: torch.Tensor, golden: torch.Tensor) -> None:
    error = (ours - golden.reshape(ours.shape)).abs().max() / golden.abs().max().clamp(min=1e-300)
    assert error <= 1e-9, f"{name}: relative error {error:.2e}"


@pytest.mark.skipif(not FILES, reason=f"no golden tensors in {GOLDEN}; set ONEBIT_GOLDEN")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_layer_matches_the_authors(path):
    meta, tensors = load(path)
    assert meta["method"] in METHOD, f"{path}: no layer of ours for method {meta['method']!r}"
    if METHOD[meta["method"]][0] not in methods.METHODS:
        pytest.skip(f"method {METHOD[meta['method']][0]} is not in the table")
    layer = build(meta, tensors)
    if meta["method"] == "rbnn_update":
        from onebit.methods.rbnn import align

        binarizer = layer.weight_binarizer
        matrices = binarizer.matrices(binarizer.standardize(layer.weight.detach()))
        r1, r2 = align(matrices, binarizer.r1, binarizer.r2)
        binarizer.r1.copy_(r1)
        binarizer.r2.copy_(r2)
        close("R1", r1, tensors["R1_after"])
        close("R2", r2, tensors["R2_after"])
    if "rotated_weight" in tensors:
        weight = layer.weight_binarizer.standardize(layer.weight.detach())
        close("rotated weight", layer.weight_binarizer.rotate(weight), tensors["rotated_weight"])
    x = tensors["x"].clone().requires_grad_()
    y = layer(x)
    y.backward(tensors["grad_y"])
    close("y", y.detach(), tensors["y"])
    close("grad x", x.grad, tensors["grad_x"])
    ours = dict(layer.named_parameters())
    for key in (k for k in tensors if k.startswith("grad.")):
        close(key, ours[PARAMETER[key.removeprefix("grad.")]].grad, tensors[key])
