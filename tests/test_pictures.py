"""Pixels of encoded pictures: one decoding for training, evaluation and `onebit run`; the cut; arrays and `Model.predict`."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

import pixels
from onebit import data
from onebit.data.loading.augmentation import evaluation_transform, resize_of
from onebit.errors import UserError
from onebit.runtime import pictures
from onebit.runtime.decoding import PNG, decode

RAMP = pixels.ramp()
WIDE = RAMP.astype(np.uint16) * 257
NOISE = pixels.noise(40, 30)
FLIPS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}  # by EXIF's orientation: what a person sees


def encoded(image, kind, **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(rows, depth, colour, extra=b"", size=None):
    """A PNG of an array (H, W, ...), whose bytes are stored as they are."""
    height, width = size or rows.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return PNG + chunk(b"IHDR", header) + extra + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def colours(grey):
    return np.stack([grey] * 3, -1)


def pgm(values, largest):
    return b"P5\n%d %d\n%d\n" % (values.shape[1], values.shape[0], largest) + values.astype(">u2").tobytes()


def with_alpha(array, alpha, kind):
    return np.concatenate([array, np.full((*array.shape[:2], 1), alpha)], -1).astype(kind)


SIXTEEN = {
    "png": encoded(WIDE, "png"),
    "tiff": encoded(WIDE, "tiff"),
    "tiff, big-endian": encoded(Image.frombytes("I;16B", (32, 32), WIDE.astype(">u2").tobytes()), "tiff"),
    "jpeg 2000": encoded(WIDE, "jpeg2000"),
    "pgm": pgm(WIDE, 65535),
    "pgm, 10 bits": pgm(RAMP.astype(int) * 1023 // 255, 1023),
    "png, colours": png(colours(WIDE).astype(">u2"), 16, 2),
    "png, grey with alpha": png(with_alpha(WIDE[..., None], 65535, ">u2"), 16, 4),
    "png, colours with alpha": png(with_alpha(colours(WIDE), 65535, ">u2"), 16, 6),
    "png, a transparent value": png(WIDE.astype(">u2"), 16, 0, chunk(b"tRNS", b"\0\5")),
}


@pytest.mark.parametrize("kind", SIXTEEN)
@pytest.mark.parametrize("mode", ("RGB", "L"))
def test_more_than_8_bits(kind, mode):
    """The pixels of the same picture saved with 8 bits."""
    expected = np.asarray(Image.fromarray(RAMP).convert(mode))
    np.testing.assert_array_equal(np.asarray(decode(SIXTEEN[kind], mode)), expected)


@pytest.mark.parametrize("mode", ("RGB", "L"))
def test_floats_from_0_to_1(mode):
    expected = np.asarray(Image.fromarray(RAMP).convert(mode))
    np.testing.assert_array_equal(np.asarray(decode(encoded(RAMP.astype(np.float32) / 255, "tiff"), mode)), expected)


@pytest.mark.parametrize(
    "content",
    (
        encoded(RAMP.astype(np.float32) / 254, "tiff"),
        encoded(RAMP.astype(np.float32) / 255 - 0.01, "tiff"),
        encoded(np.where(RAMP > 200, np.float32(np.nan), np.float32(0.5)), "tiff"),
        encoded(RAMP.astype(np.int32), "tiff"),
        b"Pf\n32 32\n-1.0\n" + RAMP.astype("<f4").tobytes(),
    ),
    ids=("float tiff above 1", "float tiff below 0", "float tiff with nan", "int32 tiff", "pfm"),
)
def test_pixels_without_a_range_are_refused(content):
    with pytest.raises(ValueError, match=r"unknown range; save it with 8 or 16 bits"):
        decode(content)


@pytest.mark.parametrize("kind", ("png", "tiff", "webp"))
@pytest.mark.parametrize("orientation", FLIPS)
def test_orientation(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for array in (NOISE, NOISE[..., 0]):
        lossless = {"lossless": True} if kind == "webp" else {}
        upright = FLIPS[orientation](np.asarray(Image.fromarray(array).convert("RGB")))
        np.testing.assert_array_equal(np.asarray(decode(encoded(array, kind, exif=exif, **lossless))), upright)


def test_orientation_of_16_bits_and_damaged_exif():
    exif = Image.Exif()
    exif[0x0112] = 6
    np.testing.assert_array_equal(np.asarray(decode(encoded(WIDE, "png", exif=exif), "L")), np.rot90(RAMP, -1))
    content = encoded(NOISE, "jpeg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff nonsense")
    got = np.asarray(decode(content))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(got, np.asarray(Image.open(io.BytesIO(content))))


def test_what_is_transparent_shows_white():
    whole = encoded(with_alpha(NOISE, 255, np.uint8), "png")
    np.testing.assert_array_equal(np.asarray(decode(whole)), NOISE)
    assert (np.asarray(decode(encoded(with_alpha(NOISE, 0, np.uint8), "png"))) == 255).all()
    half = np.asarray(decode(encoded(with_alpha(NOISE, 128, np.uint8), "png"))).astype(int)
    assert np.abs(half - (NOISE / 255 * 128 + 127)).max() <= 1
    value = np.asarray(decode(png(RAMP, 8, 0, chunk(b"tRNS", b"\0\0")), "L"))
    np.testing.assert_array_equal(value, np.where(RAMP == 0, 255, RAMP))


def test_kinds_of_pixels_that_pillow_converts():
    """Palettes, single bits, CMYK and the first picture of an animation: as before."""
    image = Image.fromarray(NOISE)
    animated = {"save_all": True, "append_images": [image.rotate(180)]}
    for content in (
        encoded(image.convert("P"), "png"),
        encoded(image.convert("1"), "png"),
        encoded(image.convert("CMYK"), "jpeg"),
        encoded(image, "jpeg"),
        encoded(image, "gif", **animated),
        encoded(image, "webp", **animated),
    ):
        for mode in ("RGB", "L"):
            expected = Image.open(io.BytesIO(content)).convert(mode)
            np.testing.assert_array_equal(np.asarray(decode(content, mode)), np.asarray(expected))


def test_a_long_comment_is_no_damage():
    whole = encoded(NOISE, "png")
    for kind in (b"zTXt", b"iTXt"):
        text = zlib.compress(b"x" * 2_000_000)
        comment = b"Comment\0\0" + text if kind == b"zTXt" else b"Comment\0\1\0\0\0" + text
        np.testing.assert_array_equal(np.asarray(decode(whole[:33] + chunk(kind, comment) + whole[33:])), NOISE)


DAMAGED = {
    "nothing": b"",
    "text": b"hello",
    "a drawing": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "header of 8 bytes": PNG + chunk(b"IHDR", struct.pack(">I", 8)),
    "half a png": encoded(NOISE, "png")[:-200],
    "half a jpeg": encoded(NOISE, "jpeg")[:-200],
    "ppm without numbers": b"P6\n8 abc 255\n",
    "half a gif": encoded(NOISE, "gif")[:100],
    "half a tiff": encoded(NOISE, "tiff")[:200],
    "20000 x 20000": png(NOISE[:0], 1, 0, size=(20000, 20000)),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_is_one_line(kind):
    with pytest.raises(ValueError, match=r"\A.+\Z") as raised:
        decode(DAMAGED[kind])
    assert "0x" not in str(raised.value)


@pytest.mark.parametrize("seed", range(5))
def test_any_damage_is_one_line(seed):
    """Bytes changed at random raise what they like in Pillow's decoders."""
    random = np.random.default_rng(seed)
    for kind in ("png", "jpeg", "gif", "tiff", "webp", "bmp", "ppm"):
        content = bytearray(encoded(NOISE, kind))
        for place in random.integers(0, len(content), 12):
            content[place] = random.integers(256)
        try:
            assert decode(bytes(content)).mode == "RGB"
        except ValueError as error:
            assert "\n" not in str(error)


