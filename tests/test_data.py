"""Data sets: one order for all layouts of files, workers, processes and resumes; damaged files."""

import itertools
import shutil

import pytest
import torch
from torchvision import transforms
from torchvision.datasets import ImageFolder

import photograph_files
import shared_data
from onebit import data
from onebit.cli import main as cli
from onebit.data.loading.shards import WINDOW, shuffled
from onebit.errors import UserError
from photograph_files import CLASSES, images, write_tar

KINDS = ("imagefolder", "webdataset", "parquet")
SMALL = {"image_size": 16, "workers": 0}
STRONG = {"color_jitter": 0.4, "rand_augment": "rand-m9-mstd0.5", "lighting": 0.1, "mixup": 0.2, "cutmix": 1.0}


@pytest.fixture(scope="module", autouse=True)
def quiet_cache(tmp_path_factory):
    """Caches in a temporary folder, no progress bars."""
    import datasets

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        datasets.disable_progress_bars()
        yield


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    return {kind: photograph_files.write(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


def load(kind, root, **options):
    return data.load(kind, root, data.LoadOptions(**{**SMALL, **options}))


def equal(one, other):
    return torch.equal(one.inputs, other.inputs) and torch.equal(one.targets, other.targets)


def same(ours, theirs):
    pairs = list(itertools.zip_longest(ours, theirs))
    assert pairs and all(one is not None and other is not None and equal(one, other) for one, other in pairs)


def test_layouts_agree(roots):
    """Names, evaluation batches and training batches of the same images are the same in each layout of files."""
    folder, *others = (load(kind, roots[kind]) for kind in KINDS)
    assert folder.labels == CLASSES and folder.inputs.resize == 18
    for other in others:
        assert other.labels == CLASSES
        same(folder.test.evaluation_batches(4), other.test.evaluation_batches(4))
        same(folder.train.training_batches(5, 1, 2), other.train.training_batches(5, 1, 2))
    assert [len(b.targets) for b in folder.test.evaluation_batches(4)] == [4, 3]


def test_evaluation_is_the_imagenet_protocol(roots):
    """Shorter side to 256, centre 224, ImageNet's statistics: torchvision's reference transforms, image by image."""
    reference = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    expected = ImageFolder(str(roots["imagefolder"] / "val"), reference)
    for kind in KINDS:
        batch = next(load(kind, roots[kind], image_size=224).test.evaluation_batches(100))
        torch.testing.assert_close(batch.inputs, torch.stack([x for x, _ in expected]), rtol=0, atol=1e-6)
        assert batch.targets.tolist() == [label for _, label in expected]


@pytest.mark.parametrize("kind", KINDS)
def test_resume_continues_the_sequence(kind, roots):
    train = load(kind, roots[kind], **STRONG).train
    whole = list(train.training_batches(4, 3, 1))
    assert len(whole) == train.training_steps(4) == 6
    same(whole[4:], load(kind, roots[kind], **STRONG).train.training_batches(4, 3, 1, start=4))
    assert not equal(whole[0], next(train.training_batches(4, 3, 2)))


@pytest.mark.parametrize("kind", ("imagefolder", "parquet", "webdataset"))
def test_workers_do_not_change_images(kind, roots, monkeypatch):
    """0, 1 and 2 processes; over two epochs, of which the first is left early, and while an evaluation is under way."""
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    expected = load(kind, roots[kind], **STRONG)
    state = torch.get_rng_state()
    for workers in (1, 2) if kind == "webdataset" else (2,):
        source = load(kind, roots[kind], **STRONG, workers=workers)
        assert source.train.images.workers == workers
        left = source.train.training_batches(4, 3, 0)
        assert equal(next(left), next(expected.train.training_batches(4, 3, 0)))
        left.close()
        evaluation = source.test.evaluation_batches(3)
        first = next(evaluation)
        same(expected.train.training_batches(4, 3, 1), source.train.training_batches(4, 3, 1))
        same(expected.test.evaluation_batches(3), [first, *evaluation])
    assert torch.equal(state, torch.get_rng_state())  # the training's generator is left alone


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_partition_each_global_batch(kind, roots):
    train = load(kind, roots[kind], lighting=0.1).train
    whole = train.training_batches(6, 5, 3)
    ranks = [train.training_batches(2, 5, 3, 0, rank, 3) for rank in range(3)]
    for one, *parts in zip(whole, *ranks, strict=True):
        assert torch.equal(one.inputs, torch.cat([p.inputs for p in parts]))
        assert torch.equal(one.targets, torch.cat([p.targets for p in parts]))


@pytest.mark.parametrize("kind", ("imagefolder", "digits"))
def test_ranks_share_an_evaluation(kind, roots):
    test = data.load(kind, roots.get(kind, "."), data.LoadOptions(**SMALL)).test
    whole = list(test.evaluation_batches(3))
    for rank in range(2):
        same(whole[rank::2], test.evaluation_batches(3, rank, 2))


def test_shuffling_visits_every_image_and_few_shards_at_a_time():
    sizes = [3 + i % 5 for i in range(5 * WINDOW + 7)]
    shard_of = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    order = shuffled(sizes, torch.Generator().manual_seed(1))
    assert torch.equal(order.sort().values, torch.arange(sum(sizes)))
    assert torch.equal(order, shuffled(sizes, torch.Generator().manual_seed(1)))
    assert not torch.equal(order, shuffled(sizes, torch.Generator().manual_seed(2)))
    first, last = {}, {}
    for position, shard in enumerate(shard_of[order].tolist()):
        first.setdefault(shard, position)
        last[shard] = position
    for position in range(len(order)):
        assert sum(first[s] <= position <= last[s] for s in first) <= WINDOW
    assert [s for s, _ in sorted(first.items(), key=lambda item: item[1])] != sorted(first)


def damaged(root, *numbers):
    """Cut the training images with these numbers in half; returns their paths."""
    paths = sorted((root / "train").glob("*/*.JPEG"))
    for number in numbers:
        content = paths[number].read_bytes()
        paths[number].write_bytes(content[: len(content) // 2])
    return [paths[number] for number in numbers]


@pytest.mark.parametrize("workers", (0, 1))
def test_corrupt_images_are_replaced_and_counted(tmp_path, capsys, workers):
    whole = photograph_files.write("imagefolder", tmp_path / "whole")
    root = photograph_files.write("imagefolder", tmp_path / "damaged")
    bad = damaged(root, 3, 4, 25)  # the last one's successor is the first image
    train = load("imagefolder", root, workers=workers, max_corrupt=3).train
    batches = [b for epoch in range(2) for b in train.training_batches(26, 0, epoch)]
    assert sorted(train.corrupt) == [str(path) for path in bad]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(sum(str(path) in line for line in lines) == 1 for path in bad)
    good = [b for epoch in range(2) for b in load("imagefolder", whole).train.training_batches(26, 0, epoch)]
    labels = [0] * 9 + [1] * 9 + [2] * 8
    for ours, theirs, epoch in zip(batches, good, range(2), strict=True):
        order = shuffled([26], torch.Generator().manual_seed(data.dataset.epoch_seed(0, epoch))).tolist()
        for row, index in enumerate(order):
            instead = {3: 5, 4: 5, 25: 0}.get(index, index)
            assert ours.targets[row] == labels[instead]
            assert (instead == index) == torch.equal(ours.inputs[row], theirs.inputs[row])


@pytest.mark.parametrize("workers", (0, 1))
def test_too_many_corrupt_images_stop_the_run(tmp_path, capsys, workers):
    root = photograph_files.write("imagefolder", tmp_path)
    bad = damaged(root, 1, 7, 12)
    with pytest.raises(UserError, match=r"max_corrupt = 2 .*cannot be decoded") as raised:
        list(load("imagefolder", root, workers=workers, max_corrupt=2).train.training_batches(26, 0, 0))
    assert all(str(path) in str(raised.value) for path in bad)
    with pytest.raises(UserError, match="max_corrupt = 0"):
        list(load("imagefolder", root, workers=workers, max_corrupt=0).train.training_batches(26, 0, 0))
    damaged(root, *range(26))
    with pytest.raises(UserError, match="none of the training images"):
        list(load("imagefolder", root, workers=workers, max_corrupt=99).train.training_batches(26, 0, 0))


def test_the_command_line_trains_around_a_corrupt_image(tmp_path, capsys):
    root = photograph_files.write("imagefolder", tmp_path / "data", train=12, val=3)
    (bad,) = damaged(root, 5)
    keys = ("--model", "resnet8", "--image-size", "16", "--batch-size", "12", "--epochs", "1", "--json")
    train = ["train", "--data", "imagefolder", "--root", str(root), "--workers", "0", *keys]
    assert cli.main([*train, "--max-corrupt", "0", "--out", str(tmp_path / "strict")]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and str(bad) in line and "max_corrupt = 0" in line
    assert cli.main([*train, "--out", str(tmp_path / "tolerant")]) == 0
    assert capsys.readouterr().err.count(f"{bad} cannot be decoded") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_corrupt_image_is_named_in_evaluation(kind, tmp_path):
    samples = images("val", 7)
    samples[2] = (samples[2][0], samples[2][1][:-100], samples[2][2])
    photograph_files.WRITERS[kind](tmp_path, "train", images("train", 6))
    photograph_files.WRITERS[kind](tmp_path, "val", samples)
    place = {"imagefolder": "val0002.JPEG", "webdataset": "val-0001.tar: ./val0002", "parquet": "validation-.*row 2"}
    with pytest.raises(UserError, match=f"{place[kind]} cannot be decoded"):
        list(load(kind, tmp_path).test.evaluation_batches(7))


@pytest.mark.parametrize("workers", (0, 1))
@pytest.mark.parametrize("kind", ("imagefolder", "webdataset"))
def test_data_that_vanish(kind, workers, tmp_path):
    root = photograph_files.write(kind, tmp_path / "data")
    train = load(kind, root, workers=workers).train
    batches = train.training_batches(2, 0, 0)
    next(batches)
    for path in root.rglob("train*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    with pytest.raises(UserError, match=r"train.*cannot be read.*--resume"):
        list(batches)
    shutil.rmtree(root)
    with pytest.raises(UserError, match=f"the data folder {root} is gone"):
        list(train.training_batches(2, 0, 1))
    assert not train.corrupt


def tar_of(root, train, val=(("a.jpg", b"x"), ("a.cls", b"0"))):
    write_tar(root / "train" / "0.tar", list(train))
    write_tar(root / "val" / "0.tar", list(val))
    return root


@pytest.mark.parametrize(
    ("members", "message"),
    (
        ([("a.jpg", b"x")], "no a.cls"),
        ([("a.cls", b"1")], "no a.jpg"),
        ([("a.jpg", b"x"), ("a.cls", b"cat")], "b'cat', not the number"),
        ([("a.jpg", b"x"), ("a.cls", b"-1")], "b'-1', not the number"),
        ([("a.jpg", b"x"), ("a.cls", b"7654321")], "largest label is 7654321"),
        ([("a.jpg", b"x"), ("a.cls", b"0"), ("a.png", b"x")], "a.png twice"),
        ([("a.txt", b"x")], "hold no images"),
    ),
)
def test_tar_files_without_sense(members, message, tmp_path):
    with pytest.raises(UserError, match=message):
        load("webdataset", tar_of(tmp_path, members))


def test_classes_of_webdataset(tmp_path):
    pair = [("deep/folder.v1/a.b.JPG", b"x"), ("deep/folder.v1/a.cls", b" 2 ")]
    root = tar_of(tmp_path, [("deep/folder.v1/a.JPG", b"x"), ("deep/folder.v1/a.cls", b" 2 ")])
    assert load("webdataset", root).labels == ("0", "1", "2")
    (root / "classes.txt").write_text("ant\nbee\n")
    with pytest.raises(UserError, match="label 2, which is none of the 2 classes"):
        load("webdataset", root)
    (root / "classes.txt").write_text("ant\nbee\ncrab\n")
    assert load("webdataset", root).labels == ("ant", "bee", "crab")
    write_tar(root / "train" / "0.tar", pair)  # .b.jpg is not .jpg
    with pytest.raises(UserError, match=r"no deep/folder\.v1/a\.jpg"):
        load("webdataset", root)


def test_the_index_of_tar_files_is_kept(tmp_path, monkeypatch):
    """It is read from the cache while the files are as they were, and made again for a changed file or a damaged cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = photograph_files.write("webdataset", tmp_path / "data")
    expected = list(load("webdataset", root).train.training_batches(13, 0, 0))
    kept = list((tmp_path / "cache" / "onebit").glob("*.npz"))
    assert len(kept) == 2
    with monkeypatch.context() as patch:
        patch.setattr("onebit.data.loading.tar_index.read", lambda path: pytest.fail(f"{path} was read"))
        same(expected, load("webdataset", root).train.training_batches(13, 0, 0))
    for path in kept:
        path.write_bytes(path.read_bytes()[:-30])
    same(expected, load("webdataset", root).train.training_batches(13, 0, 0))
    photograph_files.write_webdataset(root, "train", images("train", 14))
    assert len(load("webdataset", root).train) == 14
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # not a folder
    assert len(load("webdataset", root).train) == 14


def test_damaged_tar_files(tmp_path):
    root = photograph_files.write("webdataset", tmp_path)
    path = root / "train-0001.tar"
    whole = path.read_bytes()
    header = whole.index(b"train0011.cls") - 2  # 512 bytes of a member in the middle
    content = bytearray(whole)
    content[header : header + 512] = b"\xff" * 512
    for damage in (b"", b"no tar", whole[: len(whole) // 2], whole[:header], whole[: header + 100], bytes(content)):
        path.write_bytes(damage)
        with pytest.raises(UserError, match=r"train-0001\.tar is not a whole, uncompressed tar file"):
            load("webdataset", root)
    path.write_bytes(whole)
    train = load("webdataset", root).train
    path.write_bytes(whole[:1000])  # while it is in use
    with pytest.raises(UserError, match=r"train-0001\.tar.* cannot be read"):
        list(train.training_batches(26, 0, 0))
    (root / "train-0001.tar").unlink()
    for path in root.glob("train-*.tar"):
        path.rename(path.with_suffix(".tar.gz"))
    with pytest.raises(UserError, match=r"neither train/\*\.tar nor train-\*\.tar"):
        load("webdataset", root)
    with pytest.raises(UserError, match="nowhere does not exist"):
        load("webdataset", root / "nowhere")


def test_damaged_parquet_files(tmp_path, monkeypatch):
    import datasets

    root = photograph_files.write("parquet", tmp_path)
    path = root / "data" / "train-00001-of-00002.parquet"
    whole = path.read_bytes()
    for damage in (b"", b"no parquet", whole[: len(whole) // 2]):
        path.write_bytes(damage)
        with pytest.raises(UserError, match=r"train-00001-of-00002\.parquet is not a whole parquet file"):
            load("parquet", root)
    for columns, message in (
        ({"img": ["a"], "label": [0]}, "columns img, label, not 'image'"),
        ({"image": [{"bytes": b"x", "path": None}]}, "not 'label'"),
        ({"image": [{"bytes": b"x", "path": None}], "label": ["cat"]}, "not numbers of classes"),
        ({"image": [{"bytes": b"x", "path": None}], "label": [None]}, "not numbers of classes"),
        ({"image": [7], "label": [0]}, "holds no images"),
    ):
        for name in root.glob("data/train-*"):
            name.unlink()
        datasets.Dataset.from_dict(columns).to_parquet(str(root / "data" / "train-0.parquet"))
        with pytest.raises(UserError, match=message):
            load("parquet", root)
    datasets.Dataset.from_dict({"image": [{"bytes": None, "path": "a.jpg"}], "label": [5]}).to_parquet(
        str(root / "data" / "train-0.parquet")
    )
    source = load("parquet", root)
    assert source.labels == tuple("012345")
    with pytest.raises(UserError, match=r"row 0 cannot be read.*not its bytes"):
        list(source.train.training_batches(1, 0, 0))
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(UserError, match=r"datasets; install with pip install '.*\[datasets\]'"):
        load("parquet", root)


def test_imagenette_trains_from_all_classes():
    source = load("imagefolder", shared_data.imagenette_root(), image_size=224, workers=1)
    assert (len(source.train), len(source.test), len(source.labels)) == (5000, 1000, 10)
    batch = next(source.train.training_batches(64, 0, 0))
    assert len(batch.targets.unique()) == 10
    assert abs(batch.inputs.mean()) < 0.3 and 0.8 < batch.inputs.std() < 1.3  # ImageNet's statistics fit
