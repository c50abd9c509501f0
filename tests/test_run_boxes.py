"""Detectors from the command line and from Python: boxes in words, tables and JSON, and drawn on pictures."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

import onebit
from detectors import LABELS, SIZE, packed
from onebit import runtime
from onebit.cli.main import main
from onebit.errors import UserError
from onebit.runtime import box_settings, boxes, drawing

THRESHOLD = 0.5


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "detector.safetensors"
    packed(path)
    return path


def picture(width, height, seed=0, mode="RGB"):
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.NEAREST).convert(mode)


@pytest.fixture
def folder(tmp_path):
    """Pictures of several sizes and kinds, one on its side, one that is none."""
    (tmp_path / "photos" / "more").mkdir(parents=True)
    picture(64, 48).save(tmp_path / "photos" / "a.png")
    picture(320, 100, 1).save(tmp_path / "photos" / "b.jpg", quality=98)
    picture(60, 200, 2, "L").save(tmp_path / "photos" / "more" / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by 90 degrees
    picture(128, 96, 3).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photos" / "turned.png", exif=exif)
    return tmp_path / "photos"


def opened(path):
    with Image.open(path) as image:
        image.load()
        return image


def run(capsys, *arguments):
    code = main(["run", *map(str, arguments)])
    shown = capsys.readouterr()
    return code, shown.out.splitlines(), shown.err.splitlines()


def expected(net, path, threshold=THRESHOLD):
    """From raw outputs: (label, score, corners in pixels of the upright picture)."""
    model = runtime.load(net)
    upright = opened(path).convert("RGB")
    if path.name == "turned.png":
        upright = upright.transpose(Image.Transpose.ROTATE_270)
    pixels = np.asarray(upright.resize(SIZE[::-1], Image.Resampling.BILINEAR))
    outputs = [output[..., 0].swapaxes(1, 2) for output in model(pixels).values()]
    (found,) = boxes.by_numpy(outputs, box_settings.parse(model.task.settings, "settings"))
    scale = np.array([upright.width / SIZE[1], upright.height / SIZE[0]] * 2)
    return [
        (LABELS[label], score, box * scale)
        for box, score, label in zip(found.boxes, found.scores, found.labels)
        if score >= threshold
    ]


def test_boxes_are_in_pixels_of_the_picture(capsys, net, folder):
    code, out, err = run(capsys, net, folder, "--threshold", THRESHOLD, "--json")
    assert (code, err) == (0, [])
    images = json.loads("\n".join(out))["images"]
    assert [image["image"] for image in images] == [
        str(folder / name) for name in ("a.png", "b.jpg", "more/a.png", "turned.png")
    ]
    model, total = runtime.load(net), 0
    for image in images:
        path = folder / image["image"].removeprefix(f"{folder}/")
        parts, wanted = image["predictions"], expected(net, path)
        assert len(parts) == len(wanted)
        for part, (label, score, box) in zip(parts, wanted):
            assert part.keys() == {"label", "score", "box"} and part["label"] == label
            assert part["score"] == pytest.approx(float(score), abs=1e-6)
            np.testing.assert_allclose(part["box"], box, atol=0.0051)
        assert parts == model.predict(path, threshold=THRESHOLD) == model.predict(str(path))
        assert parts[:2] == model.predict(path, top=2)
        total += len(parts)
    assert total > 8
    turned = images[-1]["predictions"]
    assert max(part["box"][2] for part in turned) > 96, "the width of the upright picture is 128"


def test_the_threshold_chooses(capsys, net, folder):
    model = runtime.load(net)
    scores = [part["score"] for part in model.predict(folder / "b.jpg", threshold=0)]
    assert scores == sorted(scores, reverse=True) and len(scores) == 40 and min(scores) < 0.75 < max(scores)
    assert [p["score"] for p in model.predict(folder / "b.jpg", threshold=0.75)] == [s for s in scores if s >= 0.75]
    assert model.predict(folder / "b.jpg", threshold=1) == []
    several = model.predict([folder / "a.png", opened(folder / "b.jpg")], threshold=0.75)
    assert several == [model.predict(folder / name, threshold=0.75) for name in ("a.png", "b.jpg")]
    for bad in (-0.1, 1.5, "0.5", True, float("nan")):
        with pytest.raises(UserError, match="threshold must be a number from 0 to 1"):
            model.predict(folder / "b.jpg", threshold=bad)


def test_lines_for_people_and_programs(capsys, net, folder):
    model = runtime.load(net)
    answer = model.predict(folder / "b.jpg", threshold=0.6)
    code, out, _ = run(capsys, net, folder / "b.jpg", "--threshold", 0.6)
    first = answer[0]
    corners = ", ".join(f"{at:.0f}" for at in first["box"])
    assert code == 0 and len(out) == 1
    assert out[0].startswith(f"{folder / 'b.jpg'}  {first['label']} {100 * first['score']:.1f} % ({corners})")
    assert out[0].count("%") == len(answer)
    assert run(capsys, net, folder / "b.jpg", "--threshold", 1)[1] == [f"{folder / 'b.jpg'}  no boxes"]
    _, out, _ = run(capsys, net, folder / "b.jpg", "--threshold", 0.6, "--format", "jsonl")
    assert json.loads(out[0]) == {"image": str(folder / "b.jpg"), "predictions": answer}
    _, out, _ = run(capsys, net, folder, "--threshold", 0.6, "--format", "csv")
    rows = list(csv.reader(out))
    assert rows[0] == ["image", "label", "score", "x1", "y1", "x2", "y2"]
    own = [row[1:] for row in rows if row[0] == str(folder / "b.jpg")]
    assert own == [[p["label"], str(p["score"]), *map(str, p["box"])] for p in answer]
    _, out, _ = run(capsys, net, folder / "b.jpg", "--threshold", 1, "--format", "csv")
    assert list(csv.reader(out))[1] == [str(folder / "b.jpg"), *[""] * 6]
    _, out, _ = run(capsys, net, folder / "b.jpg", "--top", 1, "--format", "csv")
    assert len(out) == 2


def test_pictures_are_drawn(capsys, net, folder, tmp_path):
    """By their names and at their sizes, upright; frames lie where the boxes are, in the colour of the label."""
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    code, out, _ = run(capsys, net, folder, "--draw", tmp_path / "drawn", "--top", 1, "--json")
    assert code == 0
    images = json.loads("\n".join(out))["images"]
    names = ("a.png", "b.jpg", "more/a.png", "turned.png")
    assert [image["drawn"] for image in images] == [str(tmp_path / "drawn" / name) for name in names]
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before
    sizes = [(64, 48), (320, 100), (60, 200), (128, 96)]
    for image, size in zip(images, sizes):
        made = opened(image["drawn"])
        assert (
            made.size == size and made.mode == "RGB" and made.format == ("JPEG" if ".jpg" in image["drawn"] else "PNG")
        )
        ((part,), pixels) = image["predictions"], np.asarray(made).astype(int)
        left, top, right, bottom = (round(at) for at in part["box"])
        right, bottom = max(left, right - 1), max(top, bottom - 1)
        colour = np.array(drawing.colour_of(part["label"], LABELS))
        middle = pixels[bottom, (left + right) // 2] if bottom > 30 else pixels[(top + bottom) // 2, right]
        assert np.abs(middle - colour).max() < (1 if made.format == "PNG" else 90), image["drawn"]
    assert run(capsys, net, folder, "--draw", tmp_path / "drawn")[0] == 0, "drawn pictures may be drawn again"


@pytest.mark.parametrize("size", [(40, 30), (64, 48), (900, 20), (800, 600)])
def test_text_can_be_read(size):
    """It stays in the picture, on a ground that contrasts with it, whatever is below and however near the border the box is."""
    labels = [f"label {place}" for place in range(30)]
    white, black = Image.new("RGB", size, "white"), Image.new("RGB", size, "black")
    width, height = size
    for place, box in enumerate(
        [(0, 0, width, height), (width - 3, 0, width, 3), (0, height - 3, 3, height), (5, 5, 5, 5)]
    ):
        answer = [{"label": labels[place], "score": 0.87, "box": list(map(float, box))}]
        one, other = (np.asarray(drawing.drawn(ground, answer, labels)).astype(int) for ground in (white, black))
        colour, text = (
            np.array(c)
            for c in (
                drawing.colour_of(labels[place], labels),
                drawing.contrast(drawing.colour_of(labels[place], labels)),
            )
        )
        same = (one == other).all(-1)  # what was drawn over the ground
        assert (same & (np.abs(one - text).sum(-1) < 0.5 * np.abs(colour - text).sum())).sum() >= 15, "letters"
        assert (same & (one == colour).all(-1)).sum() >= 30, "ground and frame"
    assert white.getpixel((1, 1)) == (255, 255, 255), "the picture that was given stays as it is"


def test_colours_of_labels_differ():
    labels = [str(place) for place in range(21)]
    colours = np.array([drawing.colour_of(label, labels) for label in labels])
    apart = np.abs(colours[:, None] - colours[None]).sum(-1) + 999 * np.eye(21, dtype=int)
    assert apart.min() > 15 and drawing.colour_of("7", labels) == drawing.colour_of("7", labels)
    for colour in colours:
        assert drawing.contrast(tuple(colour)) in ((0, 0, 0), (255, 255, 255))
    assert drawing.contrast((255, 240, 0)) == (0, 0, 0) and drawing.contrast((30, 0, 160)) == (255, 255, 255)


def test_pictures_that_would_be_lost_are_not_drawn(capsys, net, folder, tmp_path):
    """One line, exit code 2, nothing written."""
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    (tmp_path / "file").write_text("x")
    (folder / "out").symlink_to(folder)
    for arguments, message in (
        ((folder, "--draw", folder), "is searched for pictures"),
        ((folder / "b.jpg", "--draw", folder / "out"), "would replace its own input"),
        ((folder / "a.png", folder / "more" / "a.png", "--draw", tmp_path / "drawn"), "would both be drawn as .*a.png"),
        ((folder, "--draw", tmp_path / "file"), "--draw .*file is a file; give a folder"),
        ((folder, "--draw", tmp_path / "file" / "in"), "cannot write|is a file|not a folder"),
        ((folder, "--threshold", "50"), "'50' is not a number from 0 to 1"),
        ((folder, "--threshold", "nan"), "'nan' is not a number from 0 to 1"),
    ):
        code, _, err = run(capsys, net, *arguments)
        assert code == 2 and len(err) == 1 and re.search(message, err[0]), err
        assert not (tmp_path / "drawn").exists()
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before


def test_a_file_that_is_no_picture_costs_the_others_nothing(capsys, net, folder, tmp_path):
    (folder / "broken.png").write_bytes(b"no picture")
    code, out, err = run(capsys, net, folder, "--draw", tmp_path / "drawn")
    assert code == 2 and len(out) == 4 and len(err) == 2 and "broken.png" in err[0]
    assert sorted(path.name for path in (tmp_path / "drawn").rglob("*.*")) == ["a.png", "a.png", "b.jpg", "turned.png"]


def test_other_kinds_of_files(capsys, net, tmp_path):
    """What Pillow does not write by its name becomes PNG."""
    picture(64, 48).save(tmp_path / "plain", "PNG")
    picture(64, 48).save(tmp_path / "moving.gif")
    picture(64, 48).save(tmp_path / "scan.TIFF", "TIFF")
    names = ["plain", "moving.gif", "scan.TIFF"]
    code, _, err = run(capsys, net, *(tmp_path / name for name in names), "--draw", tmp_path / "drawn")
    assert (code, err) == (0, [])
    found = {path.name: opened(path).format for path in (tmp_path / "drawn").iterdir()}
    assert found == {"plain.png": "PNG", "moving.gif.png": "PNG", "scan.TIFF": "TIFF"}


def test_labels_have_no_boxes(capsys, folder, tmp_path):
    """Options of detectors are refused for other networks, before any work."""
    little = nn.Sequential(nn.Conv2d(3, 3, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    onebit.pack(little, tmp_path / "net", input_shape=(3, 8, 8), name="little")
    for option in (("--threshold", 0.5), ("--draw", tmp_path / "drawn")):
        code, out, err = run(capsys, tmp_path / "net", folder, *option)
        assert (
            code == 2
            and out == []
            and err == [f"onebit: error: {option[0]} has no effect here: little answers labels, not boxes"]
        )
    with pytest.raises(UserError, match="a threshold is for boxes, and little answers labels"):
        runtime.load(tmp_path / "net").predict(folder / "a.png", threshold=0.5)
    assert not (tmp_path / "drawn").exists()


def test_info_says_how_boxes_are_made(capsys, net):
    assert main(["info", str(net)]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("boxes"))
    assert "132 anchors (6 × 8 × 2, 3 × 4 × 3)" in line and "scores above 0.05" in line and "at most 40" in line


def test_what_else_reads_files(capsys, net, tmp_path):
    """bench runs it, export writes its raw outputs."""
    assert main(["bench", str(net), "--threads", "1", "--json"]) == 0
    json.loads(capsys.readouterr().out)
    pytest.importorskip("onnx")
    assert main(["export", str(net), "--out", str(tmp_path / "net.onnx")]) == 0
    session = pytest.importorskip("onnxruntime").InferenceSession(str(tmp_path / "net.onnx"))
    images = np.random.default_rng(0).normal(size=(1, 3, *SIZE)).astype(np.float32)
    theirs = session.run(None, {session.get_inputs()[0].name: images})
    for one, other in zip(runtime.load(net)(images).values(), theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert json.loads(session.get_modelmeta().custom_metadata_map["settings"])["most"] == 40


def test_pictures_that_a_format_cannot_hold_become_png(capsys, net, tmp_path):
    picture = Image.new("RGB", (64, 48), (200, 30, 30))
    for name in ("a.ico", "a.xbm", "a.gif"):
        (picture.convert("1") if name == "a.xbm" else picture).save(tmp_path / name, sizes=[(64, 48)])
    Image.new("RGB", (66_000, 2)).save(tmp_path / "wide.png")
    (tmp_path / "wide.png").rename(tmp_path / "wide.jpg")
    names = ["a.ico", "a.xbm", "a.gif", "wide.jpg"]
    code, out, _ = run(capsys, net, *(tmp_path / name for name in names), "--draw", tmp_path / "drawn", "--json")
    assert code == 0
    assert [Path(image["drawn"]).name for image in json.loads("\n".join(out))["images"]] == [
        f"{name}.png" for name in names
    ]
    sizes = [opened(tmp_path / "drawn" / f"{name}.png").size for name in names]
    assert sizes == [(64, 48)] * 3 + [(66_000, 2)]


def test_drawings_do_not_become_inputs(capsys, net, folder, tmp_path):
    code, _, err = run(capsys, net, folder, "--draw", folder / "drawn")
    assert code == 2 and "is searched for pictures" in err[0] and not (folder / "drawn").exists()
    code, _, err = run(capsys, net, folder, "--draw", "")
    assert code == 2 and "--draw: the folder's name is empty" in err[0]


def test_numbers_of_numpy(net):
    model = runtime.load(net)
    pixels = np.zeros((32, 32, 3), np.uint8)
    assert model.predict(pixels, threshold=np.float64(0.5), top=np.int64(2)) == model.predict(
        pixels, threshold=0.5, top=2
    )
