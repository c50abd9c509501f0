"""Packing of networks of texts: the file computes what PyTorch does, for texts of any length, filled up or not; what cannot be packed is
refused in one line."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import glue_files
import onebit
from networks import BACKENDS
from onebit import models, pack
from onebit.checkpoints import checkpoint
from onebit.checkpoints.checkpoint import Checkpoint
from onebit.cli import main as cli
from onebit.data.inputs import Words
from onebit.errors import UserError
from onebit.methods.elastic import ElasticSign, ElasticStep
from onebit.nn.attention import BinaryAttention
from onebit.nn.embedding import BinaryEmbedding
from onebit.packing.attention import close
from onebit.packing.comparison import terms
from onebit.runtime import format as file_format
from onebit.runtime import load

VOCABULARY = glue_files.VOCABULARY
COUNT = len(VOCABULARY)
SIZES = {"vocabulary": COUNT, "layers": 2, "width": 24, "heads": 3, "hidden": 48, "positions": 16, "dropout": 0.0}
LENGTH = 8
INPUTS = {
    "ids": onebit.Tokens(LENGTH, COUNT, holds="pieces", vocabulary=VOCABULARY),
    "types": onebit.Tokens(LENGTH, 2, holds="types"),
    "mask": onebit.Tokens(LENGTH, 2, holds="mask"),
}


def bert(method, **changes):
    """A small network, its parameters as a training leaves them."""
    torch.manual_seed(0)
    model = models.create("bert", method, **{**SIZES, "classes": 3, **changes}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def batch(lengths, seed=0):
    """ids, types and mask of texts of these lengths, filled up to the longest; int64 (B, T) each."""
    generator, longest = torch.Generator().manual_seed(seed), max(lengths)
    ids = torch.randint(COUNT, (len(lengths), longest), generator=generator)
    places = torch.arange(longest)
    mask = (places < torch.tensor(lengths)[:, None]).long()
    types = (places >= torch.tensor(lengths)[:, None] // 2).long() * mask
    return {"ids": ids * mask, "types": types, "mask": mask}


@torch.no_grad()
def check(model, path, texts=([1], [5, 8, 3], [16, 7])):
    """The file gives the model's outputs. The operators of its nodes."""
    for backend in BACKENDS:
        packed = load(path, backend=backend)
        for seed, lengths in enumerate(texts):
            given = {k: v for k, v in batch(lengths, seed).items() if k in {source.name for source in packed.inputs}}
            expected = model(**given)
            found = packed(**{name: tokens.numpy() for name, tokens in given.items()})
            np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=2e-5)
    return [node["op"] for node in packed.graph["nodes"]]


