"""What a training records of its binary layers: the signs' course on made-up sequences, files, events, resuming to the bit."""

import json
from itertools import pairwise

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from onebit.errors import Stopped, UserError
from onebit.nn.binarizer import WeightBinarizer, WeightForm
from onebit.nn.layers import BinaryLinear, binary_layers
from onebit.nn.sign import sign
from onebit.training import diagnostics, signs, train
from onebit.training.signs import Signs, packed, unpacked
from runs import STEPS, digits, last, run, same, same_end
from runs import diagnostics as lines


class Plain(WeightBinarizer):
    def forward(self, weight):
        return sign(weight)

    def freeze(self, weight):
        return (WeightForm(sign(weight), torch.ones(len(weight))),)


def watched(steps, window=None):
    model = nn.Sequential(BinaryLinear(4, 1, weight_binarizer=Plain(torch.Size((1, 4)))))
    course = Signs(model, steps)
    course.window = window or steps
    return course, model[0].weight.data


# one column a weight: it stays, flips once, flips and comes back at once, comes back later
SEQUENCE = [(1, 1, 1, 1), (1, 1, -1, -1), (1, -1, 1, -1), (1, -1, -1, 1), (1, -1, 1, 1)]


def expected(sequence):
    """Flips and oscillations of a sequence of sign vectors by plain loops, as shares."""
    n = len(sequence[0])
    flips = [sum(a != b for a, b in zip(x, y, strict=True)) / n for x, y in pairwise(sequence)]
    triples = zip(sequence, sequence[1:], sequence[2:], strict=False)
    back = [sum(a != b and b != c for a, b, c in zip(x, y, z, strict=True)) / n for x, y, z in triples]
    return sum(flips) / len(flips), sum(back) / len(back)


def test_flips_and_oscillation_of_a_made_up_sequence():
    course, weight = watched(len(SEQUENCE))
    weight[:] = torch.tensor([[0.5, -0.5, 0.5, 0.5]])
    course.begin()
    weight[:] = torch.tensor([[0.5, 0.5, 0.5, 0.5]])  # what a hook of the epoch's start does
    course.start_epoch()
    for step, values in enumerate(SEQUENCE):
        weight[:] = 0.1 * torch.tensor([values], dtype=torch.float32)
        course.after_step(step)
    found = course.end_epoch()
    flips, back = expected(SEQUENCE)
    assert found["flips_step"] == [pytest.approx(flips)] and found["oscillation"] == [pytest.approx(back)]
    assert back == 3 / 12 and found["flips_hook"] == [0.25]
    assert found["flips_epoch"] == found["flips_initial"] == found["flips_latent"] == [0.0]
    course.start_epoch()
    weight[:] = torch.tensor([[-1.0, -1.0, 1.0, 1.0]])
    course.after_step(0)
    second = course.end_epoch()
    assert second["flips_epoch"] == [0.25] and second["flips_hook"] == [0.0]
    assert second["flips_step"] == second["oscillation"] == [None]  # one step has no pair


def test_only_the_last_steps_are_observed_and_few_of_them():
    course, weight = watched(40, window=3)
    course.begin()
    course.start_epoch()
    for step in range(40):
        weight.neg_()
        course.after_step(step)
        assert (course.last is not None) == (step >= 37)
    assert (course.pairs, course.triples) == (2, 1)
    assert Signs(nn.Sequential(), 5).window == 3 and Signs(nn.Sequential(), 2).window == 2
    assert Signs(nn.Sequential(), 10**6).window == signs.WINDOW


def test_signs_travel_as_bits():
    bits = torch.rand(1003) < 0.4
    record = packed(bits)
    assert record.dtype == torch.uint8 and record.numel() == 126 and torch.equal(unpacked(record, 1003), bits)
    for wrong in (record[:-1], record.int()):
        with pytest.raises(ValueError, match="1003 signs"):
            unpacked(wrong, 1003)


@pytest.mark.parametrize(
    "change",
    [{"initial": torch.zeros(3, dtype=torch.uint8)}, {"sizes": {"x": 4}}, {"pairs": None}, {"flips": "many"}],
    ids=str,
)
def test_a_damaged_record_is_refused_in_one_line(change):
    course, _ = watched(4)
    course.begin()
    other, _ = watched(4)
    with pytest.raises(UserError, match=r"^last\.ckpt: the record of signs cannot be read"):
        other.load(course.record() | change, "last.ckpt")
    other.load(course.record(), "last.ckpt")
    same(other.record(), course.record())


class StopsAfter:
    """Stands for `Stop`: a signal arrives in this step."""

    step = 0

    def __enter__(self):
        self.number = 0
        return self

    def __exit__(self, *error):
        pass

    def agreed(self, fabric, synchronizes):
        self.number += 1
        return 15 if self.number == self.step else 0

    def between(self, batches, fabric):
        return batches


