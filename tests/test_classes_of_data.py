"""Names of classes, and what lies beside the data without being data: in class folders, text files, tables and tar files."""

import os

import numpy as np
import pytest
from PIL import Image

import photograph_files
from onebit import data
from onebit.cli.main import main
from onebit.errors import UserError
from photograph_files import CLASSES, images, write_tar

WRONG = ("x" * 1001, os.fsdecode(b"caf\xe9"))  # too long; not UTF-8


@pytest.fixture(autouse=True)
def caches(tmp_path_factory, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    datasets.disable_progress_bars()


def load(kind, root):
    return data.load(kind, root, data.LoadOptions(image_size=16, workers=0))


def same(one, other):
    for ours, theirs in zip(one.test.evaluation_batches(4), other.test.evaluation_batches(4), strict=True):
        assert ours.inputs.equal(theirs.inputs) and ours.targets.equal(theirs.targets)


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)


def test_a_folder_that_no_packed_file_can_name(tmp_path, capsys):
    """Refused before the training, with the name and the remedy on one line."""
    root = photograph_files.write("imagefolder", tmp_path / "data")
    for split in ("train", "val"):
        os.rename(root / split / "dog", os.fsencode(root / split) + b"/caf\xe9")
    with pytest.raises(UserError, match=r"'caf\\udce9'; rename the folder in train and val"):
        load("imagefolder", root)
    command = ["train", "--data", "imagefolder", "--root", str(root), "--model", "resnet8", "--image-size", "16"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "run" / "last.ckpt").exists()


def test_a_table_that_names_such_a_class(tmp_path):
    import datasets

    for wrong in WRONG[:1]:  # parquet files hold UTF-8 alone
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", wrong])})
        content = images("train", 3)[0][1]
        table = datasets.Dataset.from_dict({"image": [{"bytes": content, "path": None}], "label": [0]}, features)
        for split in ("train", "val"):
            (tmp_path / "data").mkdir(exist_ok=True)
            table.to_parquet(str(tmp_path / "data" / f"{split}-0.parquet"))
        with pytest.raises(UserError, match=r"train-0\.parquet: the name of a class must be a string of at most 1000"):
            load("parquet", tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    (
        ("cat\ndog\nowl".encode("utf-16"), "UTF-16 text; save it as UTF-8"),
        ("cat\ndog\nowl".encode("utf-16-le"), "zero bytes, as UTF-16"),
        ("cat\ncafé\nowl".encode("latin-1"), r"not UTF-8 text \(line 2\)"),
        (b"cat\n\nowl\n", "line 2 is empty"),
        (b"\n\n", "it is empty"),
        (b"", "it is empty"),
        (("cat\n" + WRONG[0] + "\nowl\n").encode(), "at most 1000 characters.*change the line"),
        (b"cat\ndog\n", "label 2, which is none of the 2 classes"),
    ),
)
def test_text_files_of_names_that_are_refused(tmp_path, content, says):
    root = photograph_files.write("webdataset", tmp_path)
    (root / "classes.txt").write_bytes(content)
    with pytest.raises(UserError, match=says):
        load("webdataset", root)


@pytest.mark.parametrize("content", (b"\xef\xbb\xbfcat\r\ndog\r\nowl\r\n", b"cat\rdog\rowl", b" cat \ndog\nowl\n\n\n"))
def test_text_files_of_names_as_editors_write_them(tmp_path, content):
    root = photograph_files.write("webdataset", tmp_path)
    (root / "classes.txt").write_bytes(content)
    assert load("webdataset", root).labels == CLASSES
    (root / "classes.txt").write_text("cat\u2028s\ndog\x0bs\nowl\x85s\n", encoding="utf-8")
    assert load("webdataset", root).labels == ("cat\u2028s", "dog\x0bs", "owl\x85s")


@pytest.mark.parametrize("kind", ("imagefolder", "webdataset", "parquet"))
def test_hidden_files_are_no_data(kind, tmp_path):
    clean = photograph_files.write(kind, tmp_path / "clean")
    root = photograph_files.write(kind, tmp_path / "data")
    for split in ("train", "val"):
        if kind == "imagefolder":
            picture(root / split / ".ipynb_checkpoints" / "1.jpg")
            picture(root / split / "cat" / ".thumbnails" / "1.jpg")
            (root / split / "dog" / "._1.jpg").write_bytes(b"\0\5\x16\7")
            (root / split / ".DS_Store").write_bytes(b"")
        for path in [*root.glob("*.tar"), *root.glob("data/*.parquet")]:
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    ours, theirs = load(kind, root), load(kind, clean)
    assert ours.labels == CLASSES and (len(ours.train), len(ours.test)) == (len(theirs.train), len(theirs.test))
    same(ours, theirs)


