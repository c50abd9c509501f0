"""Texts: GLUE's files, their numbers of word pieces, batches by length, and one line for whatever is wrong with them."""

import shutil

import numpy as np
import pytest
import torch

import glue_files
from onebit import data, tasks
from onebit.data import LoadOptions
from onebit.data.inputs import Images, Normalization, Words, inputs_of
from onebit.data.loading import sentences
from onebit.errors import UserError
from shared_data import glue_root

pytest.importorskip("tokenizers", reason="pip install 'onebit[text]'")
NAMES = ("sst2", "cola", "mrpc", "stsb", "mnli", "mnli_mismatched", "qqp", "qnli", "rte", "wnli")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return glue_files.write(tmp_path_factory.mktemp("glue") / "glue")


def load(root, name="sst2", **options):
    return data.load("glue", root, LoadOptions(glue=name, **options))


def test_all_tasks_have_their_labels_and_scores(root):
    found = {name: load(root, name) for name in NAMES}
    assert all((len(d.train), len(d.test), d.task) == (48, 16, "text") for d in found.values())
    first = {name: (d.labels, d.scores) for name, d in found.items()}
    assert first["sst2"] == (("negative", "positive"), ("accuracy",))
    assert first["cola"] == (("unacceptable", "acceptable"), ("matthews",))
    assert first["mrpc"] == (("not_equivalent", "equivalent"), ("accuracy", "f1"))
    assert first["stsb"] == (("similarity",), ("pearson", "spearman"))
    assert first["qqp"] == (("not_duplicate", "duplicate"), ("accuracy", "f1"))
    assert first["mnli"] == first["mnli_mismatched"] == (("entailment", "neutral", "contradiction"), ("accuracy",))
    assert first["qnli"] == first["rte"] == (("entailment", "not_entailment"), ("accuracy",))
    assert first["wnli"][0] == ("not_entailment", "entailment")
    assert found["stsb"].train.targets.dtype == torch.float32 and found["stsb"].train.targets[:4].tolist() == [
        0,
        4.5,
        0,
        4.5,
    ]
    assert found["rte"].train.targets[:4].tolist() == [1, 0, 1, 0] and found["wnli"].train.targets[:2].tolist() == [
        0,
        1,
    ]
    assert found["mnli"].train.targets[:4].tolist() == [0, 1, 2, 0]


def test_pairs_are_numbered_as_bert_has_them(root):
    d = load(root, "rte")
    number = {word: i for i, word in enumerate(d.inputs.vocabulary)}
    with open(root / "RTE" / "dev.tsv", encoding="utf-8") as file:
        _, a, b, _ = file.read().split("\n")[3].split("\t")
    one = d.test.batch(torch.tensor([2])).inputs[0]
    expected = ["[CLS]", *a.split(), "[SEP]", *b.split(), "[SEP]"]
    assert one[0].tolist() == [number[word] for word in expected]
    first = len(a.split()) + 2
    assert one[1].tolist() == [0] * first + [1] * (len(expected) - first) and one[2].all()


def test_the_shorter_texts_of_a_batch_are_filled_up(root):
    d = load(root)
    batch = d.test.batch(torch.arange(16))
    assert batch.inputs.dtype == torch.int64 and batch.inputs.shape == (16, 3, int(d.test.lengths.max()))
    for i, row in enumerate(batch.inputs):
        alone, length = d.test.batch(torch.tensor([i])).inputs[0], int(d.test.lengths[i])
        assert torch.equal(row[:, :length], alone) and not row[:, length:].any()  # [PAD] is number 0