@pytest.mark.parametrize("method", ["float", "xnor", "bibert", "bit", "adabin", "rebnn", "abcnet"])
def test_every_method_packs(method, tmp_path):
    model = bert(method)
    result = pack(model, tmp_path / "net", inputs=INPUTS, task="text", labels=["a", "b", "c"])
    ops = check(model, tmp_path / "net")
    assert ops.count("positions") == 1 and "constant" not in ops
    words, kind = (
        ("binary_embedding", "binary_attention") if method in ("bibert", "bit") else ("embedding", "attention")
    )
    assert ops[0] == words and ops.count(kind) == 2 and ("relu" in ops) == (method == "bit")
    per_layer = 24 * 24 * 4 + 2 * 24 * 48
    pairs = {"float": 0, "abcnet": result["binary_weights"] // (2 * per_layer)}.get(method, 1)
    extra = COUNT * 24 + 24 * 24 if method in ("bibert", "bit") else 0
    assert (result["binary_weights"] == 2 * per_layer * pairs + extra and pairs != 0) or method == "float"
    packed = load(tmp_path / "net")
    assert packed.inputs == tuple(dataclasses.replace(source, name=name) for name, source in INPUTS.items())
    assert not any(source.fixed for source in packed.inputs) and packed.inputs[0].vocabulary == VOCABULARY
    assert packed.graph["inputs"] == [source.to_dict() for source in packed.inputs]
    with pytest.raises(UserError, match="positions"):
        packed(**{name: np.zeros((1, 17), int) for name in INPUTS})


def test_sums_that_cancel(tmp_path):
    """A network as it was made, whose FFN never reaches alpha: sums of no activation are 0, but for rounding."""
    torch.manual_seed(0)
    model = models.create(
        "bert", "bit", **{**SIZES, "layers": 1, "vocabulary": 73, "positions": 32, "classes": 2}
    ).eval()
    plain = {name: onebit.Tokens(24, 73 if name == "ids" else 2) for name in INPUTS}
    pack(model, tmp_path / "net", inputs=plain)
    assert terms(model.encoder.layer[0].output.dense) > 0 == terms(model.classifier)


def test_a_query_near_the_level_is_not_compared(monkeypatch):
    """Probabilities next to where they turn from 0 to 1, which softmaxes of float32 and float64 put on different sides."""
    layer = BinaryAttention(
        1, 0.0, (ElasticSign(2), ElasticSign(2), ElasticSign(2)), ElasticStep(1, False), True
    ).eval()
    q = torch.tensor([[[1.0, 1.0], [1.0, -1.0]]])
    k = torch.tensor([[[1.0, 1.0], [-1.0, -1.0]]])
    scores = 2 / np.sqrt(2)
    level = 1 / (1 + np.exp(-2 * scores))  # what the first query gives the first key; the second one gives 1/2 to both
    with torch.no_grad():
        layer.probability_binarizer.alpha.fill_(2 * level)
        assert close(layer, q, k, k).tolist() == [[True, False]]
        layer.probability_binarizer.alpha.fill_(2 * level * (1 + 1e-4))
        assert close(layer, q, k, k).tolist() == [[False, False]]
        layer.softmax = False
        assert close(layer, q, k, k).tolist() == [[False, False]]


def test_int8_rows_and_places(tmp_path):
    """Words, types, places and the classifier in 8 bits, each row with its scale."""
    model = bert("adabin")
    result = pack(model, tmp_path / "net", inputs=INPUTS, int8=True)
    assert result["int8_weights"] == 24 * (COUNT + 16 + 2 + 3 + 24)  # those of the pooler, too
    tensors = file_format.read(tmp_path / "net")[1]
    for what in ("word_embeddings", "token_type_embeddings"):
        row = getattr(model.embeddings, what).weight[1].detach().numpy()
        stored = tensors[f"embeddings.{what}.weight"][1] * tensors[f"embeddings.{what}.weight_scale"][1]
        np.testing.assert_allclose(stored, row, atol=np.abs(row).max() / 253)
    check_int8 = load(tmp_path / "net", backend="reference")
    given = batch([7, 5])
    with torch.no_grad():
        expected = model(**given).numpy()
    assert np.abs(check_int8(**{k: v.numpy() for k, v in given.items()}) - expected).max() < np.abs(expected).max()


def test_words_alone(tmp_path):
    """Types that are all 0 are a constant row, for texts of any length; no mask, nothing is left out."""
    model = bert("bit")
    pack(model, tmp_path / "net", inputs={"ids": onebit.Tokens(LENGTH, COUNT)})
    packed = load(tmp_path / "net", backend="reference")
    ops = [node["op"] for node in packed.graph["nodes"]]
    assert (
        "constant" not in ops
        and ops.count("embedding") == 0
        and ops.count("affine") == 1
        and not packed.inputs[0].fixed
    )
    ids = batch([11])["ids"]
    with torch.no_grad():
        np.testing.assert_allclose(packed(ids.numpy()), model(ids).numpy(), rtol=1e-4, atol=2e-5)


class Rows(nn.Module):
    """A user's own: words, places, attention with a mask, the mean."""

    def __init__(self, places, attend):
        super().__init__()
        torch.manual_seed(1)
        self.words, self.places = nn.Embedding(30, 12), nn.Embedding(20, 12)
        self.table = nn.Parameter(torch.randn(1, 20, 12))
        self.register_buffer("position_ids", torch.arange(20)[None])
        self.q, self.k, self.v = (nn.Linear(12, 12) for _ in range(3))
        self.chosen, self.attend = places, attend

    def forward(self, ids, mask):
        x = self.words(ids)
        x = x + self.chosen(self, ids.shape[1])
        q, k, v = (layer(x).unflatten(-1, (3, 4)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return self.attend(q, k, v, mask).transpose(1, 2).flatten(2)[:, 0]


def heeding(make):
    return lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, attn_mask=make(mask))


PLACES = {
    "arange": lambda n, t: n.places(torch.arange(t)),
    "a part of a buffer": lambda n, t: n.places(n.position_ids[:, :t]),
    "a part of a parameter": lambda n, t: n.table[:, :t],
    "a table without the batch": lambda n, t: n.table[0][:t],
    "seen in another way": lambda n, t: F.dropout(
        n.places(torch.arange(t)).unsqueeze(0).expand(2, -1, -1), training=False
    )[:1],
}
MASKS = {
    "not 0": lambda mask: (mask != 0)[:, None, None],
    "1": lambda mask: mask.eq(1).unsqueeze(1).unsqueeze(1),
    "bool": lambda mask: mask[:, None, None, :].bool(),
    "to bool": lambda mask: mask.to(torch.bool).view(len(mask), 1, 1, -1),
    "not hidden": lambda mask: ~(mask == 0)[:, None, None],
    "above 0": lambda mask: (mask > 0)[:, None, None].expand(-1, 1, mask.shape[1], -1),
}


@pytest.mark.parametrize("what", [*PLACES, *MASKS])
def test_own_models(what, tmp_path):
    """Places by any of these, and keys that a mask leaves out: one operator each, for texts of any length."""
    model = Rows(PLACES.get(what, PLACES["arange"]), heeding(MASKS.get(what, MASKS["not 0"]))).eval()
    inputs = {"ids": onebit.Tokens(6, 30), "mask": onebit.Tokens(6, 2)}
    pack(model, tmp_path / "net", inputs=inputs)
    packed = load(tmp_path / "net", backend="reference")
    ops = [node["op"] for node in packed.graph["nodes"]]
    assert ops.count("positions") == 1 and "constant" not in ops and not any(source.fixed for source in packed.inputs)
    assert [len(node["inputs"]) for node in packed.graph["nodes"] if node["op"] == "attention"] == [4]
    for lengths in ([6, 2], [20, 1], [3]):
        given = {k: v % 30 for k, v in batch(lengths).items() if k != "types"}
        with torch.no_grad():
            expected = model(**given).numpy()
        np.testing.assert_allclose(packed(**{k: v.numpy() for k, v in given.items()}), expected, rtol=1e-4, atol=1e-5)


def test_places_that_are_no_first_rows_stay_constants(tmp_path):
    """Rows from the second on: a constant, and one length alone."""
    model = Rows(lambda n, t: n.places(torch.arange(t) + 1), heeding(MASKS["not 0"])).eval()
    pack(model, tmp_path / "net", inputs={"ids": onebit.Tokens(6, 30), "mask": onebit.Tokens(6, 2)})
    packed = load(tmp_path / "net", backend="reference")
    ops = [node["op"] for node in packed.graph["nodes"]]
    assert "positions" not in ops and ops.count("constant") == 1
    with pytest.raises(UserError, match="do not fit"):
        packed(ids=np.zeros((1, 5), int), mask=np.ones((1, 5), int))


def test_sizes_of_one_text_change_together(tmp_path):
    """A network that computes something else for other lengths takes one length of all its tokens."""
    model = Rows(lambda n, t: n.places(torch.arange(t)) * (t / 6), heeding(MASKS["not 0"])).eval()
    plain = {"ids": onebit.Tokens(6, 30), "mask": onebit.Tokens(6, 2)}
    model.chosen = lambda n, t: n.table[0, 5] * t
    pack(model, tmp_path / "net", inputs=plain)
    assert [source["fixed"] for source in load(tmp_path / "net", backend="reference").graph["inputs"]] == [True, True]


def probability(binarizer):
    """BiT's network whose probabilities are made by another binarizer."""
    model = bert("bit")
    model.encoder.layer[0].attention.self.products.probability_binarizer = binarizer(3)
    return model


def wrong_embedding():
    model = bert("bit")

    class Twice(BinaryEmbedding):
        def forward(self, ids):
            return 2 * super().forward(ids)

    model.embeddings.word_embeddings.__class__ = Twice
    return model


def diverged(what):
    model = bert("bit")
    model.get_parameter(what).data.view(-1)[0] = torch.nan
    return model


OWN = {"ids": onebit.Tokens(6, 30), "mask": onebit.Tokens(6, 2)}
TEXT = INPUTS
REFUSED = {
    "an additive mask": (
        lambda: Rows(PLACES["arange"], heeding(lambda m: (1.0 - m[:, None, None].float()) * -1e9)),
        OWN,
        "tokens have no operator in the format",
    ),
    "a mask of hidden keys": (
        lambda: Rows(PLACES["arange"], heeding(lambda m: (m == 0)[:, None, None])),
        OWN,
        "which has mask != 0 of an input onebit.Tokens(T, 2)",
    ),
    "a mask of queries": (
        lambda: Rows(PLACES["arange"], heeding(lambda m: (m != 0)[:, None, :, None])),
        OWN,
        "the same for all heads and queries",
    ),
    "a constant mask": (
        lambda: Rows(PLACES["arange"], heeding(lambda m: torch.ones(1, 1, 6, 6).bool())),
        {"ids": OWN["ids"], "mask": OWN["mask"]},
        "with such a mask has no operator",
    ),
    "a mask of numbers": (
        lambda: Rows(PLACES["arange"], heeding(lambda m: (m != 0)[:, None, None].float())),
        OWN,
        "makes numbers of a mask",
    ),
    "a mask of three values": (
        lambda: Rows(PLACES["arange"], heeding(MASKS["not 0"])),
        {**OWN, "mask": onebit.Tokens(6, 3)},
        "tokens that are 0 or 1",
    ),
    "a comparison of nothing": (
        lambda: Rows(PLACES["arange"], heeding(lambda m: (m > 1)[:, None, None])),
        OWN,
        "is the same of 0 and 1",
    ),
    "a part of a mask": (
        lambda: Rows(PLACES["arange"], heeding(lambda m: (m != 0)[:, None, None, [0] * 6])),
        OWN,
        "picks elements by a tensor or a list",
    ),
    "a part of tokens": (
        lambda: Rows(PLACES["arange"], heeding(lambda m: (m[:, :3] != 0).repeat(1, 2)[:, None, None])),
        OWN,
        "takes a part of tokens",
    ),
    "a comparison of values": (
        lambda: Rows(lambda n, t: n.k(n.words(torch.zeros(1, t).long())) > 0, heeding(MASKS["not 0"])),
        {"ids": OWN["ids"], "mask": onebit.Tokens(6, 4)},
        "tokens that are 0 or 1",
    ),
    "probabilities of two signs": (lambda: probability(ElasticSign), TEXT, "binarizer of probability (ElasticSign)"),
    "an embedding of another class": (wrong_embedding, TEXT, "its class Twice changes what its base computes"),
    "words that are not finite": (
        lambda: diverged("embeddings.word_embeddings.weight"),
        TEXT,
        "word_embeddings: a weight is not finite",
    ),
    "a vocabulary of another size": (
        lambda: bert("bit"),
        {**TEXT, "ids": dataclasses.replace(TEXT["ids"], vocabulary=VOCABULARY[:-1])},
        f"has {COUNT - 1} pieces for {COUNT} tokens",
    ),
    "no vocabulary": (lambda: bert("bit"), {**TEXT, "ids": onebit.Tokens(8, COUNT, holds="pieces")}, "has 0 pieces"),
    "a vocabulary of numbers": (
        lambda: bert("bit"),
        {**TEXT, "ids": onebit.Tokens(8, COUNT, holds="pieces", vocabulary=tuple(range(COUNT)))},
        "has the piece 0, which is no line of text",
    ),
    "a piece of two lines": (
        lambda: bert("bit"),
        {**TEXT, "ids": dataclasses.replace(TEXT["ids"], vocabulary=(*VOCABULARY[:-1], "a\nb"))},
        "which is no line of text",
    ),
    "half a character": (
        lambda: bert("bit"),
        {**TEXT, "ids": dataclasses.replace(TEXT["ids"], vocabulary=(*VOCABULARY[:-1], "\ud800"))},
        "which is no line of text",
    ),
    "a vocabulary of images": (
        lambda: bert("bit"),
        {**TEXT, "mask": onebit.Tokens(8, 2, vocabulary=("a", "b"))},
        'has a vocabulary; give holds="pieces"',
    ),
    "what nobody knows": (lambda: bert("bit"), {**TEXT, "mask": onebit.Tokens(8, 2, holds="masks")}, "must be one of"),
    "a mask of 3": (lambda: bert("bit"), {**TEXT, "mask": onebit.Tokens(8, 3, holds="mask")}, "count must be 2"),
    "a mask without pieces": (
        lambda: bert("bit"),
        {"ids": onebit.Tokens(8, COUNT), "mask": TEXT["mask"]},
        'but none holds "pieces"',
    ),
    "two masks": (
        lambda: bert("bit"),
        {**TEXT, "types": onebit.Tokens(8, 2, holds="mask")},
        "two inputs hold 'mask'",
    ),
    "two lengths": (
        lambda: bert("bit"),
        {**TEXT, "mask": onebit.Tokens(9, 2, holds="mask")},
        "must have the same length",
    ),
    "lowercase a text": (
        lambda: bert("bit"),
        {**TEXT, "ids": dataclasses.replace(TEXT["ids"], lowercase="yes")},
        "lowercase must be true or false",
    ),
    "longer than its positions": (
        lambda: bert("bit"),
        {name: dataclasses.replace(source, length=17) for name, source in TEXT.items()},
        "17 tokens, this network has 16 positions",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(what, tmp_path):
    make, inputs, says = REFUSED[what]
    with pytest.raises(UserError) as caught:
        pack(make().eval(), tmp_path / "net", inputs=inputs)
    message = str(caught.value)
    assert says in message and "\n" not in message and len(message) < 500, message
    assert not (tmp_path / "net").exists()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """best.ckpt of a float parent that tells good from bad, and of students of BiT and BiBERT, by method."""
    pytest.importorskip("tokenizers", reason="pip install 'onebit[text]'")
    from onebit.training.recipe import Recipe, read
    from onebit.training.train import train

    root = glue_files.write(tmp_path_factory.mktemp("glue") / "glue")
    small = {
        "model": "bert",
        "arguments": {
            **{k: v for k, v in SIZES.items() if k != "vocabulary"},
            "positions": 48,
            "width": 32,
            "heads": 2,
        },
        "length": 32,
        "batch_size": 8,
        "lr": 1e-2,
        "warmup_epochs": 0.0,
        "precision": "32-true",
        "threads": 1,
        "deterministic": True,
        "root": str(root),
    }
    found = {"root": root}
    for method, epochs in (("float", 10), ("bit", 12), ("bibert", 12)):
        taught = {} if method == "float" else {"initial": str(found["float"]), "teacher": str(found["float"])}
        out = tmp_path_factory.mktemp(method)
        recipe = {**read(f"glue-minilm-{method}"), **small, **taught, "epochs": epochs, "out": str(out)}
        train(Recipe(**recipe), quiet=True)
        found[method] = out / "best.ckpt"
    return found


@pytest.mark.parametrize("method", ["float", "bit", "bibert"])
def test_checkpoints_of_texts(method, runs, tmp_path, capsys):
    """`onebit pack` of a checkpoint: the file answers as the network, knows its words, labels, scores and training."""
    out = tmp_path / "text.safetensors"
    assert cli.main(["pack", str(runs[method]), "--out", str(out)]) == 0
    assert "times smaller than float32" in capsys.readouterr().out
    saved, packed = checkpoint.load(runs[method]), load(out)
    ids, types, mask = packed.inputs
    assert (ids.holds, types.holds, mask.holds) == ("pieces", "types", "mask") and ids.lowercase
    assert ids.vocabulary == VOCABULARY and ids.length == types.length == mask.length == 32
    assert packed.labels == ("negative", "positive") and packed.task.scores == saved.scores
    assert packed.task.name == "text" and packed.task.answer == "one" and packed.method == method
    assert packed.training["glue"] == "sst2" and packed.training["length"] == 32
    given, model = batch([12, 3, 9, 5, 30], seed=3), saved.network()
    with torch.no_grad():
        expected = model(**given).numpy()
    found = packed(**{name: tokens.numpy() for name, tokens in given.items()})
    assert np.array_equal(found.argmax(1), expected.argmax(1))
    alone = [packed(**{k: v[i : i + 1, :n].numpy() for k, v in given.items()}) for i, n in enumerate([12, 3, 9, 5, 30])]
    np.testing.assert_allclose(np.concatenate(alone), found, rtol=1e-4, atol=1e-5)  # what fills up changes nothing
    eight = tmp_path / "eight.safetensors"
    assert cli.main(["pack", str(runs[method]), "--int8", "--out", str(eight)]) == 0
    assert eight.stat().st_size < out.stat().st_size


def test_a_quantity_packs(tmp_path):
    """Of one label, as STS-B has: its values are the answer."""
    words = Words(VOCABULARY, 8, lowercase=False)
    model = bert("bit", classes=1)
    config = {"name": "bert", "method": "bit", **SIZES, "classes": 1}
    saved = Checkpoint(
        config, model.state_dict(), {"name": "text", "labels": ["similarity"]}, words, scores={"pearson": 80.5}
    )
    checkpoint.save(tmp_path / "net.ckpt", saved)
    assert cli.main(["pack", str(tmp_path / "net.ckpt"), "--out", str(tmp_path / "net")]) == 0
    packed = load(tmp_path / "net", backend="reference")
    assert packed.task.answer == "values" and packed.labels == ("similarity",) and not packed.inputs[0].lowercase
    assert packed.task.scores == {"pearson": 80.5}


def test_a_checkpoint_of_no_vocabulary_of_bert_is_refused(tmp_path, capsys):
    words = Words((*(word for word in VOCABULARY if word != "[SEP]"), "##z9"), 8)
    config = {"name": "bert", "method": "bit", **SIZES, "classes": 2}
    saved = Checkpoint(config, bert("bit", classes=2).state_dict(), {"name": "text", "labels": ["a", "b"]}, words)
    checkpoint.save(tmp_path / "net.ckpt", saved)
    assert cli.main(["pack", str(tmp_path / "net.ckpt"), "--out", str(tmp_path / "net")]) == 2
    message = capsys.readouterr().err
    assert "lacks [SEP]" in message and message.count("\n") == 1
