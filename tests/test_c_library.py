"""The library for C: what it exports, the example, the same bits and answers as Python, and what it refuses."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import c_interface
from builds import output_of, tool
from c_interface import BYTES, CHANNELS_FIRST, CHANNELS_LAST, INTEGERS, Buffer, Failure, Shape, Values, values
from onebit.runtime import answers, load, native
from onebit.runtime import format as file_format
from onebit.runtime.answers import Asked

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests" / "runtime"))
if not native.available():
    pytest.skip("the engine is not built", allow_module_level=True)

import test_runtime_hostile as version1  # noqa: E402
import test_runtime_hostile_several as version2  # noqa: E402
from nets import Builder  # noqa: E402
from test_runtime_engine import mixed  # noqa: E402

OLD = ROOT / "tests" / "old"
EXAMPLE = ROOT / "examples" / "c" / "classify.c"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
INSTALL = {"cc": "gcc", "pkg-config": "pkg-config", "nm": "binutils", "strip": "binutils"}


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install {INSTALL[name]}")
    return found


@pytest.fixture(scope="session")
def small() -> bytes:
    """An image (3, 8, 8), six tokens of nine and a vector (5); a vector (4) with labels, and a map (8, 8, 4)."""
    graph, tensors = version2.parts()
    graph["inputs"][0]["resize"] = 12
    return version2.raw(graph, tensors)


def batch(size: int = 2, seed: int = 0) -> list[np.ndarray]:
    """For `small`."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (size, 8, 8, 3), dtype=np.uint8)
    ids = random.integers(0, 9, (size, 6), dtype=np.int32)
    return [pixels, ids, random.normal(size=(size, 5)).astype(np.float32)]


def classifier(path: Path, answer: str, labels: list[str] | None, channels: int = 3) -> Path:
    """Of images (channels, 9, 7), with seven outputs."""
    net = Builder(len(answer), (channels, 9, 7))
    x = net.binary_conv(net.conv("input", channels, 8, padding=[1, 1]), 8, 8, 3, padding=[1, 1])
    x = net.node("global_avg_pool", [net.node("hardtanh", [x])])
    graph = net.graph(net.node("linear", [x], {"weight": net.floats(7, 8)}))
    graph["task"] = {"name": "test", "answer": answer, "labels": labels}
    file_format.write(path, graph, net.tensors)
    return path


def test_nothing_else_is_exported(libraries):
    lines = output_of(program("nm"), "-D", "--defined-only", libraries / "libonebit.so").splitlines()
    declared = set(re.findall(r"(onebit_\w+)\(", (ROOT / "csrc/bindings/c/onebit.h").read_text()))
    assert {line.split()[-1] for line in lines} == declared and len(declared) == 13


