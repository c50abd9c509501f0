"""The kernels' own test (tests/kernels), which needs no Python: built here for this processor, and for 64-bit ARM where
a cross compiler and an emulator are installed, and for WebAssembly where Emscripten and node are."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMPILERS = tuple(filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")))


def need(*tools: str, packages: str = "") -> None:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}{packages and f'; apt-get install {packages}'}")


def build_and_run(folder: Path, *options: str) -> str:
    options = ("-DONEBIT_PYTHON=OFF", "-DONEBIT_KERNEL_TESTS=ON", "-DONEBIT_DEVELOPER=ON", *options)
    for command in (
        ["cmake", "-S", ROOT, "-B", folder, *options],
        ["cmake", "--build", folder, "--target", "kernel_test", "--parallel", str(os.cpu_count())],
        ["ctest", "--test-dir", folder, "--verbose", "--tests-regex", "^kernels$", "--no-tests=error"],
    ):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout
    return done.stdout


def digest(output: str) -> str:
    """Of what the scalar kernels computed."""
    return re.search(r"kernels equal the scalar ones; digest (\w+)", output)[1]


@pytest.fixture(scope="module")
def native_output(tmp_path_factory: pytest.TempPathFactory) -> str:
    need("cmake", "ctest")
    if not any(shutil.which(compiler) for compiler in COMPILERS):
        pytest.skip("no C++ compiler is installed")
    return build_and_run(tmp_path_factory.mktemp("kernels"))


def test_kernels_equal_the_scalar_ones(native_output: str) -> None:
    assert digest(native_output)


def test_kernels_for_arm(tmp_path: Path, native_output: str) -> None:
    need("aarch64-linux-gnu-g++", "qemu-aarch64")
    output = build_and_run(tmp_path, f"-DCMAKE_TOOLCHAIN_FILE={ROOT / 'cmake' / 'aarch64.cmake'}")
    for kernel in (
        "count_neon",
        "multiply_neon",
        "depthwise_neon",
        "pack_neon",
        "steps_neon",
        "bytes_neon",
        "codes_neon",
        "7 kernels equal the scalar ones",
    ):
        assert kernel in output
    assert digest(output) == digest(native_output), "the same numbers on both architectures"


def test_kernels_for_webassembly(tmp_path: Path, native_output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    need("em++", "node", packages="emscripten nodejs")
    monkeypatch.setenv("NODE_PATH", "/usr/share/nodejs")  # where Debian has what Emscripten's linker needs
    output = build_and_run(tmp_path, f"-DCMAKE_TOOLCHAIN_FILE={ROOT / 'cmake' / 'wasm.cmake'}")
    for kernel in ("count", "multiply", "depthwise", "pack", "steps", "bytes", "codes", "quantize"):
        assert f"{kernel}_simd128" in output
    assert "8 kernels equal the scalar ones" in output
    assert digest(output) == digest(native_output), "the same numbers as on this processor"
