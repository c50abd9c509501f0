"""The engine as WebAssembly, in node, and the page in a headless Chromium: the same bits, refusals and answers as here.

It is built once, in build/wasm, as `make web` does.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import browser
from networks import settle
from onebit import models, pack
from onebit.runtime import load, native, pictures

ROOT = Path(__file__).parents[1]
OLD = ROOT / "tests" / "old"
LEFT_OUT = ("embedding", "binary_embedding", "positions", "binary_attention", "proposals", "roi_align")
NAMES = ("adabin", "adabin-int8", "rbnn", "reactnet", "rebnn")
sys.path[:0] = [str(ROOT / "tests" / "fuzz"), str(ROOT / "tests" / "runtime")]


def program(*names: str) -> str:
    """The first of these programs that is installed."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"{names[0]} is not installed: apt-get install cmake make emscripten nodejs chromium")
    return found


@pytest.fixture(scope="module")
def built() -> Path:
    """The folder of onebit.js and index.html."""
    for name in ("cmake", "em++", "node"):
        program(name)
    folder = ROOT / "build" / "wasm"
    environment = {**os.environ, "NODE_PATH": "/usr/share/nodejs"}
    options = ("-DONEBIT_PYTHON=OFF", "-DONEBIT_KERNEL_TESTS=ON", "-DONEBIT_DEVELOPER=ON")
    for command in (
        ["cmake", "-S", ROOT, "-B", folder, f"-DCMAKE_TOOLCHAIN_FILE={ROOT / 'cmake' / 'wasm.cmake'}", *options],
        ["cmake", "--build", folder, "--target", "web"],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder / "web"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Networks of pictures in colour: one that the whole picture is resized for, and one that the centre is cut out for."""
    folder = tmp_path_factory.mktemp("packed")
    kinds: dict[str, dict[str, Any]] = {"resnet20": {}, "imagenet_resnet18": {"int8": True, "resize": 80}}
    for name, options in kinds.items():
        shape = (3, 32, 32) if name == "resnet20" else (3, 64, 64)
        model = settle(models.create(name, "adabin", image_size=shape[1]), shape)
        pack(model, folder / name, input_shape=shape, mean=[0.5] * 3, std=[0.25] * 3, **options)
        (folder / name).rename(folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in kinds}


def run(built: Path, folder: Path, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What tests/web/run.js says to each job."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    command = ["node", ROOT / "tests" / "web" / "run.js", built / "onebit.js", folder / "jobs.json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def in_base64(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_the_same_bits(built, packed, tmp_path):
    """As the engine here, on each instruction set, of files of today and of earlier versions."""
    paths = [*packed.values(), *(OLD / f"{name}.safetensors" for name in NAMES)]
    jobs, expected = [], []
    for path in paths:
        network = load(path, threads=1)
        channels, height, width = network.input_shape
        image = noise(1, height, width, channels)
        for isa in ("scalar", "simd128"):
            jobs.append({"model": str(path), "isa": isa, "image": in_base64(image)})
            expected.append((isa, network(image)[0], network.predict(image[0], top=3)))
    for job, (isa, logits, answer), result in zip(jobs, expected, run(built, tmp_path, jobs), strict=True):
        assert result.get("isa") == isa, (job["model"], result)
        np.testing.assert_array_equal(np.float32(result["logits"]), logits, err_msg=f"{job['model']}, {isa}")
        assert [part["label"] for part in result["answer"]] == [part["label"] for part in answer]
        scores = [part["score"] for part in result["answer"]]
        np.testing.assert_allclose(scores, [part["score"] for part in answer], atol=1e-6)


def test_unknown_instruction_sets_are_refused(built, tmp_path):
    job = {"model": str(OLD / "adabin.safetensors"), "isa": "avx2"}
    (result,) = run(built, tmp_path, [job])
    known = 'unknown instruction set "avx2"; choose one of scalar, simd128'
    assert result == {"kind": "OnebitError", "error": known}


def without_numbers(result: dict[str, str]) -> dict[str, str]:
    """Large ones are written in one of two ways, by the standard library."""
    return {key: re.sub(r"\d[\d.]*(e[+-]?\d+)?", "#", text) for key, text in result.items()}


def test_hostile_files_are_refused_with_the_same_words(built, tmp_path):
    """Files of the fuzzer: those that the engine refuses here are refused there, with its message; and those with operators that
    the page's build leaves out."""
    if not native.available():
        pytest.skip("the engine is not built")
    from sources import sources

    files = [*sources().values(), *(path.read_bytes() for path in sorted((ROOT / "tests/fuzz/corpus").iterdir()))]
    jobs, expected, module = [], [], native.extension()
    for index, data in enumerate(files):
        path = tmp_path / f"{index}.safetensors"
        path.write_bytes(data)
        jobs.append({"model": str(path)})
        try:
            module.Network(data, "", 1)
            expected.append({})
        except (module.FormatError, ValueError) as error:
            expected.append({"kind": "OnebitError", "error": str(error)})
    assert len([result for result in expected if result]) > 100
    left_out = set()
    for found, wanted in zip(run(built, tmp_path, jobs), expected, strict=True):
        if operator := re.search(
            r'has the operator "(\w+)", which this build of the engine leaves out; use another', str(found)
        ):
            left_out.add(operator[1])
        else:
            assert without_numbers(found) == without_numbers(wanted)
    assert {"embedding", "binary_embedding"} <= left_out <= set(LEFT_OUT)


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
def test_pictures_are_cut_as_here(built, tmp_path, monkeypatch, mode, channels):
    """Smaller and larger, whole and the centre: to the bit where Pillow resizes rows first, as all its versions can be
    made to."""
    resize = Image.Image.resize

    def rows_first(image, size, filter, box=None):
        return resize(image if box else resize(image, (size[0], image.height), filter), size, filter, box)

    monkeypatch.setattr(Image.Image, "resize", rows_first)
    jobs, expected = [], []
    for height, width in ((32, 32), (47, 301), (300, 41), (500, 333), (20, 9)):
        picture = noise(height, width, channels)
        described = {"width": width, "height": height, "channels": channels, "data": in_base64(picture)}
        for size in ((32, 32, None), (24, 56, None), (32, 32, 40), (33, 20, 37), (32, 48, 32)):
            image = Image.fromarray(picture if channels == 3 else picture[:, :, 0], mode)
            expected.append(np.asarray(pictures.cut(image, *size)).ravel())
            jobs.append({"picture": described, "size": size})
    for job, data, result in zip(jobs, expected, run(built, tmp_path, jobs), strict=True):
        found = np.frombuffer(base64.b64decode(result["data"]), np.uint8).astype(int)
        sides = sorted((job["picture"]["width"], job["picture"]["height"]))
        part = job["size"][2] and sides[1] >= pictures.LONG * sides[0]  # which Pillow places a little otherwise
        atol = 2 if part else 0
        np.testing.assert_allclose(found, data, rtol=0, atol=atol, err_msg=f"{sides} {job['size']}")


def assembled(built: Path, page: Path, zoo: Path) -> Path:
    """The page with the networks of a folder."""
    values = {"sources": ROOT / "web", "engine": built / "onebit.js", "zoo": zoo, "node": program("node"), "page": page}
    options = [f"-D{name}={value}" for name, value in values.items()]
    subprocess.run(["cmake", *options, "-P", ROOT / "web" / "assemble.cmake"], check=True, capture_output=True)
    return page


@pytest.fixture(scope="module")
def zoo(packed, tmp_path_factory) -> Path:
    """A folder of networks: one of grey pictures with a high score, one in colour without any."""
    folder = tmp_path_factory.mktemp("zoo")
    shutil.copy(OLD / "rebnn.safetensors", folder / "grey.safetensors")
    shutil.copy(packed["resnet20"], folder / "coloured.safetensors")
    return folder


@pytest.fixture(scope="module")
def page(built, zoo, tmp_path_factory):
    name = program("chromium", "chromium-browser", "google-chrome")
    address = assembled(built, tmp_path_factory.mktemp("page") / "index.html", zoo).as_uri()
    with browser.opened(name, tmp_path_factory.mktemp("profile")) as found:
        found.open(address)
        yield found


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "noise.png"
    Image.fromarray(noise(20, 26, 3)).resize((130, 100), Image.Resampling.BICUBIC).save(path)
    return path


def shown(page: browser.Page) -> list[dict[str, Any]]:
    rows = "[...document.querySelectorAll('#labels li')]"
    return page.value(f"{rows}.map((row) => ({{label: row.firstChild.textContent, score: Number(row.dataset.score)}}))")


def check_answer(page: browser.Page, model: Path, picture: Path) -> None:
    """Labels and scores are those of `onebit run`."""
    page.until(f"document.querySelector('#model-name').textContent === '{model.name}'")
    page.until(f"document.querySelector('#picture-name').textContent === '{picture.name}'")
    page.until("document.querySelectorAll('#labels li').length === 5 && document.querySelector('#error').hidden")
    found, expected = shown(page), load(model).predict(picture, top=5)
    assert [part["label"] for part in found] == [part["label"] for part in expected]
    assert [round(part["score"], 6) for part in found] == [part["score"] for part in expected]
    facts = page.value("document.querySelector('#facts').innerText")
    assert f"{model.stat().st_size:,} bytes" in facts and "ms an image" in facts and "simd128" in facts


def test_a_picture_alone_is_answered_by_the_networks_of_the_page(page, zoo, picture):
    """First by that for pictures in colour, whatever the other's score; then by the one that is chosen."""
    page.until("document.querySelector('#facts').innerText.includes('no picture yet')")
    assert page.value("document.querySelector('#zoo').value") == "coloured"
    page.drop(picture)
    for name in ("coloured", "grey"):
        chosen = f"Object.assign(document.querySelector('#zoo'), {{value: '{name}'}})"
        page.value(f"{chosen}.dispatchEvent(new Event('change'))")
        model = load(zoo / f"{name}.safetensors")
        page.until(f"document.querySelector('#facts').innerText.includes('{model.method}')")
        page.until("document.querySelectorAll('#labels li').length === 5 && document.querySelector('#error').hidden")
        found, expected = shown(page), model.predict(picture, top=5)
        assert [part["label"] for part in found] == [part["label"] for part in expected]
        assert [round(part["score"], 6) for part in found] == [part["score"] for part in expected]
    facts = page.value("document.querySelector('#facts').innerText")
    assert "accuracy 83.33 %" in facts and "recipe digits-resnet8-rebnn" in facts


def test_the_page_holds_the_zoo_and_is_small(built):
    text = (built / "index.html").read_text()
    (networks,) = re.findall(r"^const ZOO = (\{.*\});$", text, re.MULTILINE)
    files = {name: base64.b64decode(content) for name, content in json.loads(networks).items()}
    assert files == {path.stem: path.read_bytes() for path in (ROOT / "src/onebit/zoo").glob("*.safetensors")}
    assert len(text.encode()) <= 1_000_000


def test_without_networks_of_its_own_the_page_offers_none(page, built, tmp_path, packed, picture):
    (tmp_path / "empty").mkdir()
    page.open(assembled(built, tmp_path / "index.html", tmp_path / "empty").as_uri())
    assert page.value("document.querySelector('#chooser').hidden")
    page.drop(packed["resnet20"], picture)
    check_answer(page, packed["resnet20"], picture)


def test_a_network_and_a_picture_are_dropped(page, packed, picture):
    for model in packed.values():
        page.drop(model, picture)
        check_answer(page, model, picture)


def test_files_are_chosen(page, packed, tmp_path):
    """And a grey network takes the luma of a coloured picture."""
    for model in (packed["resnet20"], OLD / "reactnet.safetensors"):
        path = tmp_path / f"{model.stem}.png"
        Image.fromarray(noise(9, 11, 3)).save(path)
        page.choose("#model", model)
        page.choose("#picture", path)
        check_answer(page, model, path)


def test_what_is_no_network_or_picture_is_said_in_one_line(page, tmp_path):
    for name, content, said in (
        ("short.safetensors", b"abc", "not a"),
        ("text.png", b"no picture", "text.png cannot be read as a picture by this browser"),
    ):
        (tmp_path / name).write_bytes(content)
        page.drop(tmp_path / name)
        page.until("!document.querySelector('#error').hidden")
        message = page.value("document.querySelector('#error').textContent")
        assert "\n" not in message and (said in message or name.startswith("short")), message
        page.value("document.querySelector('#error').hidden = true")


def test_the_camera(page, packed):
    page.choose("#model", packed["resnet20"])
    page.value("document.querySelector('#camera').click()")
    page.until("!document.querySelector('#video').hidden && document.querySelector('#video').currentTime > 0.2")
    page.until("document.querySelectorAll('#labels li').length === 5")
    page.value("document.querySelector('#camera').click()")
    page.until("document.querySelector('#video').hidden")


def test_the_page_asked_for_nothing_and_complained_of_nothing(page):
    asked = [
        event["params"]["request"]["url"] for event in page.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert asked and {address.partition(":")[0] for address in asked} <= {"file", "data", "blob"}
    assert [event for event in page.events if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")] == []