def test_the_library_is_small_and_of_the_package_s_version(installed, libraries, library):
    assert (libraries / "libonebit.so").stat().st_size <= 800_000, "stripped"
    version = re.search(r'^version = "([\d.]+)', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert library.c.onebit_version().decode() == version
    assert (libraries / f"libonebit.so.{version}").is_file() and (installed / "include" / "onebit.h").is_file()


@pytest.fixture(scope="session")
def classify(installed: Path, libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The example, compiled in four ways."""
    to = tmp_path_factory.mktemp("example")
    cc, pkg_config, made = program("cc"), program("pkg-config"), {}
    for name in ("onebit", "onebit-static"):
        made[name] = to / name
        flags = output_of(pkg_config, "--cflags", "--libs", name, PKG_CONFIG_PATH=str(libraries / "pkgconfig")).split()
        output_of(cc, *STRICT, EXAMPLE, *flags, "-o", made[name])
    (to / "CMakeLists.txt").write_text(
        f"""cmake_minimum_required(VERSION 3.20)
project(classify LANGUAGES C)
set(CMAKE_C_STANDARD 99)
set(CMAKE_C_EXTENSIONS OFF)
find_package(onebit 0.1 REQUIRED)
foreach(library onebit onebit_static)
  add_executable(with_${{library}} {EXAMPLE})
  target_compile_options(with_${{library}} PRIVATE {" ".join(STRICT[1:])})
  target_link_libraries(with_${{library}} PRIVATE onebit::${{library}})
endforeach()
"""
    )
    generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}", f"-DCMAKE_PREFIX_PATH={installed}"]
    output_of(tool("cmake"), "-S", to, "-B", to / "build", *generator)
    output_of(tool("cmake"), "--build", to / "build")
    return made | {name: to / "build" / name for name in ("with_onebit", "with_onebit_static")}


@pytest.mark.parametrize("way", ["onebit", "onebit-static", "with_onebit", "with_onebit_static"])
def test_the_example_answers_as_onebit_run(classify, libraries, tmp_path, way):
    random = np.random.default_rng(0)
    names = ["cat", "dog", "größer", "", "a label of words", "x", "y"]
    networks = [(classifier(tmp_path / "one", "one", names), (9, 7, 3)), (OLD / "adabin.safetensors", (8, 8))]
    if way == "onebit":
        networks += [(classifier(tmp_path / "several", "several", None), (9, 7, 3))]
        networks += [(classifier(tmp_path / "values", "values", names, 1), (9, 7))]
    found_in = {} if "static" in way else {"LD_LIBRARY_PATH": str(libraries)}
    for network, shape in networks:
        picture = tmp_path / ("picture.pgm" if len(shape) == 2 else "picture.ppm")
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(picture)
        command = [sys.executable, "-m", "onebit", "run", network, picture, "--top", "5", "--format", "jsonl"]
        expected = json.loads(output_of(*command))["predictions"]
        lines = output_of(classify[way], network, picture, **found_in).splitlines()
        assert lines == [f"{row['label']} {row['score']:.6f}" for row in expected]


def test_the_example_says_what_is_wrong(classify, tmp_path):
    network = classifier(tmp_path / "net", "one", None)
    Image.fromarray(np.zeros((7, 9, 3), np.uint8)).save(tmp_path / "turned.ppm")
    (tmp_path / "text").write_text("hello")
    for arguments, message in (
        ([], "usage: classify NETWORK IMAGE"),
        ([tmp_path / "none", tmp_path / "turned.ppm"], f"cannot read {tmp_path}/none: No such file or directory"),
        ([tmp_path / "text", tmp_path / "turned.ppm"], f"{tmp_path}/text: the file has only 5 bytes"),
        ([network, tmp_path / "turned.ppm"], "give a P6 of 7 x 9 pixels"),
        ([network, tmp_path / "text"], "give a P6 of 7 x 9 pixels"),
    ):
        done = subprocess.run([classify["onebit-static"], *arguments], capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr.startswith(f"classify: {message}"), done.stderr


def test_the_page_s_program_runs(installed, libraries, tmp_path):
    """docs/c.md: its program compiles as it says, and prints what it says."""
    (code,) = re.findall(r"^```c\n(.*?)^```$", (ROOT / "docs" / "c.md").read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "answer.c").write_text(code)
    flags = output_of(
        program("pkg-config"), "--cflags", "--libs", "onebit", PKG_CONFIG_PATH=str(libraries / "pkgconfig")
    )
    output_of(program("cc"), *STRICT, tmp_path / "answer.c", *flags.split(), "-o", tmp_path / "answer")
    network = OLD / "adabin.safetensors"
    printed = output_of(tmp_path / "answer", network, LD_LIBRARY_PATH=str(libraries))
    model = load(network)
    ((answer,),) = answers.LABELS["one"].answers(
        [model(np.zeros((1, 8, 8, 1), np.uint8))], {}, model.labels, (), Asked()
    )
    assert printed == f"{model.name} says {answer['label']} ({answer['score']:.3f})\n"


def test_a_network_is_described(library, small):
    network = library.load(small, threads=3, isa="scalar")
    about = network.about()
    assert (about.name, about.method, about.recipe, about.task) == (b"test", b"none", None, b"classification")
    assert (about.answer, about.inputs, about.outputs, about.labels) == (c_interface.ANSWERS.index("one"), 3, 2, 4)
    assert (about.isa, about.threads) == (b"scalar", 3)
    image, ids, sensors = (network.input(i) for i in range(3))
    assert [(x.name, c_interface.TYPES[x.type], x.shape.sizes(), x.count, x.resize) for x in (image, ids, sensors)] == [
        (b"input", "image", (8, 8, 3), 0, 12),
        (b"ids", "tokens", (6, 1, 1), 9, 0),
        (b"sensors", "floats", (5,), 0, 0),
    ]
    assert (image.mean[:3], image.std[:3]) == ([0.5] * 3, [0.25] * 3) and not ids.mean and not sensors.std
    outputs = [(network.output(i).name, network.output(i).shape.sizes()) for i in range(2)]
    assert outputs == [(b"output", (4,)), (b"map", (8, 8, 4))]
    assert [network.label(i) for i in range(4)] == list("abcd")
    assert network.shapes([Shape()] * 3) == [(4,), (8, 8, 4)], "zeros are the network's own sizes"
    assert network.shapes([Shape(5, 9, 3), Shape(2, 1, 1), Shape()]) == [(4,), (5, 9, 4)]
    old = library.load(OLD / "rbnn.safetensors")
    assert old.about().recipe is not None and old.label(7) == "7", "version 1"


@pytest.mark.parametrize("seed", range(6))
def test_the_bits_are_those_of_the_python_engine(library, tmp_path, seed):
    """Several inputs and outputs, other sizes, batches; on every instruction set and several threads."""
    graph, net = mixed(seed)
    file_format.write(tmp_path / "net", graph, net.tensors)
    random = np.random.default_rng(seed)
    model = load(tmp_path / "net", isa="scalar", threads=1)
    networks = [library.load(tmp_path / "net", n, isa) for isa in native.supported() for n in (1, 2)]
    channels = graph["inputs"][1]["shape"][0]
    for size in (1, 3):
        for length, height, width in ((graph["inputs"][0]["length"], 9, 7), (7, 6, 12)):
            ids = random.integers(0, 11, (size, length), dtype=np.int32)
            pixels = random.integers(0, 256, (size, height, width, channels), dtype=np.uint8)
            last = np.ascontiguousarray(model.inputs[1].normalized(pixels), np.float32)
            first = np.ascontiguousarray(last.transpose(0, 3, 1, 2))
            sensors, depth = net.floats(size, 16), net.floats(size, 16, 2, 5)
            for photo, form in ((pixels, BYTES), (first, CHANNELS_FIRST), (last, CHANNELS_LAST)):
                expected = model(ids, pixels if form == BYTES else first, sensors, depth)
                for network in networks:
                    forms = (INTEGERS, form, CHANNELS_LAST, CHANNELS_FIRST)
                    for found, (name, other) in zip(
                        network.run(ids, photo, sensors, depth, forms=forms), expected.items(), strict=True
                    ):
                        other = other.transpose(0, 2, 3, 1) if other.ndim == 4 else other
                        np.testing.assert_array_equal(
                            found.view(np.int32), np.ascontiguousarray(other).view(np.int32), name
                        )


def test_old_files_give_the_bits_that_they_gave(library):
    with np.load(OLD / "logits.npz") as content:
        images = np.ascontiguousarray(content["images"])
        for name in ("adabin", "adabin-int8", "rbnn", "reactnet", "rebnn"):
            (found,) = library.load(OLD / f"{name}.safetensors").run(images)
            np.testing.assert_array_equal(found.view(np.int32), content[name].view(np.int32))


def test_the_choice_of_instruction_set(library, small, monkeypatch):
    monkeypatch.delenv("ONEBIT_ISA", raising=False)
    assert library.load(small).about().isa.decode() == native.supported()[-1]
    assert library.load(small, threads=0).about().threads >= 1
    for isa in native.supported():
        assert library.load(small, isa=isa).about().isa.decode() == isa


def test_two_threads_call_one_network(library, small):
    network, alone = library.load(small, threads=2), library.load(small)

    def call(seed: int) -> bool:
        given = batch(1 + seed % 4, seed)
        return all(np.array_equal(a, b) for a, b in zip(network.run(*given), alone.run(*given)))

    def refused(seed: int) -> str:
        with pytest.raises(Failure) as caught:
            network.label(4 + seed)
        return caught.value.text

    with ThreadPoolExecutor(4) as callers:
        assert all(callers.map(call, range(60)))
        found = list(callers.map(refused, range(60)))
    assert found == [f"the number of a label must be from 0 to 3, got {4 + seed}" for seed in range(60)]


@pytest.mark.parametrize("kind", answers.LABELS)
def test_answers_are_those_of_python(library, tmp_path, kind):
    network = library.load(classifier(tmp_path / "net", kind, None))
    random = np.random.default_rng(0)
    rows = random.normal(size=(200, 7)).astype(np.float32) * 10 ** random.uniform(-3, 3, (200, 1)).astype(np.float32)
    rows[:20] = rows[:20].round()  # equal ones
    rows[0], rows[1, ::2] = 0, 3e38
    scores = answers.LABELS[kind].scores(rows)
    for row, expected, answer in zip(
        rows, scores, answers.LABELS[kind].answers([rows], {}, None, (), Asked(4)), strict=True
    ):
        found = network.answer(row, 4)
        assert [(str(place), round(score, 6)) for place, score in found] == [(p["label"], p["score"]) for p in answer]
        np.testing.assert_array_equal(np.float32([score for _, score in found]), np.sort(expected)[::-1][:4])
    assert len(network.answer(rows[0], 100)) == 7
    broken = np.float32([1, np.nan, 2, np.inf, 3, -np.inf, np.nan])
    order = {"one": [0, 1, 2, 3, 4, 5, 6], "several": [3, 4, 2, 0, 5, 1, 6], "values": [3, 4, 2, 0, 5, 1, 6]}
    assert [place for place, _ in network.answer(broken, 7)] == order[kind]


@pytest.mark.parametrize(
    "name", [*version1.BYTES, *version1.MUTATIONS, *(f"{name} (2)" for name in version2.MUTATIONS)]
)
def test_hostile_files(library, tmp_path, name):
    if name in version1.BYTES:
        data, message = version1.BYTES[name]
    else:
        module = version2 if name.endswith(" (2)") else version1
        source = module.parts()
        change, message = module.MUTATIONS[name.removesuffix(" (2)")]
        change(source)
        data = module.raw(*source)
    (tmp_path / "hostile").write_bytes(data)
    texts = []
    for source in (data, tmp_path / "hostile"):
        with pytest.raises(Failure) as caught:
            library.load(source)
        assert caught.value.code == "bad file"
        texts.append(caught.value.text)
    assert re.search(message.replace('"', "'"), texts[0].replace('"', "'")), texts[0]
    assert texts[1] == f"{tmp_path}/hostile: {texts[0]}" and "\n" not in texts[1]


def test_files_that_cannot_be_read(library, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(2**32 + 1)
    for path, code, text in (
        (tmp_path / "none", "cannot read", f"cannot read {tmp_path}/none: No such file or directory"),
        (tmp_path, "cannot read", f"{tmp_path} is not a regular file"),
        (tmp_path / "pipe", "cannot read", f"{tmp_path}/pipe is not a regular file"),
        (tmp_path / "large", "bad file", f"{tmp_path}/large has 4294967297 bytes, at most 4294967296"),
        (Path("ä" * 3000), "cannot read", "cannot read ä"),
    ):
        with pytest.raises(Failure) as caught:
            library.load(path)
        assert caught.value.code == code and caught.value.text.startswith(text) and len(caught.value.text) <= 1000


def test_what_the_engine_cannot_run(library, tmp_path):
    """Windows that the padding cuts in 301 x 301 ways, for 1024 outputs."""
    net = Builder(0, (1, 100, 100))
    tensors = {"bits": np.zeros((1024, 5000), np.uint8), "channels": net.floats(2, 1024)}
    x = net.node("binary_conv", ["input"], tensors, in_channels=1, kernel=[200, 200], padding=[200, 200])
    file_format.write(tmp_path / "net", net.graph(net.node("global_avg_pool", [x])), net.tensors)
    with pytest.raises(Failure, match=r"^cannot run: .*2\^26"):
        library.load(tmp_path / "net")


EXHAUSTED = """
import resource, sys
import numpy as np
sys.path.insert(0, sys.argv[3])
import c_interface
library = c_interface.Library(sys.argv[1])
network = library.load(c_interface.Path(sys.argv[2]), threads=2)
images = np.zeros((1, 4096, 4096, 1), np.uint8)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, -1))
for call in (lambda: network.run(images), lambda: library.load(c_interface.Path(sys.argv[2]), threads=1024)):
    try:
        call()
    except c_interface.Failure as failure:
        print(failure.code)