def test_an_epoch_is_drawn_from_its_seed_sorted_by_length_and_resumes(root, monkeypatch):
    monkeypatch.setattr(sentences, "WINDOW", 3)
    train = load(root).train
    every = list(train.training_batches(5, 0, 1))
    assert len(every) == train.training_steps(5) == 9
    again = list(train.training_batches(5, 0, 1, start=4))
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(again, every[4:], strict=True))
    order = train.order(5, 0, 1)
    assert order.unique().numel() == 45 and not torch.equal(order, train.order(5, 0, 2))
    lengths = train.lengths[order].sort(1).values
    windows = lengths[:, -1] - lengths[:, 0]
    assert windows.float().mean() < (train.lengths[train.order(45, 0, 1)].max() - train.lengths.min())
    ranks = [list(train.training_batches(4, 0, 0, rank=rank, world=2)) for rank in (0, 1)]
    assert len(ranks[0]) == train.training_steps(4, 2) == 6
    whole = train.order(8, 0, 0)
    assert torch.equal(torch.cat([part[2].targets for part in ranks]), train.targets[whole[2]])
    in_order = torch.cat([batch.targets for batch in train.evaluation_batches(7)])
    assert torch.equal(in_order, train.targets)
    some = train.some(6)
    assert torch.equal(some.batch(torch.tensor([5])).inputs, train.batch(torch.tensor([40])).inputs)


def test_words_are_replaced_in_training_alone(root):
    plain, changed = load(root, "rte"), load(root, "rte", replace_words=0.5)
    ours, theirs = ([b.inputs for b in d.train.training_batches(8, 3, 1)] for d in (changed, plain))
    marks = torch.tensor([plain.inputs.vocabulary.index(mark) for mark in ("[PAD]", "[CLS]", "[SEP]")])
    same = words = 0
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a[:, 1:], b[:, 1:])
        kept = torch.isin(b[:, 0], marks)
        assert torch.equal(a[:, 0][kept], b[:, 0][kept]) and not torch.isin(a[:, 0][~kept], marks).any()
        same, words = same + int((a[:, 0] == b[:, 0])[~kept].sum()), words + int((~kept).sum())
    assert 0.4 < same / words < 0.75  # half of them, and those that others happen to be or that a mark was drawn for
    again = [b.inputs for b in changed.train.training_batches(8, 3, 1, start=2)]
    assert len(ours) == 6 and all(torch.equal(a, b) for a, b in zip(again, ours[2:], strict=True))
    assert not torch.equal(next(iter(changed.train.training_batches(8, 3, 2))).inputs, ours[0])
    for found, wanted in zip(changed.test.evaluation_batches(8), plain.test.evaluation_batches(8), strict=True):
        assert torch.equal(found.inputs, wanted.inputs)


def test_ids_are_those_of_transformers_on_real_texts():
    """The texts of SST-2 and RTE, by the vocabulary of bert-base-uncased."""
    transformers = pytest.importorskip("transformers", reason="pip install transformers")
    root = glue_root()
    tokenizer = transformers.BertTokenizer(str(root.parent / "bert-base-uncased-vocab.txt"))
    for name, count in (("sst2", 872), ("rte", 277)):
        test = load(root, name, length=64).test
        assert len(test) == count
        file = root / {"sst2": "SST-2", "rte": "RTE"}[name] / "dev.tsv"
        rows = [line.split("\t") for line in file.read_text(encoding="utf-8").split("\n")[1:] if line]
        texts = [row[:1] if name == "sst2" else row[1:3] for row in rows]
        for i in range(0, count, 4):
            found = tokenizer(*texts[i], truncation="longest_first", max_length=64)
            one = test.batch(torch.tensor([i])).inputs[0]
            assert one[0].tolist() == found["input_ids"] and one[1].tolist() == found["token_type_ids"]


def test_real_files_have_their_published_sizes():
    root = glue_root()
    sizes = {"cola": (8551, 1043), "mrpc": (4076, 1725), "stsb": (5749, 1500)}
    for name, (train, test) in sizes.items():
        d = load(root, name)
        assert (len(d.train), len(d.test)) == (train, test)


def test_what_is_cut_is_said_once(root, capsys):
    train = load(root, length=8).train
    assert int(train.lengths.max()) == 8
    said = capsys.readouterr().err
    assert (
        said.count("\n") == 2 and "of 48 texts of train.tsv have more than length = 8 tokens and are cut there" in said
    )


def test_ten_thousand_words_are_cut_and_said(root, tmp_path, capsys):
    folder = copied(root, tmp_path)
    with open(folder / "SST-2" / "dev.tsv", "a", encoding="utf-8") as file:
        file.write("the film was good " * 2500 + "\t1\n")
    assert int(load(folder).test.lengths[-1]) == 128
    assert "1 of 17 texts of dev.tsv" in capsys.readouterr().err