@pytest.mark.parametrize(
    ("method", "step"), [("rbnn", 2 * STEPS - 1), ("rebnn", STEPS + 3)]
)  # in the window, before it
def test_a_run_that_continues_records_what_one_does_that_never_stopped(tmp_path, monkeypatch, method, step):
    recipe = {"method": method, "epochs": 3, "ema_decay": 0.9 if method == "rbnn" else 0.0}
    run(digits(tmp_path / "whole", **recipe))
    with monkeypatch.context() as patched:
        patched.setattr(StopsAfter, "step", step)
        patched.setattr(train, "Stop", StopsAfter)
        with pytest.raises(Stopped):
            run(digits(tmp_path / "stopped", **recipe))
    assert len(lines(tmp_path / "stopped")) == 1
    run(digits(tmp_path / "stopped", **recipe), resume=True)
    one, other = ((tmp_path / name / "diagnostics.jsonl").read_text() for name in ("whole", "stopped"))
    assert one == other and one.count("\n") == 3
    same_end(tmp_path / "whole", tmp_path / "stopped")
    same(*(last(tmp_path / name).progress.signs for name in ("whole", "stopped")), "signs")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("diagnostics") / "run"
    torch.set_num_threads(1)
    run(digits(out, method="adabin", epochs=2))
    return out


def test_a_line_for_each_epoch(trained):
    rows = lines(trained)
    assert [row["epoch"] for row in rows] == [1, 2] and rows[0]["observed"] == 3
    model = last(trained).network()
    assert rows[1]["layers"] == [name for name, _ in binary_layers(model)]
    described = diagnostics.rounded(diagnostics.describe(model))
    for kind in ("values", "histograms"):
        assert rows[1][kind] == json.loads(json.dumps(described[kind]))
    for name, values in described["measures"].items():
        assert rows[1]["measures"][name] == values
    assert {"flips_step", "oscillation", "flips_hook"} < set(rows[1]["measures"])
    layer = binary_layers(model)[0][1]
    assert (
        rows[1]["values"]["activation.alpha"][0]
        == [pytest.approx(layer.activation_binarizer.alpha.item(), rel=1e-5)] * 3
    )
    mean, least, largest = rows[1]["values"]["weight.form.scale"][0]
    assert least < mean < largest
    assert sum(rows[1]["histograms"][0][2]) <= layer.weight.numel()


def test_flips_are_those_of_the_checkpoints(trained):
    """The initial signs are in the checkpoint; what flipped since then follows from it alone."""
    saved = last(trained)
    course = Signs(saved.network(averaged=False), STEPS)
    course.load(saved.progress.signs, "last.ckpt")
    assert course.end_epoch()["flips_initial"] == pytest.approx(
        lines(trained)[1]["measures"]["flips_initial"], rel=1e-5
    )
    packed_bytes = saved.progress.signs["initial"].numel()
    assert packed_bytes == -(-sum(layer.weight.numel() for layer in course.layers.values()) // 8)


def test_the_same_in_tensorboard(trained):
    events = EventAccumulator(str(trained), {"histograms": 0, "scalars": 0}).Reload()
    row = lines(trained)[1]
    for name in ("angle", "oscillation", "flips_epoch"):
        for layer, value in zip(row["layers"], row["measures"][name], strict=True):
            assert events.Scalars(f"{name}/{layer}")[-1].value == pytest.approx(value, rel=1e-4, abs=1e-7)
    histogram = events.Histograms(f"binarized/{row['layers'][0]}")[-1].histogram_value
    assert histogram.bucket == row["histograms"][0][2] and histogram.num == sum(histogram.bucket)
    assert events.Scalars("train_loss")[-1].step == 2


def test_without_diagnostics_nothing_is_recorded_and_nothing_else_changes(trained, tmp_path):
    run(digits(tmp_path / "off", method="adabin", epochs=2, diagnostics=False))
    assert not (tmp_path / "off" / "diagnostics.jsonl").exists() and last(tmp_path / "off").progress.signs is None
    same_end(trained, tmp_path / "off")
    run(digits(tmp_path / "float", method="float", epochs=1))
    assert not (tmp_path / "float" / "diagnostics.jsonl").exists()


def test_a_run_that_switches_them_on_later_says_what_it_cannot_know(tmp_path):
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(StopsAfter, "step", STEPS + 1)
        patched.setattr(train, "Stop", StopsAfter)
        with pytest.raises(Stopped):
            run(digits(out, method="xnor", diagnostics=False))
    run(digits(out, method="xnor"), resume=True)
    (row,) = lines(out)
    assert row["epoch"] == 2 and row["measures"]["flips_initial"][0] is None and row["measures"]["angle"][0] > 0
    assert row["measures"]["flips_step"][0] is not None