print(network.run(images[:, :64, :64].copy())[0].shape)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it limits memory as Linux does")
def test_neither_memory_nor_threads(library, libraries, tmp_path):
    net = Builder(0, (1, 8, 8))
    x = net.node("relu", [net.node("relu", [net.conv("input", 1, 16, padding=[1, 1])])])
    file_format.write(tmp_path / "net", net.graph(net.node("global_avg_pool", [x])), net.tensors)
    command = (sys.executable, "-c", EXHAUSTED, libraries / "libonebit.so", tmp_path / "net", ROOT / "tests")
    assert output_of(*command).splitlines() == ["no memory", "no threads", "(1, 16)"]


def changed(index: int, **fields: Any) -> Callable[[list[Values], list[np.ndarray]], None]:
    def change(inputs: list[Values], outputs: list[np.ndarray]) -> None:
        for name, value in fields.items():
            setattr(inputs[index], name, value)

    return change


BAD_RUNS: dict[str, tuple[Callable[[list[Values], list[np.ndarray]], Any], str]] = {
    "an input missing": (lambda i, o: i.pop(), "the network has 3 inputs, got 2"),
    "an input too many": (lambda i, o: i.append(i[0]), "the network has 3 inputs, got 4"),
    "an output missing": (lambda i, o: o.pop(), "the network has 2 outputs, got 1"),
    "an output too small": (lambda i, o: o.append(o.pop()[:1]), "output 'map': a batch has 512 values, got 256"),
    "data NULL": (changed(0, data=None), "a pointer is NULL"),
    "too few values": (changed(1, size=11), "input 'ids': a batch has 12 values, got 11"),
    "too many values": (changed(2, size=11), "input 'sensors': a batch has 10 values, got 11"),
    "an unknown form": (changed(0, form=4), "the form of an input must be from 0 to 3, got 4"),
    "a negative form": (changed(0, form=-1), "the form of an input must be from 0 to 3, got -1"),
    "bytes for floats": (changed(2, form=BYTES), "bytes are for images"),
    "tokens as floats": (changed(1, form=CHANNELS_LAST), "tokens are integers"),
    "an image as tokens": (changed(0, form=INTEGERS), "tokens are integers"),
    "other channels": (changed(0, shape=Shape(8, 6, 4), size=384), "wrong number of channels"),
    "a vector as a map": (changed(2, shape=Shape(1, 1, 5)), "wrong number of channels"),
    "a map as a vector": (changed(0, shape=Shape(8, 8, 3, 1)), "a height and a width of 1"),
    "a height of 0": (changed(0, shape=Shape(0, 8, 3)), "a size is out of range"),
    "a height below 0": (changed(0, shape=Shape(-8, -8, 3)), "a size is out of range"),
    "a large image": (changed(0, shape=Shape(2**15, 2**15, 3)), "too large"),
    "tokens of two axes": (changed(1, shape=Shape(3, 2, 1)), "one axis"),
    "an odd address": (lambda i, o: changed(2, data=i[2].data + 1)(i, o), "not aligned"),
}


