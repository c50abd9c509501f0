"""Pictures with boxes: what VOC's and COCO's layouts say, where boxes go with their pictures, resumes and processes."""

import itertools
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes

import object_files
import shared_data
from object_files import COLOURS, LABELS, Picture, Thing
from onebit import data
from onebit.data.loading.windows import Crop, Window, Windows, boxes_in, part_in
from onebit.errors import UserError

SMALL = {"image_size": 64, "workers": 0}
PLAIN = {"photometric": 0.0, "zoom_out": 1.0, "iou_crop": False, "mirror": False}
SPLITS = {"train": object_files.pictures("train", 14), "test": object_files.pictures("test", 7)}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    voc = object_files.write_voc(tmp_path_factory.mktemp("voc"), SPLITS)
    splits = {"train": SPLITS["train"], "val": SPLITS["test"]}
    return {"voc": voc, "coco": object_files.write_coco(tmp_path_factory.mktemp("coco"), splits)}


def load(kind, root, **options):
    return data.load(kind, root, data.LoadOptions(**{**SMALL, **options}))


def parts(boxes):
    return boxes.boxes, boxes.labels, boxes.difficult, boxes.crowd


def equal(one, other):
    return (
        torch.equal(one.inputs, other.inputs)
        and [t.image for t in one.targets] == [t.image for t in other.targets]
        and all(
            torch.equal(a, b)
            for ours, theirs in zip(one.targets, other.targets, strict=True)
            for a, b in zip(parts(ours), parts(theirs), strict=True)
        )
    )


def same(ours, theirs):
    pairs = list(itertools.zip_longest(ours, theirs))
    assert pairs and all(one is not None and other is not None and equal(one, other) for one, other in pairs)


def pixels(batch, source):
    return source.inputs.normalization.pixels(batch.inputs)


@pytest.mark.parametrize("kind", ("voc", "coco"))
def test_evaluation_stretches_pictures_and_boxes(kind, roots):
    source = load(kind, roots[kind])
    assert (source.labels, source.task) == (LABELS, "detection")
    assert source.inputs.shape == (3, 64, 64) and source.inputs.resize is None
    batches = list(source.test.evaluation_batches(4))
    assert [len(batch) for batch in batches] == [4, 3]
    seen = [target for batch in batches for target in batch.targets]
    assert [target.image for target in seen] == list(range(7))
    for target, picture in zip(seen, SPLITS["test"], strict=True):
        scale = torch.tensor([64 / picture.width, 64 / picture.height] * 2)
        expected = torch.tensor([t.box for t in picture.things], dtype=torch.float32).reshape(-1, 4) * scale
        order = [*range(len(target))] if kind == "voc" else np.argsort([t.label for t in picture.things]).tolist()
        ours = order if kind == "voc" else target.labels.argsort().tolist()
        torch.testing.assert_close(target.boxes[ours], expected[order])
        assert target.labels[ours].tolist() == [picture.things[i].label for i in order]
        hard = [picture.things[i].hard for i in order]
        marked, none = (target.difficult, target.crowd) if kind == "voc" else (target.crowd, target.difficult)
        assert marked[ours].tolist() == hard and not none.any()
        assert target.boxes.dtype == torch.float32 and target.labels.dtype == torch.int64
    assert sum(len(target) == 0 for target in seen) == 2, "images without boxes stay"
    assert len(source.test.some(3)) == 3
    some = next(source.test.some(3).evaluation_batches(3))
    assert torch.equal(some.inputs[1], batches[0].inputs[2]) and [t.image for t in some.targets] == [0, 1, 2]
    wide = next(source.test.cut(32, 128, None).evaluation_batches(7))
    assert wide.inputs.shape == (7, 3, 32, 128)
    torch.testing.assert_close(wide.targets[3].boxes, seen[3].boxes * torch.tensor([2.0, 0.5, 2.0, 0.5]))


