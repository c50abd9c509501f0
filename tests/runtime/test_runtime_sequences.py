"""Networks of texts, and what sequences are run some rows at a time: the engine equals the reference to the bit, on every
instruction set and for any number of threads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nets import Builder, text_net
from onebit.errors import UserError
from onebit.runtime import format as file_format
from onebit.runtime import load, native
from onebit.runtime.model import Model

if not native.available():
    pytest.skip("the engine is not built", allow_module_level=True)

isas = pytest.mark.parametrize("isa", native.supported())


def texts(
    random: np.random.Generator, batch: int, length: int, count: int, mask: str = "some"
) -> dict[str, np.ndarray]:
    there = {
        "some": random.integers(0, 2, (batch, length)),
        "all": np.ones((batch, length)),
        "none": np.zeros((batch, length)),
    }
    return {
        "ids": random.integers(0, count, (batch, length), np.int32),
        "types": random.integers(0, 2, (batch, length), np.int32),
        "mask": there[mask].astype(np.int32),
    }


def answers(model: Model, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = model(**values)
    return found if isinstance(found, dict) else {"": found}


def same(path: Path, isa: str, values: dict[str, np.ndarray], threads: tuple[int, ...] = (1, 2, 3)) -> None:
    reference = load(path, backend="reference")
    traced, outputs = reference.trace(**values), answers(reference, values)
    for count in threads:
        model = load(path, isa=isa, threads=count)
        for found, expected in ((model.trace(**values), traced), (answers(model, values), outputs)):
            assert found.keys() == expected.keys()
            for name, value in expected.items():
                np.testing.assert_array_equal(found[name], value, err_msg=f"{isa}, {count} threads: {name}")
                assert found[name].tobytes() == value.tobytes(), f"{name}: signs of zeros"


@isas
@pytest.mark.parametrize("seed", range(8))
def test_texts(tmp_path: Path, isa: str, seed: int) -> None:
    graph, tensors = text_net(seed, 1 + seed % 3, (3, 8, 16, 32)[seed % 4], seed % 3 != 0, seed % 5 != 0)
    file_format.write(tmp_path / "net.onebit", graph, tensors)
    random = np.random.default_rng(seed)
    for length, mask in ((7, "some"), (1, "all"), (12, "none")):
        same(tmp_path / "net.onebit", isa, texts(random, 1 + seed % 2, length, graph["inputs"][0]["count"], mask))


@isas
def test_one_output_alone(tmp_path: Path, isa: str) -> None:
    """Of the last layer only the first token's row is computed: the answer is that with all of them."""
    graph, tensors = text_net(3)
    graph["outputs"] = graph["outputs"][:1]
    file_format.write(tmp_path / "net.onebit", graph, tensors)
    same(tmp_path / "net.onebit", isa, texts(np.random.default_rng(0), 3, 12, graph["inputs"][0]["count"]))


def attention(seed: int, queries: int, keys: int, heads: int, depth: int, of_values: int, **attributes: Any) -> Any:
    """binary_attention of three inputs of floats, and a mask."""
    net = Builder(seed, (1, 1, 1))
    width, values = heads * depth, heads * of_values
    thresholds = {"query": net.floats(width) / 4, "key": net.floats(width) / 4, "value": net.floats(values) / 4}
    graph = net.graph(net.node("binary_attention", ["q", "k", "v", "mask"], thresholds, heads=heads, **attributes))
    floats = (("q", [width, queries, 1]), ("k", [width, keys, 1]), ("v", [values, keys, 1]))
    graph["inputs"] = [{"name": name, "type": "floats", "shape": shape} for name, shape in floats]
    graph["inputs"].append({"name": "mask", "type": "tokens", "length": keys, "count": 2})
    return graph, net.tensors