@pytest.mark.parametrize("name", BAD_RUNS)
def test_bad_runs(library, small, name):
    network, arrays = library.load(small), batch()
    outputs = [np.zeros((2, 4), np.float32), np.zeros((2, 8, 8, 4), np.float32)]
    inputs = [values(array) for array in arrays]
    network.run_raw(inputs, 2, outputs)
    change, message = BAD_RUNS[name]
    change(inputs, outputs)
    with pytest.raises(Failure) as caught:
        network.run_raw(inputs, 2, outputs)
    assert caught.value.code == "bad argument" and message in caught.value.text


def test_bad_values(library, small):
    network = library.load(small)
    for index, bad, reason in (
        (1, 9, "tokens are out of range"),
        (1, -1, "tokens are out of range"),
        (2, np.nan, "floats contain NaN or infinity"),
        (2, np.inf, "floats contain NaN or infinity"),
    ):
        arrays = batch()
        arrays[index].flat[3] = bad
        with pytest.raises(Failure, match=rf"^bad argument: input \w+: {reason}"):
            network.run(*arrays)
    image = np.full((2, 3, 8, 8), np.nan, np.float32)
    with pytest.raises(Failure, match=r"^bad argument: input \w+: images contain NaN or infinity"):
        network.run(image, *batch()[1:])
    for size in (0, -1, 2**30 + 1):
        with pytest.raises(Failure, match=r"^bad argument: the batch must be from 1 to 1073741824, got"):
            network.run_raw(
                [values(array) for array in batch()], size, [np.zeros(8, np.float32), np.zeros(512, np.float32)]
            )
    with pytest.raises(Failure, match=r"^bad argument: a size is out of range"):
        network.shapes([Shape(0, 1, 3), Shape(), Shape()])
    for count in (2, 4):
        with pytest.raises(Failure, match=rf"^bad argument: the network has 3 inputs, got {count}"):
            network.shapes([Shape()] * count)
    with pytest.raises(Failure, match=r"^bad argument: the network has 2 outputs, got 3"):
        network.shapes([Shape()] * 3, outputs=3)


