"""Builds of the C++ sources, for tests that need other ones than the installed engine."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def tool(name: str, remedy: str = "pip install '.[dev]'") -> str:
    """The program, beside this Python or on the path; without it, or a compiler, the test is skipped."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"{name} is not installed: {remedy}")
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("no C++ compiler is installed: apt-get install g++")
    return found


def output_of(*command: Any, **environment: str) -> str:
    """What a command prints."""
    done = subprocess.run(
        [str(part) for part in command], env={**os.environ, **environment}, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def build(source: Path, folder: Path, target: str, *options: str) -> None:
    """Builds a target of the CMake project `source` in `folder`, with little optimization: its answers are the same."""
    configure = [tool("cmake"), "-S", source, "-B", folder, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}"]
    for command in (
        [*configure, "-DONEBIT_OPTIMISE=-O1", "-DONEBIT_DEVELOPER=ON", *options],
        [tool("cmake"), "--build", folder, "--target", target],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def build_engine(source: Path, folder: Path, to: Path) -> None:
    """Builds the Python module of the engine into the folder `to`."""
    if importlib.util.find_spec("nanobind") is None:
        pytest.skip("nanobind is not installed: pip install '.[dev]'")
    build(source, folder, "_engine", f"-DPython_EXECUTABLE={sys.executable}", f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={to}")