SHAPES = ((427, 640), (640, 427), (101, 75), (90, 90), (73, 500), (64, 64), (73, 74), (1, 7), (300, 40))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_cut_is_torchvisions(shape):
    """To the last bit, for pictures that are not LONG."""
    picture = Image.fromarray(pixels.noise(*shape))
    theirs = v2.Compose(
        [v2.Resize(resize_of(64), interpolation=InterpolationMode.BILINEAR), v2.CenterCrop(64), v2.PILToTensor()]
    )
    assert torch.equal(evaluation_transform(64)(picture), theirs(picture))


@pytest.mark.parametrize("shape", ((40, 400), (2000, 3), (33, 1999), (12, 96)))
@pytest.mark.parametrize(("size", "resize"), (((64, 64), 73), ((48, 96), 100), ((96, 48), 48)))
def test_the_cut_of_long_pictures(shape, size, resize):
    """The pixels of the same picture resized as a whole, but for roundings: of values that lie halfway, where the ratio is
    a short fraction, in two directions one after the other."""
    picture = Image.fromarray(pixels.noise(*shape))
    height, width = size
    short = min(picture.size)
    scaled = (max(width, resize * picture.width // short), max(height, resize * picture.height // short))
    left, top = round((scaled[0] - width) / 2), round((scaled[1] - height) / 2)
    whole = picture.resize(scaled, Image.Resampling.BILINEAR).crop((left, top, left + width, top + height))
    difference = np.abs(np.asarray(pictures.cut(picture, height, width, resize)).astype(int) - np.asarray(whole))
    assert max(shape) >= pictures.LONG * min(shape)
    assert difference.max() <= 2 and (difference > 0).mean() < 0.2


def test_a_line_costs_what_is_cut_out(tmp_path, monkeypatch):
    """1 x 20000 pixels, which resized as a whole are 256 x 5120000."""
    sizes = []
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda self, size, *a, **k: sizes.append(size) or resize(self, size, *a, **k)
    )
    picture = Image.fromarray(pixels.noise(20000, 1))
    model = pixels.network(tmp_path / "net", (3, 224, 224), resize=256)
    assert pictures.read(picture, model).shape == (224, 224, 3)
    assert evaluation_transform(224)(picture).shape == (3, 224, 224)
    assert sizes == [(224, 224)] * 2


def test_training_evaluation_and_run_see_the_same(tmp_path):
    """A 16-bit, turned, half transparent set: what reaches a network is the same everywhere."""
    exif = Image.Exif()
    exif[0x0112] = 8
    contents = [
        encoded(pixels.noise(50, 70, 1, seed)[..., 0].astype(np.uint16) * 257, "png", exif=exif) for seed in (0, 1)
    ]
    contents.append(encoded(with_alpha(pixels.noise(60, 41), 90, np.uint8), "png", exif=exif))
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        for number, content in enumerate(contents):
            (tmp_path / split / "a" / f"{number}.png").write_bytes(content)
    source = data.load("imagefolder", tmp_path, data.LoadOptions(image_size=16, workers=0))
    model = pixels.network(tmp_path / "net", (3, 16, 16), resize=source.inputs.resize)
    batch = next(source.test.evaluation_batches(3))
    for number, image in enumerate(batch.inputs):
        read = pictures.read(tmp_path / "val" / "a" / f"{number}.png", model)
        theirs = source.inputs.normalization(torch.from_numpy(read.copy()).permute(2, 0, 1)[None])[0]
        assert torch.equal(image, theirs)


def test_predict(tmp_path):
    """Paths, bytes of files, Pillow images and arrays, one or several, of any size: the answers of `onebit run`."""
    model = pixels.network(tmp_path / "net", (3, 8, 8), resize=9)
    array = np.zeros((20, 30, 3), np.uint8) + np.array([10, 250, 30], np.uint8)
    path = tmp_path / "green.png"
    Image.fromarray(array).save(path)
    with_the_path = model.predict(path, top=2)
    assert [p["label"] for p in with_the_path] == ["green", "blue"]
    assert with_the_path[0]["score"] == pytest.approx(250 / 255, abs=1e-4)
    for one in (
        str(path),
        path.read_bytes(),
        Image.open(path),
        array,
        torch.from_numpy(array),
        with_alpha(array, 255, np.uint8),
    ):
        assert model.predict(one, top=2) == with_the_path
    assert model.predict(path) == with_the_path[:1]
    for several in ([path, array, Image.fromarray(array)], np.stack([array] * 3), (array,) * 3):
        assert model.predict(several, top=2) == [with_the_path] * 3
    assert model.predict([]) == []
    assert len(model.predict([array] * 150)) == 150
    exif = Image.open(io.BytesIO(encoded(array, "png")))
    assert model.predict(exif) and exif.mode == "RGB"  # the caller's image stays as it is
    grey = pixels.network(tmp_path / "grey", (1, 8, 8))
    assert grey.predict(RAMP)[0]["score"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("wrong", "says"),
    (
        (np.zeros((8, 8, 3), np.float32), "must be uint8.*got float32"),
        (b"", "(^|: )0 bytes cannot be read as an image: it is empty$"),
        (np.zeros((8, 8, 3), np.uint16), "must be uint8.*got uint16"),
        (np.zeros((3, 8, 8), np.uint8), r"\(H, W, C\)"),
        (np.zeros((0, 8, 3), np.uint8), r"\(H, W, C\)"),
        (Image.fromarray(RAMP.astype(np.float32)), "unknown range"),
        (7, "a Pillow image or an array, got int"),
        ("nowhere.png", "nowhere.png cannot be read as an image: No such file"),
        (".", "Is a directory"),
    ),
)
def test_predict_refuses(tmp_path, wrong, says):
    model = pixels.network(tmp_path / "net")
    for x in (wrong, [np.zeros((8, 8, 3), np.uint8), wrong]):
        with pytest.raises(UserError, match=says):
            model.predict(x)
    with pytest.raises(UserError, match="top must be"):
        model.predict(np.zeros((8, 8, 3), np.uint8), top=0)


def test_pixels_that_nobody_normalised_are_refused(tmp_path):
    """float32 from 0 to 255, where the file says how pixels are normalised; nothing that could be normalised is."""
    usual = pixels.network(tmp_path / "usual", mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    plain = pixels.network(tmp_path / "plain")
    bytes_ = pixels.network(tmp_path / "bytes", mean=[0.0] * 3, std=[1 / 255] * 3)
    raw = pixels.noise(8, 8)[None].transpose(0, 3, 1, 2).astype(np.float32)
    for wrong in (raw, raw + np.float32(0.25) * (raw < 255), np.zeros_like(raw) + np.eye(8, dtype=np.float32) * 255):
        with pytest.raises(UserError, match=r"must be normalised.*from 0.* to 2.*uint8 \(B, H, W, 3\)"):
            usual(wrong)
        with pytest.raises(UserError, match="must be normalised"):
            usual.trace(wrong)
        plain(wrong), bytes_(wrong)  # as a network that was trained on such numbers takes them
    random = np.random.default_rng(0)
    for right in (
        usual.normalized(pixels.noise(8, 8)),
        random.normal(size=raw.shape),
        100 * random.normal(size=raw.shape),
        random.uniform(0, 1, raw.shape),
        np.zeros(raw.shape),
        np.ones(raw.shape),
        random.integers(-3, 20, raw.shape),
        1000 * np.ones(raw.shape),
    ):
        usual(np.asarray(right, np.float32))
