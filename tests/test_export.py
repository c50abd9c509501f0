"""`onebit export` and onebit.export.write: the authors' networks in ONNX Runtime and OpenVINO, and what is refused."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import onebit
from networks import settle
from onebit import data, models, pack
from onebit.checkpoints import checkpoint
from onebit.cli.main import main
from onebit.data.inputs import Images, Normalization
from onebit.errors import UserError
from onebit.runtime import load, zoo
from runs import saved
from shared_data import authors_checkpoint, cifar10_root, imagenette_root

PAGE = (Path(__file__).parents[1] / "docs" / "export.md").read_text(encoding="utf-8")
EXTRA = "the package {} is not installed: pip install '.[{}]'"


def onnxruntime():
    pytest.importorskip("onnx", reason=EXTRA.format("onnx", "onnx"))
    return pytest.importorskip("onnxruntime", reason=EXTRA.format("onnxruntime", "peers"))


def logits(path, images):
    options = onnxruntime().SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime().InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (name,) = (source.name for source in session.get_inputs())
    return np.concatenate([session.run(None, {name: images[i : i + 100]})[0] for i in range(0, len(images), 100)])


def succeed(capsys, *arguments):
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_authors_adabin_in_onnx_runtime(tmp_path, capsys):
    """At most 110,000 bytes; on 1000 test images it decides as the engine does on 99.9 %. (docs/export.md has all 10,000.)"""
    onnxruntime()
    source = authors_checkpoint("adabin-resnet20-1w1a.th")
    root = cifar10_root()
    succeed(capsys, "import", "adabin-resnet20", source, "--out", tmp_path / "a.ckpt")
    succeed(capsys, "pack", tmp_path / "a.ckpt")
    result = succeed(capsys, "export", tmp_path / "a.ckpt", "--to", "onnx")
    written = (tmp_path / "a.onnx").read_bytes()
    assert result["file"] == str(tmp_path / "a.onnx") and result["opset"] == 18
    assert result["bytes"] == len(written) <= 110_000 < result["float32_bytes"] / 9
    assert result["packed_bytes"] == (tmp_path / "a.safetensors").stat().st_size
    assert succeed(capsys, "export", tmp_path / "a.safetensors", "--out", tmp_path / "b.onnx")["bytes"] == len(written)
    assert (tmp_path / "b.onnx").read_bytes() == written, "the way through a packed file gives the same"
    eighth = succeed(capsys, "export", tmp_path / "a.ckpt", "--int8", "--out", tmp_path / "c.onnx")
    assert len(written) - 3500 < eighth["bytes"] < len(written) - 2500, "1072 weights in 8 bits"
    batches = data.load("cifar10", root).test.evaluation_batches(500)
    images = np.concatenate([np.ascontiguousarray(next(batches).inputs.numpy()) for _ in range(2)])
    found, expected = logits(tmp_path / "a.onnx", images), load(tmp_path / "a.safetensors", threads=1)(images)
    assert np.mean(found.argmax(1) == expected.argmax(1)) >= 0.999
    assert np.mean(np.abs(found - expected).max(1) < 1e-4) >= 0.98, "one sign in a thousand images turns by rounding"


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory):
    """AdaBin's ResNet-18 for photographs, with the weights that are not binary in 8 bits: packed, exported, and what both say."""
    onnxruntime()
    folder = tmp_path_factory.mktemp("resnet18")
    torch.manual_seed(0)
    model = settle(models.create("imagenet_resnet18", "adabin", image_size=64), (3, 64, 64))
    packed = pack(model, folder / "net.safetensors", input_shape=(3, 64, 64), int8=True)
    return folder, packed, onebit.export.write(folder / "net.safetensors", folder / "net.onnx")


def test_resnet18_in_a_twelfth(resnet18):
    _, packed, written = resnet18
    assert 12 * written["bytes"] <= packed["float32_bytes"] and written["bytes"] < 1.02 * packed["bytes"]


def test_resnet18_decides_alike_on_photographs(resnet18):
    source = data.load("imagefolder", imagenette_root(), data.LoadOptions(image_size=64, workers=0))
    images = np.ascontiguousarray(next(source.test.evaluation_batches(32)).inputs.numpy())
    found, expected = logits(resnet18[0] / "net.onnx", images), load(resnet18[0] / "net.safetensors", threads=1)(images)
    assert len(set(expected.argmax(1))) > 1 and np.array_equal(found.argmax(1), expected.argmax(1))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_network_of_others(tmp_path):
    """Gates, hard activations, depth-wise convolutions: what PyTorch says."""
    onnxruntime()
    torch.manual_seed(0)
    model = settle(timm.create_model("mobilenetv3_small_100", num_classes=7), (3, 32, 32))
    pack(model, tmp_path / "net.safetensors", input_shape=(3, 32, 32))
    onebit.export.write(tmp_path / "net.safetensors", tmp_path / "net.onnx")
    images = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        expected = model(images).numpy()
    np.testing.assert_allclose(
        logits(tmp_path / "net.onnx", images.numpy()), expected, atol=1e-4 * np.abs(expected).max()
    )


