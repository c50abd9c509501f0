"""BERT: the library's outputs by the library's files, binary layers wherever a method puts them, and padding that changes nothing."""

import json

import pytest
import torch
from torch import nn

from onebit import models
from onebit.checkpoints.initial import initialize_from
from onebit.errors import UserError
from onebit.models.bert_files import translated
from onebit.models.thresholds import start_thresholds
from onebit.nn.attention import Attention, BinaryAttention
from onebit.nn.binarizer import ActivationBinarizer
from onebit.nn.embedding import BinaryEmbedding
from onebit.nn.layers import BinaryLinear, binary_layers
from onebit.nn.nonlinearities import ClippedGELU

SIZES = {"vocabulary": 40, "layers": 2, "width": 24, "heads": 3, "hidden": 48, "positions": 16, "dropout": 0.0}
METHODS = ("float", "bnn", "xnor", "bibert", "bit", "adabin", "rebnn", "abcnet")


def small(method="float", **changes):
    torch.manual_seed(0)
    structure = changes.pop("structure", {})
    return models.create("bert", method, structure=structure, **{**SIZES, "classes": 3, **changes}).eval()


def batch(*lengths, seed=0):
    """int64 (B, 3, T) of random words, the last third of each text its second one."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.zeros(len(lengths), 3, max(lengths), dtype=torch.int64)
    for row, length in zip(inputs, lengths):
        row[0, :length] = torch.randint(1, 40, (length,), generator=generator)
        row[1, 2 * length // 3 : length] = 1
        row[2, :length] = 1
    return inputs


@pytest.fixture(scope="module")
def library():
    """A small network of transformers, not far from linear only at its start: its weights are ten times as large as new ones."""
    transformers = pytest.importorskip("transformers", reason="pip install transformers")
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=48,
        max_position_embeddings=16,
        num_labels=3,
        initializer_range=0.2,
    )
    config._attn_implementation = "eager"
    return transformers.BertForSequenceClassification(config).eval()


@torch.no_grad()
def test_outputs_are_those_of_transformers(library, tmp_path):
    path = tmp_path / "classifier.pt"
    torch.save(library.state_dict(), path)
    model = small()
    assert initialize_from(model, path).head == []
    inputs = batch(12, 7, 3, 16)
    theirs = library(inputs[:, 0], inputs[:, 2], inputs[:, 1], output_hidden_states=True)
    ours = model.states(inputs)
    torch.testing.assert_close(ours.outputs, theirs.logits, atol=1e-5, rtol=0)
    for mine, other in zip(ours.hidden, theirs.hidden_states, strict=True):
        torch.testing.assert_close(mine[ours.there], other[ours.there], atol=1e-5, rtol=0)
    assert torch.equal(model(inputs), ours.outputs)
    assert torch.equal(model(inputs[:, 0], inputs[:, 1], inputs[:, 2]), ours.outputs)
    alone = library(inputs[:, 0]).logits
    torch.testing.assert_close(model(inputs[:, 0]), alone, atol=1e-5, rtol=0)


def test_files_without_a_classifier_or_with_another_start_it_anew(library, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    body = {
        name.removeprefix("bert."): value for name, value in library.state_dict().items() if name.startswith("bert.")
    }
    body["embeddings.position_ids"] = torch.arange(16)[None]
    save_file(body, path)
    model = small()
    before = model.classifier.weight.clone()
    start = initialize_from(model, path)
    assert start.head == ["classifier.weight", "classifier.bias"] and start.fresh == []
    assert torch.equal(model.classifier.weight, before)
    assert torch.equal(model.encoder.layer[1].output.dense.weight, body["encoder.layer.1.output.dense.weight"])
    assert start.lines(path, 3) == [f"{path} has no last layer: the layer classifier starts anew"]
    save_file({**body, "classifier.weight": torch.zeros(2, 24), "classifier.bias": torch.zeros(2)}, path)
    assert initialize_from(small(), path).classes == 2


def test_older_names_are_todays():
    state = {
        "bert.embeddings.LayerNorm.gamma": 1,
        "module.bert.encoder.layer.0.output.LayerNorm.beta": 2,
        "cls.predictions.bias": 3,
    }
    tensors = {name: torch.tensor(float(value)) for name, value in state.items()}
    assert {name: int(value) for name, value in translated(tensors).items()} == {
        "embeddings.LayerNorm.weight": 1,
        "encoder.layer.0.output.LayerNorm.bias": 2,
    }


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda s: s | {"encoder.layer.2.output.dense.bias": torch.zeros(24)},
            "'encoder.layer.2.output.dense.bias' has no place in",
        ),
        (
            lambda s: {k: v for k, v in s.items() if k != "pooler.dense.bias"},
            "'pooler.dense.bias' of this network is missing",
        ),
        (
            lambda s: s | {"embeddings.word_embeddings.weight": torch.zeros(50, 24)},
            r"has shape \(50, 24\), that of this network \(40, 24\)",
        ),
    ],
    ids=["more layers", "a missing tensor", "another vocabulary"],
)
def test_files_of_other_networks_are_refused(library, change, says, tmp_path):
    state = change({name.removeprefix("bert."): value for name, value in library.state_dict().items()})
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(UserError, match=f"{says}.*it holds weights of another network than bert"):
        initialize_from(small(), tmp_path / "other.pt")


@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_texts_that_fill_up_a_batch_change_nothing(method):
    """Whatever the method; and evaluation is what training computes, but for rounding."""
    model = small(method)
    start_thresholds(model, batch(16, 9, 5))
    inputs = batch(16, 9, 5, 2, seed=1)
    together = model(inputs)
    for i, length in enumerate((16, 9, 5, 2)):
        torch.testing.assert_close(model(inputs[i : i + 1, :, :length])[0], together[i], atol=2e-5, rtol=0)
    assert together.isfinite().all() and (together[0] - together[1]).abs().max() > 1e-3


@pytest.mark.parametrize("method", METHODS[1:])
def test_every_linear_layer_of_the_encoder_is_binary(method):
    model = small(method)
    names = [name for name, _ in binary_layers(model)]
    in_encoder = [
        name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name.startswith("encoder")
    ]
    binary = method in ("bibert", "bit")
    assert len(in_encoder) == 12 and names == in_encoder + ["pooler.dense"] * binary
    assert isinstance(model.embeddings.word_embeddings, BinaryEmbedding) == binary
    kinds = {type(layer.attention.self.products) for layer in model.encoder.layer}
    assert kinds == {BinaryAttention if binary else Attention}
    activations = {type(layer.intermediate.activation) for layer in model.encoder.layer}
    assert activations == {nn.ReLU if method == "bit" else ClippedGELU}
    assert not isinstance(model.classifier, BinaryLinear)


def test_structure_says_what_else_is_binary():
    model = small(
        "bit", structure={"attention": "float", "embedding": "float", "pooler": "float", "nonlinearity": "gelu"}
    )
    assert type(model.encoder.layer[0].attention.self.products) is Attention
    assert type(model.embeddings.word_embeddings) is nn.Embedding and type(model.pooler.dense) is nn.Linear
    assert isinstance(small("adabin", structure={"pooler": "binary"}).pooler.dense, BinaryLinear)
    assert small("reactnet", structure={"nonlinearity": "rprelu"})(batch(4)).shape == (1, 3)
    step = small("bit", binarize="activations")
    assert type(step.embeddings.word_embeddings) is nn.Embedding
    assert all(layer.weight_binarizer is None for _, layer in binary_layers(step))
    for key in ("attention", "embedding"):
        with pytest.raises(UserError, match=f"{key} = 'binary', but method 'adabin' has no binary {key}"):
            small("adabin", structure={key: "binary"})
    with pytest.raises(UserError, match="attention = 'half' is unknown"):
        small("bit", structure={"attention": "half"})


@pytest.mark.parametrize("method", ("bibert", "bit"))
def test_a_checkpoint_of_the_parent_starts_a_binary_network(method, tmp_path):
    """Binarizers that it lacks start anew."""
    from onebit.checkpoints.checkpoint import Checkpoint, load, save

    parent = small()
    task = {"name": "text", "labels": ["a", "b", "c"]}
    save(tmp_path / "parent.ckpt", Checkpoint(parent.config, parent.state_dict(), task))
    model = small(method)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    start = initialize_from(model, tmp_path / "parent.ckpt")
    assert all("_binarizer." in name for name in start.fresh) and bool(start.fresh) == (method == "bit")
    assert torch.equal(model.encoder.layer[0].output.dense.weight, parent.encoder.layer[0].output.dense.weight)
    again = small(method)
    save(tmp_path / "binary.ckpt", Checkpoint(again.config, again.state_dict(), task))
    assert torch.equal(load(tmp_path / "binary.ckpt").network()(batch(5)), again(batch(5)))
    assert initialize_from(small(method), tmp_path / "binary.ckpt").fresh == []


def test_a_batch_starts_what_activations_learn():
    model = small("bit")
    start_thresholds(model, batch(16, 9, 5))
    alphas = [module.alpha.item() for module in model.modules() if isinstance(module, ActivationBinarizer)]
    assert len(alphas) == 2 * 6 + 1 + 2 * 4 and all(0 < alpha != 1 for alpha in alphas)


def test_means_of_an_input_are_refused():
    with pytest.raises(UserError, match="method 'rbnn' are means of an input, which tokens that fill up would change"):
        small("rbnn")


def test_sizes_that_do_not_fit_are_one_line():
    with pytest.raises(UserError, match="width = 24 is no multiple of heads = 5"):
        small(heads=5)
    with pytest.raises(UserError, match=r"dropout = 1.0 must be in \[0, 1\)"):
        small(dropout=1.0)
    with pytest.raises(ValueError, match="17 tokens, this network has 16 positions"):
        small()(batch(17))


def test_named_sizes():
    with torch.device("meta"):
        sizes = {name: models.create(name, "float") for name in ("bert", "minilm", "bert_base")}
    counted = {name: sum(p.numel() for p in model.parameters()) for name, model in sizes.items()}
    assert counted["minilm"] == 22_713_216 + 2 * 384 + 2 and counted["bert_base"] == 109_482_240 + 2 * 768 + 2
    assert json.loads(json.dumps(sizes["bert"].config))["layers"] == 4
