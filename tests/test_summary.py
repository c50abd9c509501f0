"""The table of layers: its numbers against counts by hand, the papers', and packed files."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import onebit
from onebit.cli.main import main
from onebit.errors import UserError
from onebit.runtime import inspection

# BOPs, FLOPs, OPs of networks with AdaBin, as its successor's table lists them
PAPERS = {
    "reactnet_a": (4.87e9, 0.12e8, 0.88e8, 7.9e6),
    "meliusnet59": (None, None, 5.34e8, None),
    # the paper's total is 6e6 OPs and 0.1 MB above the products and parameters; it does not say of what
    "imagenet_resnet18": (None, None, 1.70e8, 4.35e6),
}


@pytest.mark.parametrize("name", PAPERS)
def test_totals_are_those_of_the_papers(name):
    bops, flops, ops, size = PAPERS[name]
    table = onebit.summary(onebit.models.create(name, "adabin", classes=1000, image_size=224))
    totals = table.totals
    assert totals["ops"] == totals["binary_macs"] / 64 + totals["float_macs"]
    for ours, theirs in ((totals["binary_macs"], bops), (totals["float_macs"], flops), (totals["ops"], ops)):
        if theirs is not None:
            assert ours == pytest.approx(theirs, rel=0.04 if name == "imagenet_resnet18" else 0.02)
    if size is not None:
        assert totals["packed_bytes"] == pytest.approx(size, rel=0.02)


def test_resnet18_by_hand():
    """Table 1 of He et al. 2016: a 7x7 stem of 112 x 112, three 1x1 shortcuts, 1000 classes; all else is 1 bit."""
    totals = onebit.summary(onebit.models.create("imagenet_resnet18", "adabin", classes=1000, image_size=224)).totals
    stages = [(56, 64, 64), (28, 64, 128), (14, 128, 256), (7, 256, 512)]
    binary = sum(
        (side**2 * 9 * width) * ((width if side == 56 else before) + 3 * width) for side, before, width in stages
    )
    shortcuts = sum(side**2 * before * width for side, before, width in stages[1:])
    assert totals["binary_macs"] == binary == 1_676_279_808
    assert totals["float_macs"] == 112**2 * 64 * 147 + shortcuts + 512_000 == 137_793_536
    parameters = 11_689_512 + 4_800 * 2  # torchvision's ResNet-18, and its norms' statistics
    own = 2 * (64 + 3840) + 4 * 512  # Maxout's slopes, the norm before the head
    assert totals["float32_bytes"] == 4 * (parameters + own)
    bits = sum(9 * width * ((width if side == 56 else before) + 3 * width) for side, before, width in stages)
    kept = 2 * 3840 + 3 * 16  # scale and offset of each filter; threshold, scale, offset of each layer's activations
    assert totals["packed_bytes"] == 4 * (parameters + own - bits + kept) + bits / 8


class Mixed(nn.Module):
    """Tokens, a transposed convolution, a layer called twice, a parameter of its own, shared weights."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 32))
        self.up = nn.ConvTranspose2d(3, 32, 2, stride=2)
        self.twice = nn.Linear(32, 32)
        self.same = nn.Linear(32, 32)
        self.same.weight = self.twice.weight
        self.wide = nn.Linear(32, 40)
        self.head = nn.Linear(40, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x).flatten(2).transpose(1, 2) + self.token  # (B, 64, 32)
        return self.head(self.wide(self.same(self.twice(self.twice(x)))).mean(1))


def test_shapes_calls_and_shared_weights():
    model = Mixed().train()
    onebit.binarize(model, "abcnet", options={"weight_bases": 3, "activation_bases": 2}, skip=["same", "twice"])
    table = onebit.summary(model, (3, 4, 4))
    rows = {layer.name: layer for layer in table.layers}
    assert rows["Mixed"].float32_bytes == 4 * 32
    assert rows["up"].float_macs == 3 * 4 * 4 * 32 * 4 and rows["up"].shape == (32, 8, 8)
    assert rows["twice"].float_macs == 2 * 64 * 32 * 32 and rows["twice"].float32_bytes == 4 * (32 * 32 + 32)
    assert rows["same"].float_macs == 64 * 32 * 32 and rows["same"].float32_bytes == 4 * 32
    assert rows["wide"].binary_macs == 6 * 64 * 32 * 40 and rows["wide"].bits == "3/2"
    assert rows["wide"].shape == (64, 40) and rows["wide"].float_macs == 0
    assert rows["wide"].packed_bytes == 4 * 40 + 3 * (32 * 40 // 8 + 4 * 40) + 2 * 12
    assert model.training and not any(module._forward_hooks for module in model.modules())
    text = str(table).splitlines()
    assert text[-1] == f"OPs {table.total('ops'):.3g} (1-bit MACs / 64 + float MACs)"
    assert text[-2].split()[0] == "total" and len({len(line) for line in text[:-1]}) == 1


def test_what_cannot_be_counted_is_one_line():
    with pytest.raises(UserError, match=r"input_shape=\(3, 224, 224\)"):
        onebit.summary(Mixed())
    with pytest.raises(UserError, match="does not take the input"):
        onebit.summary(Mixed(), (4, 4, 4))


def test_info_shows_the_same_table(tmp_path, capsys):
    """Of a packed file its own bytes; products are those of the model."""
    model = onebit.models.create("resnet8", "adabin")
    packed = tmp_path / "packed.safetensors"
    onebit.pack(model, packed)
    ours, theirs = onebit.summary(model), inspection.layers(str(packed))
    for name in ("binary_macs", "float_macs"):
        assert ours.totals[name] == theirs.totals[name]
    tensors = sum(array.nbytes for array in onebit.runtime.format.decode(packed.read_bytes())[1].values())
    assert theirs.totals["packed_bytes"] == tensors < ours.totals["float32_bytes"] / 8
    assert main(["info", str(packed), "--layers"]) == 0
    assert "1-bit MACs" in capsys.readouterr().out
    from onebit.checkpoints import checkpoint

    saved = checkpoint.Checkpoint(model.config, model.state_dict(), {"name": "classification", "labels": None})
    checkpoint.save(tmp_path / "last.ckpt", saved)
    assert main(["info", str(tmp_path / "last.ckpt"), "--layers", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["totals"] == ours.totals
    assert np.isclose(sum(layer["ops"] for layer in described["layers"]), ours.totals["ops"])