def test_published_flaws_of_qqp_are_left_out_and_said(root, tmp_path, capsys):
    folder = copied(root, tmp_path)
    with open(folder / "QQP" / "train.tsv", "a", encoding="utf-8") as file:
        file.write("48\t1\t2\twhat is a cat\n49\t1\t2\t\twhat is a dog\t0\n")
    assert len(load(folder, "qqp").train) == 48
    assert (
        "2 of 50 rows of train.tsv lack a text or a label and are left out; the first is line 50"
        in capsys.readouterr().err
    )


def copied(root, tmp_path):
    return shutil.copytree(root, tmp_path / "glue")


def change(path, old, new):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


BAD = {  # what is done to the folder, the options, and what the line says
    "no folder": (lambda f: shutil.rmtree(f / "SST-2"), {}, "SST-2 must hold train.tsv and dev.tsv; --root names"),
    "no dev.tsv": (lambda f: (f / "SST-2" / "dev.tsv").unlink(), {}, "must hold train.tsv and dev.tsv"),
    "an empty file": (lambda f: (f / "SST-2" / "dev.tsv").write_bytes(b"\n"), {}, "dev.tsv is empty; copy it again"),
    "a header alone": (
        lambda f: glue_files.save(f / "SST-2" / "dev.tsv", ["sentence\tlabel"]),
        {},
        "holds no examples",
    ),
    "an empty text": (
        lambda f: change(f / "SST-2" / "train.tsv", b"label\n", b"label\n  \t1\n"),
        {},
        "train.tsv, line 2, has an empty text; complete it, or leave it out",
    ),
    "a wrong label": (
        lambda f: change(f / "SST-2" / "train.tsv", b"label\n", b"label\na film\t7\n"),
        {},
        "line 2, has the label '7'; it must be one of 0, 1",
    ),
    "a wrong score": (
        lambda f: change(f / "STS-B" / "train.tsv", b"\t0.000\n", b"\tnan\n"),
        {"name": "stsb"},
        "has the score 'nan'; it must be a number from 0 to 5",
    ),
    "a missing column": (
        lambda f: change(f / "RTE" / "dev.tsv", b"label\n", b"answer\n"),
        {"name": "rte"},
        "has no column 'label', its first line has index, sentence1, sentence2, answer; is it another file?",
    ),
    "another task's file": (
        lambda f: shutil.copy(f / "RTE" / "dev.tsv", f / "SST-2" / "dev.tsv"),
        {},
        "has no column 'sentence'",
    ),
    "a row that ends early": (
        lambda f: change(f / "RTE" / "train.tsv", b"label\n", b"label\n0\ta\tb\n"),
        {"name": "rte"},
        "line 2, has 3 columns of the 4 that are needed",
    ),
    "no UTF-8": (
        lambda f: change(f / "SST-2" / "train.tsv", b"label\n", b"label\ncaf\xe9\t1\n"),
        {},
        "train.tsv is not UTF-8 text (line 2); save it as UTF-8",
    ),
    "UTF-16": (
        lambda f: (f / "SST-2" / "dev.tsv").write_text("sentence\tlabel\n", encoding="utf-16"),
        {},
        "is UTF-16 text; save it as UTF-8",
    ),
    "a zero byte": (
        lambda f: change(f / "SST-2" / "train.tsv", b"label\n", b"label\na\0b\t1\n"),
        {},
        "holds zero bytes, as UTF-16 text does (line 2)",
    ),
    "no vocabulary": (lambda f: (f / "vocab.txt").unlink(), {}, "holds no vocab.txt or bert-base-uncased-vocab.txt"),
    "a vocabulary that is no file": (
        lambda f: None,
        {"vocabulary": "words.txt"},
        "vocabulary = 'words.txt' is no file",
    ),
    "a vocabulary without [CLS]": (
        lambda f: change(f / "vocab.txt", b"[CLS]\n", b"[cls]\n"),
        {},
        "has no line [CLS]; give the vocabulary of a BERT",
    ),
    "a word twice": (lambda f: change(f / "vocab.txt", b"film\n", b"the\n"), {}, "line 9: 'the' is on line 8, too"),
    "an empty line": (lambda f: change(f / "vocab.txt", b"film\n", b"\n"), {}, "line 9, is empty"),
    "a length of nothing": (lambda f: None, {"length": 2}, "length = 2 must be at least 3"),
    "another task": (lambda f: None, {"name": "sst3"}, "glue = 'sst3' must be 'sst2' or 'cola'"),
    "a key of images": (lambda f: None, {"image_size": 32}, "image_size = 32 is for images, not for glue"),
    "all words replaced": (lambda f: None, {"replace_words": 1.0}, "replace_words = 1.0 must be in [0, 1)"),
    "a key of photographs": (lambda f: None, {"crop_scale": 0.5}, "crop_scale = 0.5 is for photographs"),
    "mixup": (lambda f: None, {"mixup": 0.5}, "mixup and cutmix are for classes, not for the task text"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_line(case, root, tmp_path):
    spoil, options, says = BAD[case]
    folder = copied(root, tmp_path)
    spoil(folder)
    with pytest.raises(UserError) as error:
        load(folder, **options)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_key_of_texts_is_refused_elsewhere(tmp_path):
    with pytest.raises(UserError, match="length = 64 is for texts, not for digits"):
        data.load("digits", tmp_path, LoadOptions(length=64))


def test_inputs_are_recorded(root):
    words = load(root).inputs
    assert inputs_of(words.record(), "here") == words and words.shape == (3, 128)
    assert words.arguments() == {"vocabulary": len(glue_files.VOCABULARY)} and words.change_to(words) is None
    blank = words.blank(2)
    assert blank.shape == (2, 3, 128) and blank.dtype == torch.int64 and blank[:, 2].all()
    for other in (Words(words.vocabulary[:-1], 128), Words(words.vocabulary, 128, lowercase=False)):
        with pytest.raises(UserError, match="by a vocabulary of 73 words, lowercase, the network by another one of"):
            words.change_to(other)
    with pytest.raises(UserError, match="not of images"):
        words.change_to(Images(3, 32, Normalization((0.5,) * 3, (0.5,) * 3)))
    for key, value in (("vocabulary", "abc"), ("vocabulary", []), ("length", 0), ("lowercase", 1)):
        with pytest.raises(UserError, match="here: inputs cannot be read"):
            inputs_of({**words.record(), key: value}, "here")


def test_scores_are_those_of_scipy_and_sklearn():
    """Over several updates, as GLUE computes them of all examples."""
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import f1_score, matthews_corrcoef

    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 60)
    logits = rng.standard_normal((60, 2)) + np.eye(2)[targets]
    task = tasks.create("text", ("no", "yes"), scores=("f1", "matthews", "accuracy"))
    assert task.scores() == ("f1", "matthews", "accuracy") and task.answer == "one"
    found, answers = computed(task, logits, targets), logits.argmax(1)
    assert found["f1"] == pytest.approx(f1_score(targets, answers))
    assert found["matthews"] == pytest.approx(matthews_corrcoef(targets, answers))
    assert found["accuracy"] == pytest.approx((answers == targets).mean())
    values = rng.random(60) * 5
    guesses = values + rng.standard_normal(60)
    task = tasks.create("text", ("similarity",))
    assert task.answer == "values"
    found = computed(task, guesses[:, None], values)
    assert found["pearson"] == pytest.approx(pearsonr(guesses, values)[0], abs=1e-6)
    assert found["spearman"] == pytest.approx(spearmanr(guesses, values)[0], abs=1e-6)
    assert set(computed(task, np.zeros((60, 1)), values).values()) == {0.0}
    outputs, target = torch.tensor([[1.0], [3.0]]), torch.tensor([2.0, 5.0])
    assert task.loss(outputs, target) == 2.5 and task.distance(outputs, outputs + 1, "soft", 4.0) == 1.0


def computed(task, outputs, targets):
    metrics = task.metrics()
    for part in range(3):
        chosen = slice(20 * part, 20 * (part + 1))
        metrics.update(torch.tensor(outputs[chosen]), torch.tensor(targets[chosen]))
    return {name: float(value) for name, value in metrics.compute().items()}
