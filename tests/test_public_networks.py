"""Networks that nobody here wrote, made binary in one call, trained for some steps, packed: the engine, PyTorch and ONNX Runtime agree."""

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import onebit
from networks import Watch
from onebit.nn import binary_layers
from onebit.runtime import load

NETWORKS = {  # what they are built with, and the size of their images
    "timm:resnet18": ({}, 64),
    "timm:mobilenetv3_small_100": ({}, 64),
    "timm:efficientnet_lite0": ({}, 64),
    "timm:convnext_femto": ({}, 64),
    "timm:vit_tiny_patch16_224": ({"img_size": 64}, 64),
    "timm:repvgg_a0": ({}, 64),
    "torchvision:mobilenet_v2": ({}, 64),
    "torchvision:densenet121": ({}, 64),
    "torchvision:googlenet": ({"aux_logits": False, "init_weights": False}, 64),
    "torchvision:squeezenet1_1": ({}, 64),
    "torchvision:shufflenet_v2_x1_0": ({}, 64),
    "torchvision:vgg11_bn": ({"init_weights": False}, 32),
}
IMAGES = 64


def built(name: str) -> tuple[nn.Module, int]:
    library, _, plain = name.partition(":")
    given, size = NETWORKS[name]
    torch.manual_seed(0)
    if library == "timm":
        return timm.create_model(plain, num_classes=10, **given), size
    return torchvision.models.get_model(plain, num_classes=10, **given), size


@pytest.mark.filterwarnings("ignore:binarize. layer:UserWarning")  # inputs that are never negative, and are calibrated
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", NETWORKS)
def test_binary_in_one_call(name, tmp_path):
    model, size = built(name)
    x, y = torch.randn(8, 3, size, size), torch.randint(0, 10, (8,))
    table = onebit.binarize(model, "adabin", calibrate=x)
    assert len(table.converted) >= 4
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    for step in range(1 if "vgg" in name else 3):  # of 128 million weights one
        onebit.set_progress(model, step / 3)
        loss = F.cross_entropy(model.train()(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert loss.isfinite()
    result = onebit.pack(model.eval(), tmp_path / "net.safetensors", input_shape=(3, size, size))
    assert result["binary_weights"] == sum(layer.weight.numel() for _, layer in binary_layers(model))
    images = torch.randn(IMAGES, 3, size, size)
    watch = Watch(model, IMAGES)
    with torch.inference_mode():
        expected = model(images).numpy()
    found = load(tmp_path / "net.safetensors")(images.numpy())
    agree(found, expected, watch.margin > 2e-6)
    runtime = pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
    onebit.export.write(tmp_path / "net.safetensors", tmp_path / "net.onnx")
    session = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    agree(session.run(None, {"input": images.numpy()})[0], found, watch.margin > 2e-6)


def agree(found: np.ndarray, expected: np.ndarray, sure: torch.Tensor) -> None:
    """Labels of nearly all images, and the values of those of which no activation lies within a rounding of its threshold."""
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.95
    chosen = sure.numpy()
    difference = np.abs(found - expected)[chosen]
    assert difference.size == 0 or difference.max() < 1e-3 * np.abs(expected).max()
