"""What `make wheel` builds, where it is meant for: a Python of its own, outside the repository, without a compiler."""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from builds import tool

ROOT = Path(__file__).resolve().parents[1]
OLD = ROOT / "tests" / "old"
NAMES = ("adabin", "adabin-int8", "rbnn", "reactnet", "rebnn")
COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "clang++", "cmake")
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")

WHERE = """
import json
import onebit.runtime._engine
print(json.dumps([onebit.__file__, onebit.runtime._engine.__file__]))
"""
LOGITS = """
import json, sys
from importlib import metadata
import numpy
import onebit.runtime._engine
with numpy.load(sys.argv[1]) as content:
    images, expected = content["images"], {name: content[name] for name in content.files}
for path in sys.argv[2:]:
    name = path.replace(chr(92), "/").rpartition("/")[2].partition(".")[0]
    found = onebit.runtime.load(path, backend="engine")(images)
    assert (found.view("int32") == expected[name].view("int32")).all(), name
print(json.dumps([[d.name.lower() for d in metadata.distributions()], onebit.__file__, onebit.runtime._engine.__file__]))
"""
HEXADECIMAL = """
import sys
import numpy, onebit
images = numpy.load(sys.argv[2])["images"]
print(onebit.runtime.load(sys.argv[1])(images).tobytes().hex())
"""


