"""Faster R-CNN: what its parts compute beside torchvision's, and that it learns."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from networks import settle
from onebit import models, pack
from onebit.data.boxes import Boxes
from onebit.errors import UserError
from onebit.nn import layers
from onebit.nn.layers import binary_layers
from onebit.nn.proposals import Proposals
from onebit.nn.roi_align import RoIAlign, sides
from onebit.runtime import load, native
from onebit.tasks.found import found

TINY = {"channels": 8, "hidden": 16, "candidates": 40, "proposals": 20, "samples": 16, "image_size": 64, "classes": 2}
STEPS = (4, 8, 16, 32)


def boxes(count: int, size: int, generator: torch.Generator) -> Tensor:
    corners = torch.rand(count, 2, 2, generator=generator).sort(1).values  # (count, two corners, xy)
    return corners.reshape(count, 4) * size


def test_pools_of_all_levels_add_up_to_torchvisions():
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 5, 512 // step, 512 // step, generator=generator) for step in STEPS]
    rows = torch.stack([boxes(40, 512, generator) for _ in range(2)])  # (B, R, 4)
    rows[:, 1] = torch.tensor([9.0, 3.0, 500.0, 490.0])
    rows[:, ::3, 2:] = rows[:, ::3, :2] + rows[:, ::3, 2:] / 20  # small ones
    pooled = sum(RoIAlign(1 / step, *bounds)(rows, x) for step, bounds, x in zip(STEPS, sides(STEPS), maps))
    names = [str(step) for step in STEPS]
    theirs = MultiScaleRoIAlign(names, 7, 2)(dict(zip(names, maps)), list(rows), [(512, 512)] * 2)  # (B R, C, 7, 7)
    assert torch.equal(pooled.reshape(80, 7, 7, 5), theirs.permute(0, 2, 3, 1))
    side = ((rows[..., 2] - rows[..., 0]) * (rows[..., 3] - rows[..., 1])).sqrt()
    assert all(((side >= low) & (side < high)).any() for low, high in sides(STEPS))
    assert not RoIAlign(0.25)(torch.zeros(1, 3, 4), maps[0][:1]).any()


def test_proposals_are_the_best_boxes_that_overlap_little_and_zeros():
    layer = Proposals(64, (4, 2), (16, 32), (16.0, 32.0), (1.0,), candidates=6, most=9)
    logits, offsets = torch.full((1, 20, 1), -9.0), torch.zeros(1, 20, 4)
    logits[0, [5, 6, 9, 17]] = torch.tensor([[3.0], [2.0], [1.0], [4.0]])
    offsets[0, 6] = torch.tensor([-1.0, 0.0, 0.05, 0.0])  # about the box of anchor 5
    found = layer(logits, offsets)
    assert found.shape == (1, 9, 4)
    assert found[0, 0].tolist() == [16, 0, 48, 16]  # anchor 17: a 32 x 32 box about (32, 0), inside the image
    assert found[0, 1].tolist() == [8, 8, 24, 24]
    assert found[0, 2].tolist() == [8, 24, 24, 40]  # that of 6 overlaps that of 5
    crowded = Proposals(64, (4, 2), (16, 32), (16.0, 32.0), (1.0,), candidates=1, most=4)(logits, offsets)
    assert crowded[0].count_nonzero(1).tolist()[2:] == [0, 0]


def test_proposals_are_torchvisions():
    layer = Proposals(128, (16, 8), (8, 16), (32.0, 64.0), (0.5, 1.0, 2.0), candidates=90, most=60)
    generator = torch.Generator().manual_seed(2)
    logits = torch.randperm(2 * 960, generator=generator).reshape(2, 960, 1) / 960  # no two are equal
    offsets = 0.4 * torch.randn(2, 960, 4, generator=generator)
    boxes = layer.rules.box_coder.decode(offsets, [layer.anchors] * 2).reshape(2, 960, 4)
    theirs, _ = layer.rules.eval().filter_proposals(boxes, logits, [(128, 128)] * 2, layer.counts)
    for ours, wanted in zip(layer(logits, offsets), theirs):
        assert len(wanted) > 30
        torch.testing.assert_close(ours[: len(wanted)], wanted, rtol=0, atol=1e-5)
        assert not ours[len(wanted) :].any()


def test_of_equal_logits_the_first_is_better():
    layer = Proposals(64, (4,), (16,), (16.0,), (1.0,), candidates=3, most=5)
    found = layer(torch.zeros(1, 16, 1), torch.zeros(1, 16, 4))
    assert found[0, :3].tolist() == [[0, 0, 8, 8], [8, 0, 24, 8], [24, 0, 40, 8]] and not found[0, 3:].any()


def images(count: int, size: int) -> tuple[Tensor, list[Boxes]]:
    """Pictures with a bright square of a channel each, and the squares."""
    generator = torch.Generator().manual_seed(1)
    pictures, targets = torch.randn(count, 3, size, size, generator=generator) * 0.1, []
    for number, picture in enumerate(pictures):
        x, y, label = (int(torch.randint(most, (1,), generator=generator)) for most in (size // 2, size // 2, 2))
        picture[label, y : y + size // 2, x : x + size // 2] += 2
        shown = number != 1  # the second picture has no boxes
        corners = torch.tensor([[x, y, x + size // 2, y + size // 2]]).float()[: int(shown)]
        none = torch.zeros(len(corners), dtype=torch.bool)
        targets.append(Boxes(corners, torch.full((len(corners),), label), none, none, number))
    return pictures, targets


@pytest.mark.parametrize("method", ["float", "rebnn"])
def test_losses_fall(method):
    torch.manual_seed(0)
    model = models.create("fasterrcnn_resnet18_fpn", method, **TINY)
    layers.hooks_are_called(model)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    pictures, targets = images(4, 64)
    seen = []
    for _ in range(12):
        found = model.losses(pictures, targets)
        assert set(found) == {"objects", "proposals", "classes", "boxes"}
        loss = sum(found.values())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(loss.item())
    assert sum(seen[-3:]) < 0.75 * sum(seen[:3])


def test_what_is_real_and_what_is_binary():
    model = models.create("fasterrcnn_resnet18_fpn", "rebnn", **TINY)
    binary = {name for name, _ in binary_layers(model)}
    real = {name for name, m in model.named_modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)} - binary
    downsamples = {f"stages.{stage}.0.shortcut.1" for stage in (1, 2, 3)}
    heads = {"first.logits", "first.offsets", "second.fc1", "second.fc2", "second.scores", "second.offsets"}
    assert real == {"conv1", *downsamples, *heads}
    assert len(binary) == 16 + 8 + 1
    assert not model.warning
    heads = models.create("fasterrcnn_resnet18_fpn", "rebnn", binary_heads=True, **TINY)
    assert {name for name, _ in binary_layers(heads)} - binary == {"second.fc1", "second.fc2"}
    assert "binary_heads" in heads.warning


def test_a_classifier_has_all_of_the_body():
    classifier = models.create("imagenet_resnet18", "rebnn").state_dict()
    detector = models.create("fasterrcnn_resnet18_fpn", "rebnn", **TINY).state_dict()
    assert {name for name in classifier if name not in detector} == {"linear.weight", "linear.bias"}
    assert all(value.shape == detector[name].shape for name, value in classifier.items() if name in detector)


def test_outputs_are_of_one_size():
    model = models.create("fasterrcnn_resnet18_fpn", "adabin", **TINY)
    scores, offsets, proposals = model(torch.zeros(2, 3, 64, 64)).values()
    assert (scores.shape, offsets.shape, proposals.shape) == ((2, 20, 3), (2, 20, 12), (2, 20, 4))


def test_loss_scale_multiplies_all():
    losses = []
    for scale in (1.0, 5.0):
        torch.manual_seed(0)
        model = models.create("fasterrcnn_resnet18_fpn", loss_scale=scale, **TINY)
        losses.append(model.losses(*images(2, 64)))
    one, five = losses
    assert all(torch.equal(value, 5 * one[name]) for name, value in five.items())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"image_size": 300}, "image size 300 is not a multiple of 32; choose 320"),
        ({"hidden": 0}, "hidden = 0 must be a whole number of 1 or more"),
        ({"proposals": 1.5}, "proposals = 1.5 must be a whole number"),
        ({"binary_heads": 1}, "binary_heads = 1 must be true or false"),
        ({"loss_scale": 0}, "loss_scale = 0 must be a number above 0"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(UserError, match=named):
        models.create("fasterrcnn_resnet18_fpn", **{**TINY, **arguments})


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """(detector, its file): logits and offsets that differ from box to box."""
    torch.manual_seed(0)
    model = settle(models.create("fasterrcnn_resnet18_fpn", "rebnn", **TINY), (3, 64, 64))
    with torch.no_grad():
        for head, std in ((model.first.logits, 0.3), (model.first.offsets, 0.1), (model.second.scores, 0.5)):
            head.weight.normal_(0, std)
        model.second.offsets.weight.normal_(0, 0.3)
    path = tmp_path_factory.mktemp("packed") / "detector.safetensors"
    pack(model, path, task="detection", answer="boxes", labels=["round", "square"], settings=model.settings)
    return model, path


def test_a_packed_detector_computes_the_same(packed):
    model, path = packed
    pictures = torch.rand(3, 3, 64, 64)
    with torch.inference_mode():
        expected = model(pictures)
    reference = load(path, backend="reference")(pictures.numpy())
    assert list(reference) == ["scores", "offsets", "proposals"]
    for name, value in reference.items():
        assert value.shape == (3, expected[name].shape[2], 20, 1)
        torch.testing.assert_close(torch.from_numpy(value[..., 0]).mT, expected[name], rtol=1e-3, atol=1e-3)
    assert expected["proposals"].count_nonzero(2).bool().sum() > 30
    assert expected["scores"].std(1).min() > 0.01  # what the boxes hold counts
    for isa in native.supported() if native.available() else ():
        for threads in (1, 2):
            found = load(path, backend="engine", isa=isa, threads=threads)(pictures.numpy())
            for name, value in reference.items():
                assert (found[name].view("int32") == value.view("int32")).all(), (isa, threads, name)


def test_a_packed_detector_takes_its_size_alone(packed):
    _, path = packed
    with pytest.raises(UserError, match="64"):
        load(path)(torch.rand(1, 3, 96, 96).numpy())


def test_a_packed_detector_finds_the_same_boxes(packed):
    model, path = packed
    pictures = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        theirs = found(model(pictures), model.settings)
    outputs = load(path)(pictures.numpy())
    ours = found({name: torch.from_numpy(value[..., 0]).mT for name, value in outputs.items()}, model.settings)
    for one, other in zip(ours, theirs):
        assert len(one.boxes) == len(other.boxes) > 0
        torch.testing.assert_close(one.boxes, other.boxes, rtol=0, atol=1e-2)
        torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=1e-3)
        assert torch.equal(one.labels, other.labels)


def test_binary_heads_pack(tmp_path):
    torch.manual_seed(1)
    model = settle(models.create("fasterrcnn_resnet18_fpn", "adabin", binary_heads=True, **TINY), (3, 64, 64))
    pack(model, tmp_path / "net.safetensors")
    graph = load(tmp_path / "net.safetensors").graph
    assert {"second.fc1", "second.fc2"} <= {node["name"] for node in graph["nodes"] if node["op"] == "binary_conv"}


def test_other_answers_of_equal_boxes_agree():
    """What packing compares: rows in another order, a box in twenty that is another."""
    layer = Proposals(64, (4,), (16,), (16.0,), (1.0,), candidates=6, most=40)
    given = torch.rand(1, 40, 4) * 64
    others = given[:, torch.randperm(40)] + 1e-4
    assert layer.agrees(others, given)
    others[:, 0] += 9
    assert layer.agrees(others, given)
    others[:, :5] += 9
    assert not layer.agrees(others, given)