CASES = (
    # queries, keys, heads, depth, channels of v of a head; scale, level, softmax
    (5, 40, 2, 32, 32, 0.3, 0.05, True),
    (33, 70, 3, 32, 16, 0.02, 1 / 70, True),
    (4, 64, 1, 64, 33, 0.11, 0.02, True),
    (3, 9, 2, 70, 5, -0.2, 0.1, True),  # a negative scale
    (3, 300, 1, 130, 40, 0.05, 0.01, True),  # a long table
    (2, 16, 1, 8, 8, 0.0, 1 / 16, True),  # all alike, on the level
    (2, 17, 1, 8, 8, 0.0, 1 / 16, True),
    (6, 32, 2, 3, 7, 1e-9, float(np.float32(1 / 32)), True),  # nearly alike: only the exact sum tells
    (3, 12, 1, 33, 31, 40.0, 0.5, True),  # exponentials that vanish
    (2, 8, 1, 16, 3, 0.5, 0.0, True),
    (2, 8, 1, 16, 3, 0.5, -1.0, True),
    (2, 8, 1, 16, 3, 0.5, 1.0, True),
    (2, 8, 1, 16, 3, 9.0, 1.5, True),
    (2, 8, 1, 16, 3, 2.0, 1e-35, True),
    (2, 8, 2, 12, 9, 0.7, 1.1754943508222875e-38, False),
    (2, 50, 2, 12, 9, -0.7, 2.1, False),
    (2, 8, 1, 4, 4, 0.0, 0.0, False),
    (1, 1, 1, 1, 1, 1.0, 0.5, True),
)


@isas
@pytest.mark.parametrize("case", range(len(CASES)))
def test_binary_attention(tmp_path: Path, isa: str, case: int) -> None:
    queries, keys, heads, depth, values, scale, level, softmax = CASES[case]
    attributes = {"scale": scale, "level": level, "softmax": softmax, "factor": -0.37 if case % 2 else 1.3}
    graph, tensors = attention(case, queries, keys, heads, depth, values, **attributes)
    file_format.write(tmp_path / "net.onebit", graph, tensors)
    random = np.random.default_rng(case)
    for mask in (np.ones(keys), random.integers(0, 2, keys), np.arange(keys) < keys // 2, np.zeros(keys)):
        given = {
            name: random.normal(size=(1, channels, length, 1)).astype(np.float32)
            for name, channels, length in (
                ("q", heads * depth, queries),
                ("k", heads * depth, keys),
                ("v", heads * values, keys),
            )
        }
        same(tmp_path / "net.onebit", isa, {**given, "mask": mask[None].astype(np.int32)}, (1, 2))


@isas
def test_equal_probabilities(tmp_path: Path, isa: str) -> None:
    """Rows of few distinct counts whose probabilities lie on the level, or a rounding beside it: 1/2, 1/3, ..."""
    for others in range(1, 9):
        graph, tensors = attention(0, 1, others + 1, 1, 16, 4, scale=0.0, level=1 / (others + 1), factor=1.0)
        tensors = {name: np.zeros_like(value) for name, value in tensors.items()}
        file_format.write(tmp_path / "net.onebit", graph, tensors)
        given = {
            name: np.ones((1, channels, length, 1), np.float32)
            for name, channels, length in (("q", 16, 1), ("k", 16, others + 1), ("v", 4, others + 1))
        }
        same(tmp_path / "net.onebit", isa, {**given, "mask": np.ones((1, others + 1), np.int32)}, (1,))


@isas
@pytest.mark.parametrize("seed", range(6))
def test_layers_of_sequences(tmp_path: Path, isa: str, seed: int) -> None:
    """Pointwise binary convolutions, of channels that fill words, bytes or neither, with what follows them, over lengths about
    those that are run at once."""
    width = (32, 64, 24, 8, 9, 128)[seed]
    net = Builder(seed, (width, 40, 1))
    x = "input"
    for layer, rows in enumerate((2, 3, 2)):
        threshold = ("channel", 0.1, "sample_mean")[(layer + seed) % 3]
        y = net.binary_conv(x, width, width, 1, rows=rows, threshold=threshold)
        y = net.step(("relu", "gelu", "prelu", "hardtanh")[(layer + seed) % 4], net.node("add", [y, x]), width)
        x = net.norm("layer_norm", y, width)
    x = net.node("softmax", [net.node("add", [x, y])])
    graph = net.graph(x, other=y)
    file_format.write(tmp_path / "net.onebit", graph, net.tensors)
    for length in (1, 2, 15, 16, 17, 40):
        images = np.random.default_rng(length).normal(size=(1, width, length, 1)).astype(np.float32)
        same(tmp_path / "net.onebit", isa, {"input": images}, (1, 2))


def test_lengths_that_do_not_fit(tmp_path: Path) -> None:
    graph, tensors = text_net(1)
    file_format.write(tmp_path / "net.onebit", graph, tensors)
    model, random = load(tmp_path / "net.onebit"), np.random.default_rng(0)
    count = graph["inputs"][0]["count"]
    with pytest.raises(UserError, match="more rows than there are positions"):
        model(**texts(random, 1, 13, count))
    values = texts(random, 1, 7, count)
    with pytest.raises(UserError, match="the mask has another length"):
        model(**{**values, "mask": values["mask"][:, :6]})
