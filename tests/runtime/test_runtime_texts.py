"""Operators of texts in the reference, by hand and against PyTorch: rows of bits, places, masks, attention of bits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nets import Builder, text_net
from onebit.errors import UserError
from onebit.runtime import bits, load
from onebit.runtime import format as file_format
from onebit.runtime.exponentials import softmax
from onebit.runtime.model import Model


def made(tmp_path: Path, net: Builder, output: str, *inputs: dict[str, Any]) -> Model:
    graph = net.graph(output)
    graph["inputs"] = list(inputs)
    file_format.write(tmp_path / "net", graph, net.tensors)
    return load(tmp_path / "net", backend="reference")


def tokens(name: str, length: int, count: int) -> dict[str, Any]:
    return {"name": name, "type": "tokens", "length": length, "count": count}


def rows(x: np.ndarray) -> np.ndarray:
    """(B, C, T, 1) -> (B, T, C)."""
    return x[..., 0].swapaxes(1, 2)


@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("width", [1, 8, 13])
def test_binary_embedding(tmp_path: Path, width: int, offset: bool) -> None:
    """scale·B (+ offset) of each token's row, for any number of tokens; a scale of 0 keeps the signs of B."""
    net = Builder(1, (1, 1, 1))
    signs, channels = net.floats(7, width), net.floats(1 + offset, 7)
    channels[0, 2] = 0
    tensors = {"bits": bits.pack(signs), "channels": channels}
    model = made(tmp_path, net, net.node("binary_embedding", ["ids"], tensors, width=width), tokens("ids", 4, 7))
    for length in (1, 4, 9):
        ids = net.random.integers(0, 7, (2, length))
        expected = channels[0, ids][..., None] * np.where(signs < 0, np.float32(-1), np.float32(1))[ids]
        if offset:
            expected = expected + channels[1, ids][..., None]
        found = rows(model(ids))
        assert np.array_equal(found, expected) and np.array_equal(np.signbit(found), np.signbit(expected))


@pytest.mark.parametrize("eight_bits", [False, True])
def test_positions(tmp_path: Path, eight_bits: bool) -> None:
    """The first rows of the table, for every column of a map, for as many rows as it has and no more."""
    net = Builder(2, (3, 4, 5))
    weight = net.floats(6, 3)
    stored = {"weight": weight}
    if eight_bits:
        stored = {"weight": net.random.integers(-128, 128, (6, 3)).astype(np.int8), "weight_scale": net.floats(6)}
        weight = stored["weight_scale"][:, None] * stored["weight"].astype(np.float32)
    file_format.write(tmp_path / "net", net.graph(net.node("positions", ["input"], stored)), net.tensors)
    model = load(tmp_path / "net", backend="reference")
    for height in (1, 4, 6):
        x = net.floats(2, 3, height, 5)
        assert np.array_equal(model(x), x + weight[:height].T[:, :, None])
    with pytest.raises(UserError, match="has 6 positions, got 7; give less"):
        model(net.floats(2, 3, 7, 5))


def text_batch(seed: int, *lengths: int, longest: int = 7) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    mask = (np.arange(longest) < np.array(lengths)[:, None]).astype(int)
    ids = random.integers(0, 11, mask.shape) * mask
    return {"ids": ids, "types": random.integers(0, 2, mask.shape) * mask, "mask": mask}


@pytest.mark.parametrize(("of_bits", "soft"), [(True, True), (True, False), (False, True)])
def test_what_fills_up_changes_nothing(tmp_path: Path, of_bits: bool, soft: bool) -> None:
    """A text alone, and filled up to other lengths, to the same bits, at the tokens that are there."""
    file_format.write(tmp_path / "net", *text_net(1, bits_of_attention=of_bits, softmax=soft))
    model = load(tmp_path / "net", backend="reference")
    whole = model(**text_batch(3, 4, 7, 1, longest=9))
    for row, length in enumerate((4, 7, 1)):
        alone = model(**{k: v[row : row + 1, :length] for k, v in text_batch(3, 4, 7, 1, longest=9).items()})
        for name, value in alone.items():
            found = whole[name][row : row + 1]
            assert np.array_equal(found[:, :, :length] if value.ndim == 4 else found, value), name


