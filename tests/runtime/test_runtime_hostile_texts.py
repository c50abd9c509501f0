"""Files that must be refused for what is wrong with tokens of texts, their vocabulary, or an operator that texts brought."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nets import text_net
from onebit.runtime import format as file_format
from onebit.runtime.vocabulary import encoded
from test_runtime_hostile import Parts, accept, of, poke, refuse_changed, set_in, tensor
from test_runtime_hostile_several import entry, more, raw, without

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "##b", "film", "Ärger", "gripping", "##ing", "é"]  # of `text_net`


def words(*pieces: str, count: int | None = None) -> Callable[[Parts], Any]:
    """Another vocabulary, behind the pieces of `WORDS` as far as there is place."""
    return spelled(encoded([*WORDS[: len(WORDS) - len(pieces)], *pieces] if count is None else pieces).tobytes())


def spelled(data: bytes) -> Callable[[Parts], Any]:
    return lambda source: source[1].update({"ids.vocabulary": np.frombuffer(data, np.uint8)})


def rename(what: str, to: str) -> Callable[[Parts], Any]:
    return lambda source: source[1].update({to: source[1].pop(what)})


GOOD = encoded(WORDS).tobytes()
MUTATIONS: dict[str, tuple[Callable[[Parts], Any], str]] = {
    # of inputs
    "holds nothing": (entry("inputs", 1, "holds", ""), "holds must be one of pieces, types, mask"),
    "holds null": (entry("inputs", 1, "holds", None), "holds must be one of pieces, types, mask"),
    "holds a list": (entry("inputs", 1, "holds", ["types"]), "holds must be one of pieces, types, mask"),
    "holds what nobody knows": (entry("inputs", 1, "holds", "places"), "holds must be one of pieces, types, mask"),
    "pieces without lowercase": (without("inputs", 0, "lowercase"), "lacks lowercase"),
    "lowercase null": (entry("inputs", 0, "lowercase", None), "lowercase must be true or false"),
    "lowercase a number": (entry("inputs", 0, "lowercase", 1), "lowercase must be true or false"),
    "types with lowercase": (entry("inputs", 1, "lowercase", True), "lowercase"),
    "tokens with lowercase": (
        lambda p: (p[0]["inputs"][2].pop("holds"), p[0]["inputs"][2].update(lowercase=True)),
        "lowercase",
    ),
    "a vocabulary in the graph": (entry("inputs", 0, "vocabulary", WORDS), "unknown key 'vocabulary'"),
    "types of three": (entry("inputs", 1, "count", 3), "count must be 2"),
    "a mask of one": (entry("inputs", 2, "count", 1), "count must be 2"),
    "two masks": (entry("inputs", 1, "holds", "mask"), "two inputs hold '?mask"),
    "two of pieces": (
        lambda p: p[0]["inputs"][1].update(holds="pieces", lowercase=False),
        "two inputs hold '?pieces",
    ),
    "types without pieces": (
        lambda p: (without("inputs", 0, "holds")(p), without("inputs", 0, "lowercase")(p), p[1].pop("ids.vocabulary")),
        "but none holds '?pieces",
    ),
    "another length": (entry("inputs", 2, "length", 8), "must have the same length|needs a mask of 7 tokens"),
    # of the vocabulary
    "no vocabulary": (lambda p: p[1].pop("ids.vocabulary"), "ids.vocabulary is missing"),
    "a vocabulary of types": (
        lambda p: p[1].update({"types.vocabulary": encoded(["a", "b"])}),
        "types.vocabulary' belongs to no node",
    ),
    "a vocabulary of a node": (rename("ids.vocabulary", "linear14.vocabulary"), "ids.vocabulary is missing"),
    "a vocabulary of floats": (tensor("ids.vocabulary", lambda a: a.astype(np.float32)), "must be U8"),
    "a vocabulary of I8": (tensor("ids.vocabulary", lambda a: a.view(np.int8)), "must be U8"),
    "a vocabulary of two axes": (tensor("ids.vocabulary", lambda a: a[None]), r"shape \(any\)|of one axis"),
    "broken UTF-8": (spelled(GOOD.replace(b"gripping", b"grip\xffing")), "ids.vocabulary is not valid UTF-8"),
    "half a character": (spelled(GOOD.replace(b"gripping", b"grip\xed\xa0\x80")), "not valid UTF-8"),
    "a character too long": (spelled(GOOD.replace(b"gripping", b"grip\xc0\xaf")), "not valid UTF-8"),
    "a character cut off": (spelled(GOOD[:-2] + b"\n"), "not valid UTF-8"),
    "no last line feed": (spelled(GOOD[:-1]), "must end with a line feed"),
    "a line feed alone": (spelled(b"\n"), "has 1 pieces for 11 tokens|an empty piece"),
    "too few pieces": (words(*WORDS[:-1], count=10), "has 10 pieces for 11 tokens"),
    "too many pieces": (words(*WORDS, "more", count=12), "has 12 pieces for 11 tokens"),
    "another count": (
        lambda p: (
            (entry("inputs", 0, "count", 10)(p), tensor("binary_embedding0.bits", lambda a: a[:10])(p))
            and tensor("binary_embedding0.channels", lambda a: a[:, :10])(p)
        ),
        "has 11 pieces for 10 tokens",
    ),
    "an empty piece": (words(""), "has an empty piece"),
    "a piece twice": (words("film"), "has the piece 'film' twice"),
    "a piece of 1001 characters": (words("é" * 1001), "of 1001 characters, at most 1000"),
    "no unknown": (spelled(GOOD.replace(b"[UNK]", b"[unk]")), r"lacks \[UNK\]"),
    "no special pieces": (spelled(GOOD.replace(b"[", b"<")), r"lacks \[UNK\]"),
    # of binary_embedding
    "rows of nodes": (of("binary_embedding", inputs=["add2"]), "cyclic or unknown"),
    "rows without a width": (of("binary_embedding", width=None), "lacks width"),
    "rows of width 0": (of("binary_embedding", width=0), "width must be an integer from 1 to 16777216"),
    "rows of another width": (of("binary_embedding", width=20), r"shape \(11, 3\)"),
    "bits of floats": (tensor("binary_embedding0.bits", lambda a: a.astype(np.float32)), "must be U8, got F32"),
    "bits of other rows": (tensor("binary_embedding0.bits", lambda a: a[:9]), r"shape \(11, 2\)"),
    "rows of three scales": (tensor("binary_embedding0.channels", lambda a: np.repeat(a, 3, 0)), "1 row"),
    "scales of other rows": (tensor("binary_embedding0.channels", lambda a: a[:, :9]), r"shape \(any, 11\)"),
    "scales that are NaN": (poke("binary_embedding0.channels", np.nan), "contains NaN"),
    "rows with a bias": (lambda p: p[1].update({"binary_embedding0.bias": np.zeros(12, np.float32)}), "belongs to no"),
    "rows of a map": (of("binary_embedding", inputs=["ids", "ids"]), r"takes 1 input\(s\)"),
    # of positions
    "places of tokens": (of("positions", inputs=["ids"]), "reads the tokens 'ids'"),
    "places of a vector": (of("positions", inputs=["flatten12"]), "cyclic or unknown"),
    "places of another width": (tensor("positions3.weight", lambda a: a[:, :11]), r"shape \(any, 12\)"),
    "too few places": (lambda p: shortened(p, 6), "has 6 positions"),
    "too many places": (lambda p: shortened(p, 2**15 + 1), "32769 positions, at most 32768"),
    "places with an attribute": (of("positions", length=12), "unknown key 'length'"),
    # of attention with a mask, and of bits
    "a mask of values": (
        of("binary_attention", inputs=["conv5", "conv6", "conv7", "conv7"]),
        "reads an input of tokens",
    ),
    "a mask of pieces": (
        lambda p: of("binary_attention", inputs=["conv5", "conv6", "conv7", "ids"])(p) or p[0]["inputs"].pop(),
        "needs a mask of 7 tokens from 0 to 1, got 7 from 0 to 10",
    ),
    "keys of tokens": (of("binary_attention", inputs=["conv5", "mask", "conv7", "mask"]), "reads the tokens 'mask'"),
    "five inputs": (of("binary_attention", inputs=["conv5"] * 3 + ["mask"] * 2), "takes 3 to 4 inputs, got"),
    "two inputs": (of("binary_attention", inputs=["conv5"] * 2), "takes 3 to 4 inputs, got"),
    "attention without a level": (of("binary_attention", level=None), "lacks level"),
    "attention without a factor": (of("binary_attention", factor=None), "lacks factor"),
    "a level of text": (of("binary_attention", level="mean"), "level must be a finite number"),
    "a factor too large": (of("binary_attention", factor=1e39), "factor must be a finite number"),
    "softmax a number": (of("binary_attention", softmax=1), "softmax must be true or false"),
    "softmax null": (set_in("nodes", 8, "softmax", to=None), "softmax must be true or false"),
    "heads that do not divide": (of("binary_attention", heads=5), "heads 5 must divide 12 and 12 channels"),
    "no thresholds": (lambda p: p[1].pop("binary_attention8.key"), "binary_attention8.key is missing"),
    "thresholds of another width": (tensor("binary_attention8.value", lambda a: a[:6]), r"shape \(12\)"),
    "thresholds that are infinite": (poke("binary_attention8.query", np.inf), "contains NaN or infinity"),
    "another threshold": (
        rename("binary_attention8.query", "binary_attention8.q"),
        "binary_attention8.query is missing",
    ),
    "an idle input": (
        more("inputs", {"name": "x", "type": "tokens", "length": 7, "count": 2}),
        "no node reads the input 'x'",
    ),
}


def shortened(source: Parts, rows: int) -> None:
    """The places in float32, so many of them."""
    source[1].pop("positions3.weight_scale", None)
    source[1]["positions3.weight"] = np.zeros((rows, 12), np.float32)


@pytest.mark.parametrize("name", MUTATIONS)
def test_hostile_graphs(tmp_path: Path, name: str) -> None:
    refuse_changed(tmp_path, raw, text_net(), MUTATIONS[name])


def test_bits_past_the_end(tmp_path: Path) -> None:
    """Of 12 weights in 16 bits."""
    change = tensor("binary_embedding0.bits", lambda a: a | np.array([0, 16], np.uint8))
    refuse_changed(tmp_path, raw, text_net(), (change, "bits set past"))


def test_masked_attention_of_a_mask_of_another_length(tmp_path: Path) -> None:
    """Its tokens need not hold a mask: any of 0 and 1, as many as there are keys."""
    source = text_net(bits_of_attention=False)
    del source[0]["inputs"][2]["holds"]
    accept(tmp_path, raw(*source))
    refuse_changed(
        tmp_path, raw, source, (entry("inputs", 2, "length", 6), "needs a mask of 7 tokens from 0 to 1, got 6")
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_unchanged_file_is_accepted(tmp_path: Path, seed: int) -> None:
    graph, tensors = text_net(seed, bits_of_attention=seed != 3, softmax=seed < 2)
    accept(tmp_path, raw(graph, tensors))
    for change in (
        lambda g: g["inputs"][0].update(lowercase=False, fixed=True),
        lambda g: [node.update(softmax=True) for node in g["nodes"] if node["op"] == "binary_attention"],
    ):
        change(graph)
        accept(tmp_path, raw(graph, tensors))


def test_the_words_of_a_file(tmp_path: Path) -> None:
    """Known to its graph, not part of the graph's JSON; pieces may have any character but the line feed."""
    graph, tensors = text_net()
    odd = [*WORDS[:-3], "\r", "a\x00b", "\u2028"]
    tensors["ids.vocabulary"] = encoded(odd)
    (tmp_path / "net").write_bytes(raw(graph, tensors))
    found, arrays = file_format.read(tmp_path / "net")
    assert found.inputs[0].vocabulary == tuple(odd) and found.inputs[0].holds == "pieces"  # type: ignore[union-attr]
    data = file_format.encode(found, arrays)
    assert file_format.decode(data)[0] == found
    assert "vocabulary" not in found.inputs[0].to_dict() and "Ärger" not in repr(found.inputs[0])