def test_bad_arguments_of_load(library, small, monkeypatch):
    for threads in (-1, 1025):
        with pytest.raises(Failure, match=r"^bad argument: threads must be from 0 to 1024, got"):
            library.load(small, threads=threads)
    with pytest.raises(Failure, match=r'^bad argument: unknown instruction set "sse9"; choose one of scalar'):
        library.load(small, isa="sse9")
    if len(native.supported()) < len(native.ISAS):
        with pytest.raises(Failure, match=r"^bad argument: this CPU does not support the instruction set"):
            library.load(small, isa=native.ISAS[-1])
    c, place = library.c, c_interface.c_void_p()
    assert c.onebit_load(None, 1, None, c_interface.byref(place)) == 2 and c.onebit_load(b"net", 1, None, None) == 2
    assert c.onebit_load_bytes(None, 8, 1, None, c_interface.byref(place)) == 2
    assert c.onebit_load_bytes(None, 0, 1, None, c_interface.byref(place)) == 1, "an empty file"
    c.onebit_free(None)


def test_bad_arguments_of_others(library, small):
    """NULL wherever there is a pointer, and numbers beyond the end."""
    network, c = library.load(small), library.c
    buffer, row = (Buffer * 2)(), (c_interface.c_float * 4)()
    for call in (
        lambda net: c.onebit_describe(net, None),
        lambda net: c.onebit_describe_input(net, 0, None),
        lambda net: c.onebit_describe_output(net, 0, None),
        lambda net: c.onebit_label(net, 0, None),
        lambda net: c.onebit_output_shapes(net, None, 3, buffer, 2),
        lambda net: c.onebit_run(net, None, 3, 1, buffer, 2),
        lambda net: c.onebit_run(net, buffer, 3, 1, None, 2),
        lambda net: c.onebit_run(net, (Values * 3)(), 3, 1, buffer, 2),
        lambda net: c.onebit_answer(net, None, 4, 1, row, row),
        lambda net: c.onebit_answer(net, row, 4, 1, None, row),
        lambda net: c.onebit_answer(net, row, 4, 1, row, None),
        lambda net: c.onebit_boxes(net, None, 2, 1, row, row),
        lambda net: c.onebit_boxes(net, buffer, 2, 1, None, row),
        lambda net: c.onebit_boxes(net, buffer, 2, 1, row, None),
    ):
        for handle in (network.handle, None):
            assert call(handle) == 2 and c.onebit_failure() == b"a pointer is NULL"
    for call, message in (
        (lambda: network.input(3), "the number of an input must be from 0 to 2, got 3"),
        (lambda: network.output(-1), "the number of an output must be from 0 to 1, got -1"),
        (lambda: network.answer(np.zeros(3, np.float32), 1), "the network has 4 labels, got 3"),
        (lambda: network.answer(np.zeros(4, np.float32), 0), "top must be from 1 to"),
        (lambda: library.load(version1.GOOD).label(0), "the network has no labels"),
    ):
        with pytest.raises(Failure) as caught:
            call()
        assert caught.value.code == "bad argument" and message in caught.value.text
