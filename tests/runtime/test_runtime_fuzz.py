"""Hostile files that tests/fuzz found, and some new ones: each is refused with a FormatError, or loads and runs."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from nets import Builder, random_net
from onebit.runtime import load, native
from test_runtime_hostile import header_only, parts, raw, refuse
from test_runtime_hostile_several import parts as parts2
from test_runtime_hostile_several import raw as raw2

FUZZ = Path(__file__).resolve().parents[1] / "fuzz"
sys.path.insert(0, str(FUZZ))
from hostile_files import mutate  # noqa: E402
from outcome import outcome  # noqa: E402
from verdicts import changed, seeds, verdicts  # noqa: E402

MEMORY = 2**30  # bytes that a file may cost
CODE = """
import sys
from pathlib import Path
from outcome import outcome
for path in map(Path, sys.argv[2:]):
    print(path.name, flush=True)
    outcome(path.read_bytes(), Path(sys.argv[1]))
"""


def replay(tmp_path: Path, paths: list[Path]) -> None:
    """Loads the files in a process of its own and little memory, so that even a crash is just a failed test."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY + 2**29,) * 2)

    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(FUZZ), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "replayed.onebit"), *map(str, paths)],
        env=environment,
        preexec_fn=None if "LD_PRELOAD" in os.environ else limit,  # AddressSanitizer reserves terabytes
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout.split()[-1:]}: {done.stderr[-2000:]}"


def test_the_corpus_is_harmless(tmp_path: Path) -> None:
    replay(tmp_path, sorted((FUZZ / "corpus").iterdir()))


def test_new_hostile_files_are_harmless(tmp_path: Path) -> None:
    for seed in range(200):
        random = Random(seed)
        data = raw(*parts()) if seed % 3 == 0 else raw2(*(random_net(seed) if seed % 3 == 1 else parts2()))
        outcome(mutate(data, random), tmp_path / "new.onebit")


@pytest.mark.skipif(not native.available(), reason="the engine is not built")
def test_both_readers_say_the_same() -> None:
    """Of all files that fuzzing starts from, and of changed ones; tests/fuzz/verdicts.py takes more."""
    counts = {True: 0, False: 0}
    for data in changed(seeds(), 4000, seed=0):
        found = verdicts(data)
        assert found.agree, found
        counts[found.engine is None] += 1
    assert min(counts.values()) > 400


def test_deep_nesting_in_a_field(tmp_path: Path) -> None:
    """Whatever is shallow enough to be read can also be shown in a message, from elsewhere in the stack."""
    graph, tensors = parts()
    graph["nodes"][0]["stride"] = "@"
    text = json.dumps(graph)
    for depth in range(900, 1000, 3):
        nested = text.replace('"@"', "[" * depth + "]" * depth)
        refuse(tmp_path, raw(nested, tensors), "list of two integers|nested too deeply")


@pytest.mark.parametrize("entry", [{"dtype": []}, {"dtype": {}}, {"shape": {}}, {"dtype": ["F32"], "shape": 5}])
def test_types_in_the_header(tmp_path: Path, entry: dict[str, Any]) -> None:
    metadata = {"format": "onebit", "version": "1", "graph": json.dumps(parts()[0])}
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | entry
    refuse(tmp_path, header_only(json.dumps({"__metadata__": metadata, "b.bits": tensor})), "must have dtype")


def test_half_a_character_is_not_text(tmp_path: Path) -> None:
    """A name is printed: JSON's escapes can make strings that cannot be."""
    graph, tensors = parts()
    refuse(tmp_path, raw(graph | {"name": "\ud800"}, tensors), "not valid Unicode")
    refuse(tmp_path, raw(graph | {"labels": ["a", "b", "c", "\udfff"]}, tensors), "not valid Unicode")


def test_a_kernel_beyond_the_engine(tmp_path: Path) -> None:
    net = Builder(0, (1, 2**15, 1))
    x = net.conv("input", 1, 1, (2**15 + 1, 1), padding=[1, 0])
    refuse(tmp_path, raw(net.graph1(x), net.tensors), "larger than 32768")


def test_an_image_beyond_an_activation(tmp_path: Path) -> None:
    net = Builder(0, (2**10, 2**15, 2**15))
    refuse(tmp_path, raw(net.graph1(net.node("global_avg_pool", ["input"])), {}), "more than 268435456 values")


def test_small_files_cost_little(tmp_path: Path) -> None:
    """Kernels and graphs whose plan once took time by the square, or memory by the size they claim."""
    if not native.available():
        pytest.skip("the engine is not built")
    net = Builder(0, (1, 4, 4))
    net.node("max_pool", ["input"], kernel=[2**15] * 2, stride=[2**15] * 2, padding=[2**14] * 2)
    (tmp_path / "pool").write_bytes(raw(net.graph1(net.nodes[-1]["name"]), net.tensors))
    net, x = Builder(0, (1, 4, 4)), "input"
    for _ in range(5000):
        x = net.node("max_pool", [x], kernel=[1, 1], stride=[1, 1])
    (tmp_path / "chain").write_bytes(raw(net.graph1(x), net.tensors))
    for name, kernel in (("square", (200, 200)), ("tall", (2**14, 1))):
        net = Builder(0, (1, *kernel))
        x = net.binary_conv("input", 1, 8, kernel, padding=list(kernel), shift=0.5)
        (tmp_path / name).write_bytes(raw(net.graph1(x), net.tensors))
    replay(tmp_path, [tmp_path / name for name in ("pool", "chain", "square", "tall")])


def test_border_classes_of_a_wide_kernel(tmp_path: Path) -> None:
    """The tables of the padding, where windows and image overlap in every way."""
    if not native.available():
        pytest.skip("the engine is not built")
    net = Builder(0, (3, 5, 7))
    x = net.binary_conv("input", 3, 5, (6, 9), 3, padding=[6, 9], dilation=[2, 1], stride=[1, 2], shift=0.5)
    (tmp_path / "wide").write_bytes(raw(net.graph1(x), net.tensors))
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    engine, reference = (load(tmp_path / "wide", backend=backend)(images) for backend in ("engine", "reference"))
    np.testing.assert_array_equal(engine, reference)