def attention(
    tmp_path: Path,
    net: Builder,
    op: str,
    shapes: tuple[int, int, int, int],
    tensors: dict[str, np.ndarray],
    **more: Any,
) -> tuple[Model, dict[str, np.ndarray]]:
    """Of three inputs of floats (B, C, Tq, 1), (B, C, Tk, 1) and (B, Cv, Tk, 1) and a mask; with values for a call."""
    queries, keys, width, out = shapes
    sizes = {"q": (width, queries), "k": (width, keys), "v": (out, keys)}
    inputs = [{"name": n, "type": "floats", "shape": [c, t, 1]} for n, (c, t) in sizes.items()]
    name = net.node(op, ["q", "k", "v", "mask"], tensors, **more)
    model = made(tmp_path, net, name, *inputs, tokens("mask", keys, 2))
    values = {name: net.floats(3, c, t, 1) for name, (c, t) in sizes.items()}
    mask = net.random.integers(0, 2, (3, keys))
    mask[:2, keys // 2], mask[2] = 1, 0  # the last sample has no key at all
    return model, {**values, "mask": mask}


@pytest.mark.parametrize(("heads", "queries", "keys"), [(1, 5, 4), (3, 2, 9), (6, 7, 1)])
def test_masked_attention_equals_pytorch(tmp_path: Path, heads: int, queries: int, keys: int) -> None:
    torch = pytest.importorskip("torch")
    model, given = attention(
        tmp_path, Builder(0, (1, 1, 1)), "attention", (queries, keys, 12, 18), {}, heads=heads, scale=0.3
    )
    q, k, v = (
        torch.from_numpy(rows(given[name])).double().unflatten(2, (heads, -1)).transpose(1, 2) for name in "qkv"
    )  # (B, heads, T, C / heads)
    there = torch.from_numpy(given["mask"][:, None, None] != 0)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=there, scale=0.3)
    found = rows(model(**given))
    np.testing.assert_allclose(found[:2], expected.transpose(1, 2).flatten(2).numpy()[:2], rtol=1e-5, atol=1e-6)
    assert not found[2].any()


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize(("heads", "queries", "keys"), [(1, 5, 4), (3, 2, 9), (6, 7, 1)])
def test_binary_attention_by_hand(tmp_path: Path, heads: int, queries: int, keys: int, soft: bool) -> None:
    """One number after the other, as the format's page has it."""
    net = Builder(5, (1, 1, 1))
    level, scale, factor = (0.2, 0.7, -1.3) if soft else (0.4, 0.3, 0.9)
    thresholds = {"query": net.floats(12) / 3, "key": net.floats(12) / 3, "value": net.floats(18) / 3}
    model, given = attention(
        tmp_path,
        net,
        "binary_attention",
        (queries, keys, 12, 18),
        thresholds,
        **{"heads": heads, "scale": scale, "level": level, "factor": factor, "softmax": soft},
    )
    for name, what in zip("qkv", thresholds):
        given[name][0, 2, 0] = thresholds[what][2]  # at the threshold: +1
    signs = [
        np.where(rows(given[name]) >= thresholds[what], 1, -1) for name, what in zip("qkv", thresholds)
    ]  # (B, T, C)
    found, ones = rows(model(**given)), 0
    for b in range(3):
        for head in range(heads):
            q, k, v = (x[b][:, head * x.shape[2] // heads : (head + 1) * x.shape[2] // heads] for x in signs)
            for t in range(queries):
                s = np.array([np.float32(scale) * np.float32(int(q[t] @ k[u])) for u in range(keys)], np.float32)
                there = np.flatnonzero(given["mask"][b])
                p = np.full(keys, -np.inf, np.float32)
                p[there] = softmax(s[there]) if soft and len(there) else s[there]
                chosen = p >= np.float32(level)
                ones += chosen.sum()
                y = np.float32(factor) * (chosen.astype(int) @ v).astype(np.float32)
                at = slice(head * 18 // heads, (head + 1) * 18 // heads)
                assert np.array_equal(found[b, t, at], y)
    assert 0 < ones < 3 * heads * queries * keys and not found[2].any()


def test_a_text_network_by_name(tmp_path: Path) -> None:
    """What a call is told where its tokens do not fit."""
    file_format.write(tmp_path / "net", *text_net())
    model = load(tmp_path / "net", backend="reference")
    good = text_batch(0, 7)
    with pytest.raises(UserError, match="input mask: the token 2 is unknown; tokens must be from 0 to 1"):
        model(**{**good, "mask": good["mask"] + 1})
    with pytest.raises(UserError, match="do not fit"):
        model(**{**good, "types": good["types"][:, :6]})
    with pytest.raises(UserError, match="has 12 positions, got 13"):
        model(**{name: np.zeros((1, 13), int) for name in good})
    ids = model.inputs[0]
    assert ids.words() == "7 word pieces from 0 to 10" and model.inputs[2].words() == "7 tokens from 0 to 1"  # type: ignore[union-attr]
