"""Texts to answers: `Model.predict`, `onebit run --text`, and one line for whatever is no text."""

import csv
import io
import json
import os
import pickle
import random
import warnings

import numpy as np
import pytest
import torch

import glue_files
import onebit
import pixels
from networks import BACKENDS
from onebit import models, pack
from onebit.cli.main import main
from onebit.errors import UserError
from onebit.runtime import load, texts, word_pieces

LENGTH = 12
SIZES = {"layers": 2, "width": 24, "heads": 3, "hidden": 48, "positions": 16, "dropout": 0.0}
BACKEND = BACKENDS[0]


def packed(path, labels=("bad", "good"), method="bit", **changes):
    """A small network, its parameters as a training leaves them, as a file at `path`."""
    torch.manual_seed(0)
    count = len(glue_files.VOCABULARY)
    model = models.create("bert", method, **SIZES, vocabulary=count, classes=len(labels)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    pieces = {"holds": "pieces", "vocabulary": glue_files.VOCABULARY, **changes}
    inputs = {
        "ids": onebit.Tokens(LENGTH, count, **pieces),
        "types": onebit.Tokens(LENGTH, 2, holds="types"),
        "mask": onebit.Tokens(LENGTH, 2, holds="mask"),
    }
    answer = "one" if len(labels) > 1 else "values"
    pack(model, path, inputs=inputs, name="films", task="text", answer=answer, labels=list(labels))
    return path


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return packed(tmp_path_factory.mktemp("net") / "net.safetensors")


@pytest.fixture(scope="module")
def model(net):
    return load(net, backend=BACKEND)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "images.safetensors"
    pixels.network(path)
    return path


def run(capsys, net, *arguments):
    code = main(["run", str(net), *map(str, arguments), "--backend", BACKEND])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err.splitlines()


def sentences(count):
    rng = random.Random(0)
    return [glue_files.text(rng, rng.choice(glue_files.NOUNS), rng.random() < 0.5) for _ in range(count)]


def test_a_text_is_answered_as_its_numbers_are(model):
    """A pair's second text has other types; several come in order, whatever their lengths."""
    number = {piece: i for i, piece in enumerate(glue_files.VOCABULARY)}
    ids = np.array(
        [[number[piece] for piece in ["[CLS]", "the", "film", "was", "good", "[SEP]", "a", "dog", "is", "[SEP]"]]]
    )
    ones = np.ones_like(ids)
    types = np.array([[0] * 6 + [1] * 4])
    single, pair = model(ids[:, :6], 0 * ids[:, :6], ones[:, :6]), model(ids, types, ones)
    for text, logits in (("The film was GOOD", single), (("the film was good", "a dog is"), pair)):
        exponents = np.exp(logits[0].astype(np.float64) - logits.max())
        (best,) = model.predict(text)
        assert best["label"] == ("bad", "good")[logits.argmax()]
        assert best["score"] == pytest.approx((exponents / exponents.sum()).max(), abs=1e-6)
    given = [("the film was good", "a dog is"), "The film was GOOD", *sentences(30), ("a", "dog")]
    assert model.predict(given, top=2) == [model.predict(text, top=2) for text in given]
    assert len({len(model.texts.pieces.encode(text, None, LENGTH).ids) for text in sentences(30)}) > 3
    assert model.predict([]) == []


def test_texts_of_one_length_run_together(model, monkeypatch):
    calls = []
    call = type(model).__call__
    monkeypatch.setattr(
        type(model), "__call__", lambda self, *given: calls.append(given[0].shape) or call(self, *given)
    )
    monkeypatch.setattr(texts, "TOGETHER", 4)
    model.predict(["a dog", "the cat", "a", "dog is", "an sea", "film", "the plot"])
    assert calls == [(2, 3), (4, 4), (1, 4)]


def test_a_network_without_masks_and_of_one_length(tmp_path):
    """What the network was made for is all that it takes: its texts are filled up, and its mask says so."""

    class Fixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words = torch.nn.Embedding(len(glue_files.VOCABULARY), 6)
            self.last = torch.nn.Linear(6 * LENGTH, 2)

        def forward(self, ids):
            return self.last(self.words(ids).flatten(1))

    torch.manual_seed(0)
    network = Fixed().eval()
    ids = onebit.Tokens(LENGTH, len(glue_files.VOCABULARY), holds="pieces", vocabulary=glue_files.VOCABULARY)
    pack(network, tmp_path / "net", inputs={"ids": ids}, labels=["a", "b"])
    filled = torch.zeros(1, LENGTH, dtype=torch.int64)  # [PAD] is number 0
    filled[0, :3] = torch.tensor([glue_files.VOCABULARY.index(piece) for piece in ("[CLS]", "dog", "[SEP]")])
    expected = torch.softmax(network(filled), 1).max().item()
    for text in ("dog", ["dog"]):
        (best,) = np.ravel(load(tmp_path / "net", backend=BACKEND).predict(text))
        assert best["score"] == pytest.approx(expected, abs=1e-5)


def test_capitals_stay_where_the_file_says_so(tmp_path):
    """Then "FILM" is made of no pieces."""
    cased = load(packed(tmp_path / "cased", lowercase=False), backend=BACKEND)
    assert cased.predict("the FILM") == cased.predict("the [UNK]") != cased.predict("the film")


def test_networks_travel(model):
    again = pickle.loads(pickle.dumps(model))
    assert again.input_kind == "text" and again.predict("a good film") == model.predict("a good film")


def test_what_is_cut_is_said(model, net, capsys):
    long = "good " * 10_000
    with pytest.warns(UserWarning, match="2 of 3 texts have more than 12 tokens and are cut there"):
        found = model.predict([long, "a dog", ("dog", long)])
    assert found[0] == model.predict("good " * (LENGTH - 2)) and found[2] == model.predict(
        ("dog", "good " * (LENGTH - 4))
    )
    code, out, err = run(capsys, net, "--text", long, "--text", long, "--text", "a")
    assert (code, len(out)) == (0, 3)
    assert err == ["onebit: warning: 2 of 3 texts have more than 12 tokens and are cut there"]
    _, out, err = run(capsys, net, "--text", long, "--json")
    assert json.loads(out[0])["texts"][0]["cut"] is True and err[0].endswith(
        "the text has more than 12 tokens and is cut there"
    )


def test_lines_of_a_file(net, model, tmp_path, capsys):
    """In their order, of pairs too, in every format; those of --text come first."""
    file = tmp_path / "lines.txt"
    file.write_bytes("\ufeffthe film was good\r\na dog\tthe cat\nÉtude\n".encode())
    given = ["a", "the film was good", ("a dog", "the cat"), "Étude"]
    expected = model.predict(given, top=2)
    options = ("--text", "a", "--text-file", file, "--top", 2)
    code, out, err = run(capsys, net, *options)
    assert (code, err) == (0, []) and out[2].startswith("a dog | the cat  ")
    for line, answer in zip(out, expected, strict=True):
        assert line.endswith("  ".join(f"{p['label']} {100 * p['score']:.1f} %" for p in answer))
    rows = [json.loads(line) for line in run(capsys, net, *options, "--format", "jsonl")[1]]
    assert [row["predictions"] for row in rows] == expected
    assert [row["text"] for row in rows] == ["a", "the film was good", "a dog", "Étude"]
    assert rows[2]["second"] == "the cat" and "second" not in rows[1]
    header, *lines = csv.reader(run(capsys, net, *options, "--format", "csv")[1])
    assert header == ["text", "second", "label_1", "score_1", "label_2", "score_2"]
    assert lines[2][:3] == ["a dog", "the cat", expected[2][0]["label"]] and len(lines) == 4
    result = json.loads(run(capsys, net, *options, "--json")[1][0])
    assert [row["predictions"] for row in result["texts"]] == expected and result["failed"] == []


def test_quantities_are_no_probabilities(tmp_path, capsys):
    net = packed(tmp_path / "net", labels=("similarity",))
    (best,) = load(net, backend=BACKEND).predict(("a dog", "a cat"))
    _, out, _ = run(capsys, net, "--text", "a dog\ta cat")
    assert out == [f"a dog | a cat  similarity {best['score']:g}"]


def test_the_good_lines_are_answered_and_the_bad_ones_named(net, tmp_path, capsys):
    file = tmp_path / "lines.txt"
    file.write_text("a dog\n\na\tb\tc\nthe sea\n\u200b\n", encoding="utf-8")
    code, out, err = run(capsys, net, "--text-file", file)
    assert code == 2 and [line.split("  ")[0] for line in out] == ["a dog", "the sea"]
    assert [line.partition(f"{file}, ")[2] for line in err[:3]] == [
        "line 2, is empty; give one with words",
        "line 3, has 3 texts with tabs between them; give one, or a pair",
        "line 5, holds no word, but characters that nobody sees; give one with words",
    ]
    assert err[3].startswith("onebit: error: 3 of 5 texts could not be read; the first: ") and len(err) == 4
    result = json.loads(run(capsys, net, "--text-file", file, "--json")[1][0])
    assert len(result["texts"]) == 2 and [row["text"] for row in result["failed"]] == ["", "a", "\u200b"]


def write(folder, name, content):
    (folder / name).write_bytes(content)
    return name


BAD = {  # what is given, in a folder of its own, and what the line says
    "an empty text": (lambda f: ["--text", ""], "the text of --text is empty; give one with words"),
    "spaces": (lambda f: ["--text", " \u3000 "], "the text of --text is empty"),
    "what nobody sees": (lambda f: ["--text", "\u200b\u2060"], "holds no word, but characters that nobody sees"),
    "an empty second text": (lambda f: ["--text", "a\t"], "has an empty second text"),
    "an empty first text": (lambda f: ["--text", "\ta"], "the text of --text is empty"),
    "three texts": (lambda f: ["--text", "a\tb\tc"], "has 3 texts with tabs between them; give one, or a pair"),
    "bytes that are no text": (lambda f: ["--text", os.fsdecode(b"caf\xe9")], "half a surrogate pair"),
    "no file": (lambda f: ["--text-file", "absent.txt"], "absent.txt cannot be read: No such file"),
    "a folder": (lambda f: ["--text-file", "."], ". cannot be read: Is a directory"),
    "no name": (lambda f: ["--text-file", ""], "the name of the file of texts is empty"),
    "a pipe": (lambda f: os.mkfifo("pipe") or ["--text-file", "pipe"], "pipe cannot be read: it is not a file"),
    "an empty file": (lambda f: ["--text-file", write(f, "x", b"\n\n")], "x is empty; copy it again"),
    "broken UTF-8": (lambda f: ["--text-file", write(f, "x", b"a\nb\xff\n")], "x is not UTF-8 text (line 2)"),
    "UTF-16": (lambda f: ["--text-file", write(f, "x", "a".encode("utf-16"))], "x is UTF-16 text; save it as UTF-8"),
    "zero bytes": (lambda f: ["--text-file", write(f, "x", b"a\0")], "x holds zero bytes"),
    "an image": (lambda f: ["cat.png"], "takes texts, no image files such as cat.png; give --text TEXT"),
    "nothing": (lambda f: [], "has nothing to answer to; give --text TEXT, or --text-file FILE"),
    "boxes": (lambda f: ["--text", "a", "--draw", "x"], "--draw has no effect here"),
    "a report over the texts": (
        lambda f: ["--text-file", write(f, "x.txt", b"a"), "--out", "x.txt"],
        "would replace its own input x.txt",
    ),
    "no label": (lambda f: ["--text", "a", "--top", "0"], "'0' is not a number from 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_texts_are_one_line(case, net, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make, message = BAD[case]
    code, out, err = run(capsys, net, *make(tmp_path))
    assert (code, out, len(err)) == (2, [], 1) and err[0].startswith("onebit: error: ") and message in err[0]


@pytest.mark.parametrize("arguments", (["--text", "a"], ["--text-file", "x"], []))
def test_a_network_of_images_takes_no_texts(arguments, images, capsys):
    code, out, err = run(capsys, images, *arguments)
    says = "takes images, no texts" if arguments else "has nothing to answer to"
    assert (code, out, len(err)) == (2, [], 1) and f"{says}; give image files or folders" in err[0]


def test_texts_of_standard_input(net, capsys, monkeypatch):
    """ "-" is standard input, whose lines are named as those of a file."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\n\nb\n")))
    code, out, err = run(capsys, net, "--text-file", "-")
    assert code == 2 and [line.split("  ")[0] for line in out] == ["a", "b"]
    assert "standard input, line 2, is empty" in err[0]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfea\0")))
    assert "standard input is UTF-16 text; save it as UTF-8" in run(capsys, net, "--text-file", "-")[2][0]


def test_of_several_texts_the_one_that_is_none_is_named(net, model, capsys):
    with pytest.raises(UserError, match="number 2 of 3: the text is empty"):
        model.predict(["a", "", "b"])
    assert "text 2 of --text is empty" in run(capsys, net, "--text", "a", "--text", "")[2][0]


def test_python_refuses_likewise(model, images):
    for value, says in (
        ("", "the text is empty"),
        ("\u200b", "holds no word"),
        ("\ud800", "half a surrogate pair"),
        (3, "takes texts: a str, a pair as a tuple of two, or a list of these, got int"),
        (b"a", "got bytes"),
        (None, "got NoneType"),
        (np.zeros((2, 8, 8, 3), np.uint8), "got ndarray"),
        (("a", 3), "got a tuple with"),
        ((), "a pair is a tuple of two texts, got 0"),
        (("a", "b", "c"), "got 3; give several texts as a list"),
        ([["a", "b"]], "got list"),
    ):
        with pytest.raises(UserError, match=says):
            model.predict(value)
    with pytest.raises(UserError, match="cannot be read as an image"):
        load(images).predict("a gripping film")
    with pytest.raises(UserError, match=r"films takes ids .*, types .*, mask"):
        _ = model.input_shape
    with pytest.raises(UserError, match="call it from Python"):
        _ = load(images).texts
    with pytest.raises(UserError, match="a threshold is for boxes"):
        model.predict("a", threshold=0.5)


def test_texts_need_no_library(net):
    """Neither tokenizers, nor torch, nor Pillow."""
    import subprocess
    import sys

    program = (
        "import sys\nfor name in ('torch', 'tokenizers', 'transformers', 'PIL'): sys.modules[name] = None\n"
        "from onebit.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "run", net, "--text", "a good film", "--backend", BACKEND]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("a good film  ")


def test_a_vocabulary_is_read_once_and_fast(model):
    """Numbers of words that were seen are remembered, as many as MOST_WORDS."""
    pieces = word_pieces.WordPieces(glue_files.VOCABULARY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pieces.encode("a a films", None, LENGTH) == model.texts.pieces.encode("a a films", None, LENGTH)
    assert model.texts is model.texts
