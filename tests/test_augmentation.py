"""Augmentation of photographs and mixing of batches: what they do to pixels and labels, and that they repeat."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import photograph_files
from onebit import data
from onebit.data.dataset import MemorySet
from onebit.data.inputs import Normalization
from onebit.data.loading.augmentation import EIGENVALUES, EIGENVECTORS, lighting_shift, rand_augment, training_transform
from onebit.data.loading.mixing import MixedSet
from onebit.data.loading.seeding import seeded
from onebit.errors import UserError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return photograph_files.write("imagefolder", tmp_path_factory.mktemp("photographs"), train=12, val=3)


def batches(root, **options):
    train = data.load("imagefolder", root, data.LoadOptions(image_size=16, workers=0, **options)).train
    return list(train.training_batches(6, 0, 0))


def test_lighting_has_the_covariance_of_the_paper():
    """Covariance of the shift: std^2 P diag(l^2) P^T, mean 0."""
    torch.testing.assert_close(EIGENVECTORS.T @ EIGENVECTORS, torch.eye(3), rtol=0, atol=1e-3)
    shifts = torch.stack([lighting_shift(0.1) for _ in range(20_000)])
    expected = 0.01 * EIGENVECTORS @ torch.diag(EIGENVALUES**2) @ EIGENVECTORS.T
    torch.testing.assert_close(shifts.T.cov(), expected, rtol=0.05, atol=2e-6)
    assert shifts.mean(0).abs().max() < 5 * shifts.std(0).max() / 20_000**0.5


def test_lighting_shifts_all_pixels_of_an_image_alike(root):
    """Against the same crops without it: a constant per image and channel, the shift over the channel's deviation."""
    for lit, plain in zip(batches(root, lighting=0.1), batches(root), strict=True):
        difference = (lit.inputs - plain.inputs) * torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)
        shift = difference.mean((2, 3))
        torch.testing.assert_close(difference, shift[:, :, None, None].expand_as(difference), rtol=0, atol=1e-6)
        assert (shift.std(0) > 1e-3).all() and shift.abs().max() < 0.1  # an own shift for each image


@pytest.mark.parametrize("option", ({"color_jitter": 0.4}, {"rand_augment": "rand-m9-mstd0.5"}, {"crop_scale": 1.0}))
def test_options_change_images_the_same_way_each_time(root, option):
    once, again, plain = batches(root, **option), batches(root, **option), batches(root)
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(once, again, strict=True))
    assert all(not torch.equal(a.inputs, b.inputs) for a, b in zip(once, plain, strict=True))


def test_crop_scale_bounds_the_area():
    """A horizontal ramp from 0 to 250: the range of values in a crop tells its width."""
    ramp = Image.fromarray(np.tile(np.arange(251, dtype=np.uint8), (251, 1)))
    widths = {}
    for scale in (0.08, 0.9):
        transform = training_transform(data.LoadOptions(image_size=32, crop_scale=scale))
        crops = [transform(ramp).float() for _ in range(200)]
        widths[scale] = min(float(crop.max() - crop.min()) for crop in crops)
    assert widths[0.9] > 0.85 * (0.9 * 3 / 4) ** 0.5 * 250 and widths[0.08] < 0.5 * 250


def test_seeding_leaves_the_global_generators_alone():
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    drawn = []
    for seed in (1, 1, 2):
        with seeded(seed, 7):
            drawn.append((random.random(), np.random.rand(), float(torch.rand(()))))
    assert drawn[0] == drawn[1] and all(a != b for a, b in zip(drawn[0], drawn[2], strict=True))
    assert random.getstate() == states[0]
    assert (np.random.get_state()[1] == states[1]).all() and torch.equal(torch.get_rng_state(), states[2])


@pytest.mark.parametrize("text", ("rand-m9-mstd0.5", "rand-m7-n3-mstd0.5-inc1", "rand-mstd1-tweights", "rand"))
def test_rand_augment_descriptions(text):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8))
    transform = rand_augment(text, 24)
    results = [np.asarray(transform(picture)) for _ in range(20)]
    assert any((result != np.asarray(picture)).any() for result in results)