def test_folders_are_read_as_torchvision_reads_them(tmp_path):
    """The same images in the same order, with folders below those of the classes, and links."""
    from torchvision.datasets import ImageFolder

    root = photograph_files.write("imagefolder", tmp_path / "data")
    for name in (
        "b.png",
        "B.PNG",
        "a/2.jpg",
        "a/10.jpg",
        "a-b/1.jpg",
        "ab/deep/er/1.webp",
        "a.jpg/1.png",
        "z.gif",
        "z.txt",
    ):
        picture(root / "train" / "cat" / name) if not name.endswith("txt") else (
            root / "train" / "cat" / name
        ).write_text("")
    picture(tmp_path / "elsewhere" / "9.bmp")
    (root / "train" / "dog" / "link").symlink_to(tmp_path / "elsewhere")
    (root / "train" / "bee").symlink_to(tmp_path / "elsewhere")
    picture(root / "val" / "bee" / "1.png")
    ours, theirs = load("imagefolder", root), ImageFolder(str(root / "train"))
    assert list(ours.labels) == theirs.classes
    samples = ours.train.samples
    assert [(samples.name(i), int(samples.labels[i])) for i in range(len(samples.labels))] == theirs.samples


@pytest.mark.parametrize(
    ("name", "says"), (("pipe.jpg", "not a file"), ("nowhere.jpg", "link to nothing"), ("x.jpg/", "without"))
)
def test_what_looks_like_an_image_is_refused_by_name(tmp_path, name, says):
    root = photograph_files.write("imagefolder", tmp_path)
    path = root / "train" / "owl" / name
    if name.startswith("pipe"):
        os.mkfifo(path)
    elif name.endswith("/"):
        path.mkdir()
    else:
        path.symlink_to("/nowhere.jpg")
    with pytest.raises(UserError, match=rf"{path.name} is no image: .*{says}.*; remove it"):
        load("imagefolder", root)


def test_classes_without_images(tmp_path):
    root = photograph_files.write("imagefolder", tmp_path)
    for split in ("train", "val"):
        (root / split / "new").mkdir()
    with pytest.raises(UserError, match=r"train/new holds no images.*or remove the folder"):
        load("imagefolder", root)
    with pytest.raises(UserError, match=r"holds no folders"):
        (tmp_path / "other" / "train").mkdir(parents=True)
        load("imagefolder", tmp_path / "other")


def tar(root, *names):
    members = [(name, b"0" if name.lower().endswith("cls") else b"x") for name in names]
    for split in ("train", "val"):
        write_tar(root / split / "0.tar", members)
    return root


@pytest.mark.parametrize(
    ("names", "lost"),
    (
        (("a.jpg", "a.cls", "b.v1.jpg", "b.v1.cls"), r"b\.v1\.jpg"),
        (("a.jpg", "a.cls", "a.v1.jpg", "a.v1.cls"), r"a\.v1\.jpg"),
        (("a.jpg", "a.cls", "x/2024.05.01.PNG", "x/2024.05.01.cls"), r"x/2024\.05\.01\.PNG"),
        (("a.jpg", "a.cls", "b.left.jpg"), r"b\.left\.jpg"),
        (("a.v1.jpg", "a.v1.cls"), r"a\.v1\.jpg"),
    ),
)
def test_keys_with_dots_are_refused_by_name(tmp_path, names, lost):
    with pytest.raises(
        UserError, match=rf"0\.tar holds {lost}, whose key ends at the first dot .*without dots in keys"
    ):
        load("webdataset", tar(tmp_path, *names))


def test_further_fields_and_hidden_members_are_left_alone(tmp_path):
    names = (
        "a.jpg",
        "a.cls",
        "a.depth.png",
        "a.mask.left.png",
        "a.coarse.cls",
        "a.json",
        "./._a.jpg",
        "./._a.cls",
        ".jpg",
    )
    source = load("webdataset", tar(tmp_path, *names, "dir.v1/b.jpg", "dir.v1/b.cls"))
    assert [key.decode() for key in source.train.samples.keys] == ["a", "dir.v1/b"]


def test_numbers_of_classes_with_a_byte_order_mark(tmp_path):
    for split in ("train", "val"):
        write_tar(tmp_path / split / "0.tar", [("a.jpg", b"x"), ("a.cls", b"\xef\xbb\xbf3\r\n")])
    assert load("webdataset", tmp_path).labels == ("0", "1", "2", "3")


def test_an_empty_image_is_one_that_cannot_be_decoded(tmp_path, capsys):
    """It is replaced in training, and named in evaluation."""
    root = photograph_files.write("imagefolder", tmp_path)
    for split in ("train", "val"):
        next((root / split / "cat").glob("*")).write_bytes(b"")
    source = load("imagefolder", root)
    assert len(list(source.train.training_batches(26, 0, 0))) == 1
    assert "cannot be decoded (it is empty)" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"cannot be decoded \(it is empty\)"):
        list(source.test.evaluation_batches(7))