def test_layouts_agree(roots):
    voc, coco = (load(kind, roots[kind]) for kind in ("voc", "coco"))
    for one, other in zip(voc.test.evaluation_batches(3), coco.test.evaluation_batches(3), strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert [len(t) for t in one.targets] == [len(t) for t in other.targets]


@pytest.mark.parametrize("kind", ("voc", "coco"))
def test_training_leaves_out_hard_boxes_and_else_changes_nothing_unasked(kind, roots):
    source = load(kind, roots[kind], **PLAIN)
    (trained,) = source.train.training_batches(14, 0, 0)
    (evaluated,) = source.train.evaluation_batches(14)
    order = [target.image for target in trained.targets]
    assert sorted(order) == list(range(14)) != order
    assert torch.equal(trained.inputs, evaluated.inputs[order])
    for target in trained.targets:
        assert torch.equal(target.boxes, evaluated.targets[target.image].boxes)
        wanted = sorted(t.label for t in SPLITS["train"][target.image].things if not t.hard)
        assert sorted(target.labels.tolist()) == wanted and not (target.difficult | target.crowd).any()
    assert any(thing.hard for picture in SPLITS["train"] for thing in picture.things)


@pytest.mark.parametrize("kind", ("voc", "coco"))
def test_resume_ranks_and_epochs(kind, roots):
    train = load(kind, roots[kind]).train
    whole = list(train.training_batches(4, 3, 1))
    assert len(whole) == train.training_steps(4) == 3
    same(whole[1:], load(kind, roots[kind]).train.training_batches(4, 3, 1, start=1))
    assert not equal(whole[0], next(train.training_batches(4, 3, 2)))
    ranks = [train.training_batches(2, 3, 1, 0, rank, 2) for rank in range(2)]
    for one, *halves in zip(whole, *ranks, strict=True):
        assert torch.equal(one.inputs, torch.cat([half.inputs for half in halves]))
        assert [t.image for t in one.targets] == [t.image for half in halves for t in half.targets]
    evaluated = list(train.evaluation_batches(3))
    for rank in range(2):
        same(evaluated[rank::2], train.evaluation_batches(3, rank, 2))


def test_workers_change_nothing(roots, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    expected, state = load("voc", roots["voc"]), torch.get_rng_state()
    for workers in (1, 2):
        source = load("voc", roots["voc"], workers=workers)
        assert source.train.workers == workers
        for epoch in range(2):
            same(expected.train.training_batches(3, 5, epoch), source.train.training_batches(3, 5, epoch))
        same(expected.test.evaluation_batches(3), source.test.evaluation_batches(3))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("vertical_flip", (False, True))
def test_boxes_go_where_their_pictures_go(tmp_path, vertical_flip):
    """The pixels of a box's colour fill the box, whatever window was drawn."""
    random = np.random.default_rng(4)
    images = []
    for number in range(60):
        (x1, y1), (x2, y2) = random.integers(0, 90, 2), random.integers(110, 200, 2)
        images.append(Picture(f"p{number}", 200 + number, 260 - number, [Thing(number % 3, (x1, y1, x2, y2))]))
    root = object_files.write_voc(tmp_path, {"train": images, "test": images[:3]})
    source = load("voc", root, photometric=0.0, image_size=96, vertical_flip=vertical_flip)
    seen = []
    for epoch in range(3):
        (batch,) = source.train.training_batches(60, 0, epoch)
        for image, target in zip(pixels(batch, source), batch.targets, strict=True):
            colour = torch.tensor(COLOURS[target.image % 3])[:, None, None]
            rows, columns = torch.nonzero((image.int() - colour).abs().amax(0) < 60, as_tuple=True)
            assert len(target) <= 1 and (len(target) == 1) == (len(rows) > 0)
            if len(target):
                found = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                torch.testing.assert_close(target.boxes[0], found.float(), rtol=0, atol=1.6)
                seen.append(target.boxes[0])
    sides = torch.stack([box[2:] - box[:2] for box in seen])
    assert len(seen) == 180 and sides.min() < 16 and sides.max() > 90, "far away, and cut out"


def test_windows_by_hand():
    boxes = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    window = Window(-20, 0, 80, 40)  # of a picture of 40 x 80
    torch.testing.assert_close(boxes_in(boxes, window, 160, 40), torch.tensor([[60.0, 20.0, 100.0, 40.0]]))
    behind = boxes_in(boxes, Window(-20, 0, 80, 40, True), 160, 40)
    torch.testing.assert_close(behind, torch.tensor([[60.0, 20.0, 100.0, 40.0]]))  # its centre is the window's
    array = np.random.default_rng(0).integers(0, 255, (80, 40, 3), dtype=np.uint8)
    part, x, y = part_in(Image.fromarray(array), window, 80, 40)
    assert (part.size, x, y) == ((40, 40), 20, 0) and np.array_equal(np.asarray(part), array[:40])
    part, x, y = part_in(Image.fromarray(array), Window(-10, 0, 80, 40, True), 80, 40)
    assert (part.size, x, y) == ((40, 40), 30, 0) and np.array_equal(np.asarray(part), array[:40, ::-1])
    upside_down = Window(-10, -30, 80, 100, turned=True)
    torch.testing.assert_close(boxes_in(boxes, upside_down, 80, 100), torch.tensor([[20.0, 10.0, 40.0, 50.0]]))
    part, x, y = part_in(Image.fromarray(array), upside_down, 80, 100)
    assert (part.size, x, y) == ((40, 70), 10, 0) and np.array_equal(np.asarray(part), array[69::-1])
    part, x, y = part_in(Image.fromarray(array), Window(-399, 0, 400, 80), 10, 80)  # a column of pixels, less than 1
    assert (part.size, x, y) == ((1, 80), 9, 0)


def drawn(crop, boxes, width, height, count):
    given = BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width))
    found = [crop.make_params([given]) for _ in range(count)]
    cropped = [f for f in found if f]
    sides = torch.tensor([[f["width"] / width, f["height"] / height, f["left"] / width] for f in cropped])
    kept = torch.stack([f["is_within_crop_area"] for f in cropped]).float()
    return len(cropped) / count, sides.mean(0), sides.std(0), kept.mean(0), cropped