@pytest.mark.parametrize("sets", ("", "-inc1", "-tweights", "-t3a"))
def test_rand_augment_at_its_extremes(sets):
    """Every operation at both ends of its strength, where some keep no bit of a pixel."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8))
    for strength in ("m0", "m10", "m30-mmax30"):
        for operation in rand_augment(f"rand-{strength}-p1{sets}", 24).ops:
            assert operation(picture).size == (24, 24)


@pytest.mark.parametrize(
    "text", ("m9", "rand-m", "rand-x3", "rand-m9-strong", "rand-tnothing", "rand-", "augmix-m3", "9")
)
def test_other_descriptions_are_refused(text, root):
    with pytest.raises(UserError, match=r"rand_augment = '.*' is not a RandAugment of timm .*rand-m9-mstd0\.5"):
        batches(root, rand_augment=text)


@pytest.mark.parametrize(("key", "value"), (("color_jitter", 0.4), ("rand_augment", "rand-m9"), ("lighting", 0.1)))
def test_augmentation_of_photographs_is_refused_elsewhere(key, value):
    with pytest.raises(UserError, match=f"{key} = .* is for photographs, not for digits"):
        data.load("digits", options=data.LoadOptions(**{key: value}))


def flat_images(count=8, size=10):
    """Image i is all i, label i % 3; pixels are normalised to themselves."""
    images = torch.arange(count, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(count, 1, size, size)
    return MemorySet(images, torch.arange(count) % 3, Normalization((0.0,), (1 / 255,)))


@pytest.mark.parametrize(("mixup", "cutmix"), ((1.0, 0.0), (0.0, 1.0), (0.4, 1.0)))
def test_mixing_keeps_pixels_and_labels_in_step(mixup, cutmix):
    """Of image i and its partner j, pixels and labels have the same share lambda: (x - j) / (i - j) = lambda = y_i."""
    plain = flat_images()
    shares, kinds = set(), set()
    for epoch in range(30):
        (ours,), (theirs,) = (list(s.training_batches(8, 5, epoch)) for s in (MixedSet(plain, 3, mixup, cutmix), plain))
        torch.testing.assert_close(ours.targets.sum(1), torch.ones(8))
        assert ours.targets.dtype == torch.float32 and (ours.targets >= 0).all()
        own, partner = theirs.inputs[:, 0, 0, 0], theirs.inputs.flip(0)[:, 0, 0, 0]
        share = ((ours.inputs.mean((1, 2, 3)) - partner) / (own - partner)).mean()
        expected = share * F.one_hot(theirs.targets, 3) + (1 - share) * F.one_hot(theirs.targets.flip(0), 3)
        torch.testing.assert_close(ours.targets, expected, rtol=0, atol=1e-4)
        shares.add(round(float(share), 3))
        pasted = all(v in (own[0], partner[0]) for v in ours.inputs[0].unique())
        kinds.add("cutmix" if pasted else "mixup")
    assert len(shares) > 15
    assert kinds >= ({"mixup"} if mixup else set()) | ({"cutmix"} if cutmix else set())
    assert mixup or kinds == {"cutmix"}


def test_mixing_repeats_and_resumes():
    def run(start=0, rank=0, world=1, batch=4):
        mixed = data.load("digits", options=data.LoadOptions(mixup=0.2, cutmix=1.0)).train
        chosen = mixed.training_batches(batch, 3, 1, start, rank, world)
        return [(b.inputs, b.targets) for b, _ in zip(chosen, range(5), strict=False)]

    def same(ours, theirs):
        return [torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(ours, theirs, strict=False)]

    state = np.random.get_state()[1].copy()
    whole = run()
    assert all(same(whole, run())) and all(same(whole[2:], run(start=2)))
    assert (np.random.get_state()[1] == state).all()
    assert not any(same(run(rank=0, world=2, batch=2), run(rank=1, world=2, batch=2)))


def test_mixing_is_for_training_with_pairs():
    source = data.load("digits", options=data.LoadOptions(mixup=0.2))
    assert source.test.evaluation_batches(4).__next__().targets.dtype == torch.int64
    assert torch.equal(
        next(source.train.evaluation_batches(9)).inputs,
        next(data.load("digits").train.evaluation_batches(9)).inputs,
    )
    with pytest.raises(UserError, match="9 images per device must be even"):
        next(source.train.training_batches(9, 0, 0))


def test_labels_are_smoothed_once():
    """Cross-entropy with smoothing e on mixed labels y: targets (1 - e) y + e / classes."""
    labels = next(MixedSet(flat_images(), 3, 0.3, 0.0).training_batches(8, 0, 0)).targets
    logits = torch.randn(8, 3)
    expected = -((0.9 * labels + 0.1 / 3) * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(F.cross_entropy(logits, labels, label_smoothing=0.1), expected)
