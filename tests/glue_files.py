"""Made-up files of GLUE's nine tasks, in their true layouts: what is good has "good" in it, and pairs agree where they share a word."""

import random
from pathlib import Path
from typing import Any

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    "a",
    "an",
    "the",
    "film",
    "plot",
    "cat",
    "dog",
    "sea",
    "good",
    "bad",
    "dull",
    "was",
    "is",
    "##ed",
    ".",
    ",",
    "'",
]
VOCABULARY = (*SPECIAL, *WORDS, *(chr(97 + i) for i in range(1, 26)), *(f"##{chr(97 + i)}" for i in range(26)))
NOUNS = ("film", "plot", "cat", "dog", "sea")
PAIRS = {  # folder: (name of the files, header, how a row is made of an index, two texts and whether they agree)
    "MRPC": (
        ("train", "dev"),
        "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        lambda i, a, b, y: f"{int(y)}\t{i}\t{i + 1}\t{a}\t{b}",
    ),
    "STS-B": (
        ("train", "dev"),
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        lambda i, a, b, y: f"{i}\tmain\tx\t2012\t{i}\tnone\tnone\t{a}\t{b}\t{4.0 * y + i % 2 / 2:.3f}",
    ),
    "QQP": (
        ("train", "dev"),
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        lambda i, a, b, y: f"{i}\t{i}\t{i}\t{a}\t{b}\t{int(y)}",
    ),
    "QNLI": (
        ("train", "dev"),
        "index\tquestion\tsentence\tlabel",
        lambda i, a, b, y: f"{i}\t{a}\t{b}\t{'' if y else 'not_'}entailment",
    ),
    "RTE": (
        ("train", "dev"),
        "index\tsentence1\tsentence2\tlabel",
        lambda i, a, b, y: f"{i}\t{a}\t{b}\t{'' if y else 'not_'}entailment",
    ),
    "WNLI": (
        ("train", "dev"),
        "index\tsentence1\tsentence2\tlabel",
        lambda i, a, b, y: f"{i}\t{a}\t{b}\t{int(y)}",
    ),
    "MNLI": (
        ("train", "dev_matched", "dev_mismatched"),
        "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse\tsentence1"
        "\tsentence2\tlabel1\tgold_label",
        lambda i, a, b, y: (
            f"{i}\t{i}\t{i}e\tfiction\t( {a} )\t( {b} )\t(ROOT)\t(ROOT)\t{a}\t{b}\tneutral\t"
            f"{'entailment' if y else 'neutral' if i % 2 else 'contradiction'}"
        ),
    ),
}


def text(rng: random.Random, noun: str, good: bool = True) -> str:
    extra = " ".join(rng.choice(["was", "is", "the", "an"]) for _ in range(rng.randrange(6)))
    return f"the {noun} was {'good' if good else 'bad'} {extra}".strip()


def write(root: Path, train: int = 48, test: int = 16, vocabulary: Any = VOCABULARY) -> Path:
    """The nine folders, and the vocabulary, in `root`."""
    rng = random.Random(0)
    counts = (train, test, test)
    root.mkdir(parents=True, exist_ok=True)
    (root / "vocab.txt").write_text("".join(f"{word}\n" for word in vocabulary), encoding="utf-8")
    for split, count in zip(("train", "dev"), counts):
        goods = [bool(i % 3) for i in range(count)]
        lines = [f"{text(rng, rng.choice(NOUNS), good)} \t{int(good)}" for good in goods]
        save(root / "SST-2" / f"{split}.tsv", ["sentence\tlabel", *lines])
        lines = [f"gj04\t{int(good)}\t{'' if good else '*'}\t{text(rng, rng.choice(NOUNS), good)}" for good in goods]
        save(root / "CoLA" / f"{split}.tsv", lines)
    for folder, (names, header, row) in PAIRS.items():
        for name, count in zip(names, counts):
            lines = []
            for i in range(count):
                agree = bool(i % 2) if folder != "MNLI" else i % 3 == 0
                one = rng.choice(NOUNS)
                other = one if agree else rng.choice([noun for noun in NOUNS if noun != one])
                lines.append(row(i, text(rng, one), text(rng, other), agree))
            save(root / folder / f"{name}.tsv", [header, *lines])
    return root


def save(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