def test_crops_are_torchvisions():
    """Same share of crops, sizes, places and boxes kept, up to what 1200 draws can tell (4 standard errors)."""
    boxes = torch.tensor([[10.0, 10.0, 60.0, 90.0], [100.0, 40.0, 180.0, 110.0], [150.0, 5.0, 160.0, 15.0]])
    torch.manual_seed(0)
    ours, theirs = (drawn(crop, boxes, 200, 190, 1200) for crop in (Crop(), v2.RandomIoUCrop()))
    assert abs(ours[0] - theirs[0]) < 4 * (2 * 0.25 / 1200) ** 0.5
    assert ((ours[1] - theirs[1]).abs() < 4 * (2 / 1000) ** 0.5 * theirs[2]).all()
    torch.testing.assert_close(ours[2], theirs[2], rtol=0.1, atol=0)
    torch.testing.assert_close(ours[3], theirs[3], rtol=0, atol=4 * (2 * 0.25 / 1000) ** 0.5)
    for crop in ours[4]:
        assert 0.5 <= crop["width"] / crop["height"] <= 2 and crop["is_within_crop_area"].any()
        assert crop["left"] >= 0 and crop["left"] + crop["width"] <= 200 and crop["top"] + crop["height"] <= 190


def test_windows_of_pictures_without_boxes_and_of_one_pixel():
    torch.manual_seed(0)
    windows = Windows(4.0, True, True, True)
    for boxes, side in ((torch.zeros(0, 4), 50), (torch.tensor([[0.0, 0.0, 1.0, 1.0]]), 1)):
        drawn = [windows(boxes, side, side) for _ in range(60)]
        assert all(kept.all() and window.width >= side for window, kept in drawn)
        turns = {(window.mirrored, window.turned) for window, _ in drawn}
        assert turns == set(itertools.product((True, False), repeat=2))
    assert not any(Windows(4.0, True, True)(boxes, side, side)[0].turned for _ in range(60))