def test_openvino(tmp_path, capsys):
    openvino = pytest.importorskip("openvino", reason=EXTRA.format("openvino", "peers"))
    name = f"zoo:{zoo.names()[0]}"
    result = succeed(capsys, "export", name, "--to", "openvino", "--batch", 3, "--out", tmp_path / "net.xml")
    there = sorted(path.name for path in tmp_path.iterdir())
    assert there == ["net.bin", "net.xml"] and result["bytes"] == sum(p.stat().st_size for p in tmp_path.iterdir())
    assert result["inputs"] == {"input": "float32 (3, 3, 32, 32)"} and result["outputs"] == {
        "output": "float32 (3, 10)"
    }
    network = openvino.Core().compile_model(tmp_path / "net.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    images = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    np.testing.assert_allclose(network({"input": images})["output"], load(name)(images), atol=1e-3)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    network = models.create("resnet8", "adabin", in_channels=1, image_size=8)
    inputs = Images(1, 8, Normalization((0.3,), (0.4,)))
    checkpoint.save("net.ckpt", saved(network, [str(n) for n in range(10)], inputs=inputs))
    pack(network, "net.safetensors", input_shape=(1, 8, 8))
    (tmp_path / "text.safetensors").write_text("no network")
    (tmp_path / "other.onnx").write_bytes(b"\x08\x08")
    return tmp_path


REFUSED = {
    "an unknown format": (["net.safetensors", "--to", "tflite"], "choose one of onnx, openvino"),
    "an absent file": (["absent.safetensors"], "absent.safetensors"),
    "no packed file": (["text.safetensors"], "text.safetensors"),
    "an ONNX file": (["other.onnx"], "is an ONNX file"),
    "a folder": (["."], "not a regular file"),
    "no such network of the zoo": (["zoo:nothing"], "zoo:nothing"),
    "a place that is not": (["net.safetensors", "--out", "absent/net.onnx"], "create its folder first"),
    "a folder to write": (["net.safetensors", "--out", "new/"], "give the name of one"),
    "its own input": (["net.safetensors", "--out", "net.safetensors"], "its own input"),
    "a name of another kind": (["net.safetensors", "--out", "x.safetensors"], "ends in .onnx"),
    "a name of an ONNX file": (["net.safetensors", "--to", "openvino", "--out", "x.onnx"], "ends in .xml"),
    "a batch of none": (["net.safetensors", "--batch", "0"], "not a number from 1"),
    "8 bits, too late": (["net.safetensors", "--int8"], "packed already"),
    "what OpenVINO has not": (["net.safetensors", "--to", "openvino", "--qonnx"], "not of openvino"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals(what, folder, capsys):
    """One line, exit code 2, nothing written."""
    package, extra = ("openvino", "peers") if "openvino" in REFUSED[what][0] else ("onnx", "onnx")
    pytest.importorskip(package, reason=EXTRA.format(package, extra))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    arguments, says = REFUSED[what]
    assert main(["export", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("onebit: error: ") and captured.err.count("\n") == 1 and says in captured.err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before and not captured.out


def test_where_the_package_is_missing(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", "net.safetensors"]) == 2
    line = capsys.readouterr().err
    assert "onnx" in line and "[onnx]'" in line and line.count("\n") == 1


def test_python_refuses_likewise(folder):
    pytest.importorskip("onnx", reason=EXTRA.format("onnx", "onnx"))
    for arguments, says in (
        ({"to": "tflite"}, "choose one of"),
        ({"batch": True}, "batch must be an integer"),
        ({"out": "net.safetensors"}, "its own input"),
        ({"path": "net.ckpt"}, "a checkpoint is packed first"),
    ):
        with pytest.raises(UserError, match=says):
            onebit.export.write(**{"path": "net.safetensors", "out": "x.onnx", **arguments})
    assert not (folder / "x.onnx").exists()


def test_the_page(folder, capsys):
    """docs/export.md: its commands run and say what stands there, but for some bytes; its Python code prints what it says."""
    onnxruntime()
    (shell,) = re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in shell.splitlines():
        if command := re.match(r"\$ onebit (.*)", line):
            assert main(command[1].split()) == 0
            said = capsys.readouterr().out
        else:
            (claimed,), (found,) = (re.findall(r"(\d+) bytes", text) for text in (line, said))
            assert line.replace(claimed, found) + "\n" == said and abs(int(claimed) - int(found)) < 500
    code, printed = re.search(r"^```python\n(.*?)^```\n\n```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL).groups()
    exec(compile(code, "docs/export.md", "exec"), {})
    assert capsys.readouterr().out == printed