class Place:
    """A virtual environment, and a folder beside it to work in, whose path leads to no compiler."""

    def __init__(self, folder: Path, *options: str):
        self.venv, self.work = folder / "venv", folder / "work"
        self.work.mkdir()
        subprocess.run([sys.executable, "-m", "venv", *options, self.venv], check=True)
        self.programs = self.venv / ("Scripts" if os.name == "nt" else "bin")
        kept = {k: v for k, v in os.environ.items() if k not in ("CC", "CXX") and not k.startswith("PYTHON")}
        self.environment = {**kept, "PATH": str(self.programs), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        assert not any(shutil.which(name, path=self.environment["PATH"]) for name in COMPILERS)

    def __call__(self, *command: object) -> subprocess.CompletedProcess[str]:
        program, *arguments = map(str, command)
        return subprocess.run(
            [self.programs / program, *arguments], cwd=self.work, env=self.environment, capture_output=True, text=True
        )

    def succeed(self, *command: object) -> str:
        done = self(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def check_onebit(self, *files: str) -> None:
        assert all(Path(file).is_relative_to(self.venv) for file in files), files


def network_or_skip(folder: Path) -> None:
    command = [sys.executable, *PIP, "download", "--no-deps", "--dest", folder, "scikit-build-core"]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("pip reaches no packages, which a wheel is built with: connect this machine")


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """The folder with the sources and the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    make, venv = tool("make", "apt-get install make"), Path(sys.executable).parent
    for module in ("build", *(["auditwheel"] if sys.platform == "linux" else [])):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install '.[dev]'")
    network_or_skip(tmp_path_factory.mktemp("downloads"))
    command = [make, "-o", ".venv/.installed", "wheel", f"BIN={venv}", f"DIST={folder}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def wheel(dist) -> Path:
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def small(wheel, tmp_path_factory) -> Place:
    """The wheel, and what it requires."""
    place = Place(tmp_path_factory.mktemp("small"))
    place.succeed("python", *PIP, "install", "--only-binary", ":all:", wheel)
    return place


@pytest.fixture(scope="module")
def whole(wheel, tmp_path_factory) -> Place:
    """The wheel, with PyTorch and all else that this Python has."""
    place = Place(tmp_path_factory.mktemp("whole"), "--without-pip")
    command = [sys.executable, *PIP, "--python", place.programs / "python", "install", "--no-deps", wheel]
    subprocess.run(command, check=True)
    site = place.succeed("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    (Path(site) / "borrowed.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")))
    return place


def test_the_sources_are_those_of_the_repository(dist):
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()} - {"PKG-INFO"}
    for needed in (
        "CMakeLists.txt",
        "LICENSE",
        "csrc/bindings/python.cc",
        "src/onebit/py.typed",
        "tests/old/adabin.ckpt",
    ):
        assert needed in names
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
        )
        assert names == {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}
    assert path.stat().st_size < 2_500_000


def test_the_wheel_holds_the_package_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    package = {name.removeprefix("onebit/") for name in names if name.startswith("onebit/")}
    sources = {p.relative_to(ROOT / "src" / "onebit").as_posix() for p in (ROOT / "src" / "onebit").rglob("*.*")}
    engine = {name for name in package if name.startswith("runtime/_engine.")}
    assert len(engine) == 1
    assert package - engine == {
        name for name in sources if name.endswith((".py", ".toml", "py.typed", ".css", ".md", ".safetensors"))
    }
    outside = {name.partition("/")[2] for name in names if not name.startswith("onebit/")}
    assert outside == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    assert "\nRequires-Dist: numpy>=1.26\n" in metadata
    assert wheel.stat().st_size < 1_500_000
    abi = "cp312-abi3" if sys.version_info >= (3, 12) else "cp311-cp311"
    system = r"manylinux_2_\d+_" if sys.platform == "linux" else ""
    assert re.fullmatch(rf"onebit-[\d.]+-{abi}-{system}\w+\.whl", wheel.name)


def test_numpy_is_enough_to_run_files(small):
    """Files of all ages, to the bit."""
    output = small.succeed("python", "-c", LOGITS, OLD / "logits.npz", *(OLD / f"{name}.safetensors" for name in NAMES))
    installed, *files = json.loads(output)
    assert set(installed) - {"pip", "setuptools"} == {"numpy", "onebit"}
    small.check_onebit(*files)


def test_the_command_needs_no_more(small):
    from onebit import __version__

    assert small.succeed("onebit", "--version") == f"onebit {__version__}\n"
    assert "onebit train digits-resnet8-adabin" in small.succeed("onebit", "--help")
    assert "digits-resnet8-adabin" in small.succeed("onebit", "list", "recipes")
    networks = json.loads(small.succeed("onebit", "list", "zoo", "--json"))["zoo"]
    assert sorted(networks) == sorted(f"zoo:{path.stem}" for path in (ROOT / "src/onebit/zoo").glob("*.safetensors"))
    assert json.loads(small.succeed("onebit", "info", OLD / "adabin.safetensors", "--json"))["method"] == "adabin"


def test_what_is_missing_is_named_and_the_remedy_works(small, wheel):
    for verb in (["train", "digits-resnet8-adabin", "--out", "runs"], ["pack", OLD / "adabin.ckpt", "--out", "packed"]):
        done = small("onebit", *verb)
        assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
        assert done.stderr.endswith(f"; install with pip install '{wheel}[train]'\n")
    picture = small.work / "digit.png"
    label = write_digit(picture)
    done = small("onebit", "run", OLD / "adabin.safetensors", picture)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    _, _, remedy = done.stderr.strip().partition("install with ")
    small.succeed(*shlex.split(remedy))
    answer = small.succeed("onebit", "run", OLD / "adabin.safetensors", picture, "--format", "jsonl")
    assert json.loads(answer)["predictions"][0]["label"] == label


def test_training_by_the_name_of_a_recipe(whole, small):
    """Then packed, and run: with PyTorch at hand, and where there is none."""
    whole.check_onebit(*json.loads(whole.succeed("python", "-c", WHERE)))
    whole.succeed("onebit", "train", "digits-resnet8-adabin", "--epochs", 1, "--out", "runs/digits")
    whole.succeed("onebit", "pack", "runs/digits/last.ckpt", "--out", "digits.safetensors")
    write_digit(whole.work / "digit.png")
    (row,) = json.loads(whole.succeed("onebit", "run", "digits.safetensors", "digit.png", "--json"))["images"]
    assert row["predictions"][0]["label"] in "0123456789"
    arguments = ("python", "-c", HEXADECIMAL, whole.work / "digits.safetensors", OLD / "logits.npz")
    assert whole.succeed(*arguments) == small.succeed(*arguments)


def write_digit(path: Path) -> str:
    """Writes the first recorded image; returns the label that adabin.safetensors gave it."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: pip install '.[run]'")
    with np.load(OLD / "logits.npz") as content:
        pixels, label = content["images"][0], content["adabin"][0].argmax()
    file = io.BytesIO()
    image.fromarray(pixels.squeeze()).save(file, "png")
    path.write_bytes(file.getvalue())
    return str(label)