def test_colours(roots):
    """They change pictures, less with less strength, not what is around them."""
    plain = {**PLAIN, "zoom_out": 3.0}
    batches, distances = {}, []
    for strength in (0.0, 0.3, 1.0):
        source = load("voc", roots["voc"], **{**plain, "photometric": strength})
        (batches[strength],) = source.train.training_batches(14, 0, 0)
    nothing = (batches[0.0].inputs.abs() < 0.02).all(1)  # ImageNet's mean
    assert 0.2 < nothing.float().mean() < 0.6
    for strength in (0.3, 1.0):
        same_windows = [torch.equal(a.boxes, b.boxes) for a, b in zip(batches[strength].targets, batches[0.0].targets)]
        assert all(same_windows)
        distance = (batches[strength].inputs - batches[0.0].inputs).abs().sum(1)  # (B, S, S)
        assert (distance[nothing] == 0).all()
        distances.append(distance[~nothing].mean())
    assert 0 < distances[0] < distances[1]


@pytest.mark.parametrize(
    ("key", "value"),
    (("photometric", 0.5), ("zoom_out", 2.0), ("iou_crop", False), ("mirror", False), ("vertical_flip", True)),
)
def test_keys_of_other_sets_are_refused(key, value, roots):
    with pytest.raises(UserError, match=f"{key} = {value} is for pictures with boxes, not for digits; leave it out"):
        data.load("digits", options=data.LoadOptions(**{key: value}))
    with pytest.raises(UserError, match=r"color_jitter = 0.3 is for photographs, not for voc"):
        load("voc", roots["voc"], color_jitter=0.3)
    with pytest.raises(UserError, match="mixup and cutmix are for classes, not for the task detection of voc"):
        load("voc", roots["voc"], mixup=0.3)


@pytest.mark.parametrize("workers", (0, 1))
def test_damaged_pictures_and_wrong_sizes(tmp_path, capsys, workers):
    root = object_files.write_voc(tmp_path, SPLITS)
    bad = root / "JPEGImages/train003.png"
    content = bad.read_bytes()
    bad.write_bytes(content[:-40])
    train = load("voc", root, workers=workers, **PLAIN).train
    (batch,) = train.training_batches(14, 0, 0)
    assert train.corrupt == [str(bad)] and capsys.readouterr().err.count(f"{bad} cannot be decoded") == 1
    assert sorted(t.image for t in batch.targets) == sorted([*range(3), 4, *range(4, 14)]), "its box is the next one's"
    bad.write_bytes(object_files.Picture("", 33, 44, []).encoded())
    said = SPLITS["train"][3]
    with pytest.raises(UserError, match=rf"train003\.xml says {said.width} x {said.height} pixels, .*png has 33 x 44"):
        list(load("voc", root, workers=workers).train.training_batches(14, 0, 0))
    bad.unlink()
    with pytest.raises(UserError, match=r"train\.txt, line 4: 'train003': .*train003\.jpg does not exist"):
        load("voc", root)


def test_the_challenges_of_voc(tmp_path):
    """Which splits of which year train and test, in the layout of the archives; VOC's names in VOC's order."""
    root, names = tmp_path / "data", {}
    for year in ("2007", "2012"):
        splits = {
            split: object_files.pictures(f"{split}{year}", 3 + len(split)) for split in ("train", "trainval", "val")
        }
        splits |= {"test": object_files.pictures("test" + year, 4)} if year == "2007" else {}
        object_files.write_voc(root / "VOCdevkit" / f"VOC{year}", splits)
        for file in (root / "VOCdevkit" / f"VOC{year}" / "Annotations").iterdir():
            file.write_text(file.read_text().replace("owl", "sheep"))
        names[year] = {split: [p.name for p in pictures] for split, pictures in splits.items()}
    wanted = {
        "voc2007": (names["2007"]["trainval"], names["2007"]["test"]),
        "voc2012": (names["2012"]["train"], names["2012"]["val"]),
        "voc0712": (names["2007"]["trainval"] + names["2012"]["trainval"], names["2007"]["test"]),
    }
    for row, splits in wanted.items():
        for place in (root, root / "VOCdevkit"):
            source = load(row, place)
            for examples, expected in zip((source.train, source.test), splits, strict=True):
                named = [examples.samples.name(i).rpartition("/")[2] for i in range(len(examples))]
                assert named == [f"{name}.png" for name in expected]
        labels = torch.cat([t.labels for b in source.test.evaluation_batches(9) for t in b.targets])
        assert len(source.labels) == 20 and {source.labels[i] for i in labels} == {"cat", "dog", "sheep"}
    shutil.rmtree(root / "VOCdevkit/VOC2012/JPEGImages")
    with pytest.raises(UserError, match=r"voc0712: .*VOC2012/JPEGImages does not exist"):
        load("voc0712", root)
    (root / "VOCdevkit/VOC2007/ImageSets/Main/test.txt").unlink()
    with pytest.raises(UserError, match=r"voc2007: .*VOC2007/ImageSets/Main/test\.txt does not exist; unpack"):
        load("voc2007", root)


def test_splits_of_a_folder(tmp_path):
    folder = object_files.write_voc(tmp_path, {"val": SPLITS["test"]}) / "ImageSets/Main"
    with pytest.raises(UserError, match=r"must hold train\.txt and test\.txt or val\.txt"):
        load("voc", tmp_path)
    object_files.write_voc(tmp_path, {"trainval": SPLITS["train"], "test": SPLITS["test"][:2]})
    assert [len(part) for part in (load("voc", tmp_path).train, load("voc", tmp_path).test)] == [14, 2]
    (folder / "train.txt").write_text("\ufefftrain001  \r\n\r\ntrain002\r\n", encoding="utf-8")
    assert [len(part) for part in (load("voc", tmp_path).train, load("voc", tmp_path).test)] == [2, 2]
    (folder / "test.txt").unlink()
    assert [len(part) for part in (load("voc", tmp_path).train, load("voc", tmp_path).test)] == [2, 7]
    (tmp_path / "classes.txt").write_text("owl\ncat\nbat\ndog\n")
    assert load("voc", tmp_path).labels == ("owl", "cat", "bat", "dog")


def test_coco2014_is_the_split_of_the_papers(tmp_path, roots):
    with pytest.raises(
        UserError, match=r"coco2014: .*instances_train2014\.json does not exist; trainval35k and minival are"
    ):
        load("coco2014", roots["coco"])
    splits = {part: object_files.pictures(part, 4 + len(part)) for part in ("train", "val")}
    root = object_files.write_coco(tmp_path, splits, "2014")
    said = {part: object_files.instances(pictures) for part, pictures in splits.items()}
    files = {f"instances_{part}2014.json": said[part] for part in ("train", "val")}

    def rest(first, last):
        images = said["val"]["images"][first:last]
        chosen = {image["id"] for image in images}
        boxes = [box for box in said["val"]["annotations"] if box["image_id"] in chosen]
        return json.dumps({**files["instances_val2014.json"], "images": images, "annotations": boxes})

    (root / "annotations/instances_minival2014.json").write_text(rest(0, 2))
    (root / "annotations/instances_valminusminival2014.json").write_text(rest(2, None))
    source = load("coco2014", root)
    assert (len(source.train), len(source.test)) == (9 + 5, 2)
    assert source.train.samples.name(9) == str(root / "val2014/val002.png")
    (root / "annotations/instances_trainvalminusminival2014.json").write_text(rest(1, None))
    assert len(load("coco2014", root).train) == 6
    assert load("coco2017", roots["coco"]).labels == LABELS
    with pytest.raises(UserError, match=r"coco2017: .*instances_train2017\.json does not exist"):
        load("coco2017", root)


def test_bccd_and_coco_mini(capsys):
    source = load("voc", shared_data.bccd_root(), image_size=300, zoom_out=2.0)
    assert (source.labels, len(source.train), len(source.test)) == (("Platelets", "RBC", "WBC"), 205, 72)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "1 left out, which have no area" in error and "BloodImage_00343.xml" in error
    batch = next(source.train.training_batches(8, 0, 0))
    assert batch.inputs.shape == (8, 3, 300, 300) and sum(map(len, batch.targets)) > 20
    coco = load("coco", shared_data.coco_mini_root())
    assert (len(coco.labels), coco.labels[0], coco.labels[79]) == (80, "person", "toothbrush")
    for part, boxes in ((coco.train, 929), (coco.test, 898)):
        assert sum(len(target) for batch in part.evaluation_batches(64) for target in batch.targets) == boxes
