"""GLUE (Wang et al., ICLR 2019): nine tasks of English sentences, ROOT/SST-2/train.tsv and dev.tsv and likewise the others.

The key `glue` names the task. Its dev.tsv is the test, since GLUE keeps the labels of its test sets; of MNLI that is
dev_matched.tsv (`mnli`) or dev_mismatched.tsv (`mnli_mismatched`), and of MRPC, where there is no train.tsv,
msr_paraphrase_train.txt and msr_paraphrase_test.txt, as Microsoft gives them.

Files are as GLUE has them: UTF-8, cells between tabs, columns named in the first line but for CoLA's, quotes that mean nothing.
Scores are those of GLUE, the first one first.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from onebit.data.dataset import Data
from onebit.data.inputs import Words
from onebit.data.loading.sentences import Sentences
from onebit.data.loading.text_files import table, vocabulary
from onebit.data.loading.warning import warn
from onebit.data.loading.word_pieces import pieces
from onebit.data.options import LoadOptions
from onebit.errors import UserError
from onebit.runtime.vocabulary import SPECIAL

ENTAILMENT = {"entailment": "entailment", "not_entailment": "not_entailment"}
VOCABULARIES = ("vocab.txt", "bert-base-uncased-vocab.txt")
HIGHEST = 5.0  # of STS-B's similarities, from 0 on


@dataclass(frozen=True)
class Layout:
    """folder    below the root
    columns   of the first text, of the second one if there is one, and of the label: names, or numbers where no line names them
    labels    {what the file says: name of the label}, in the order of the outputs; empty for similarities
    scores    names of the task's scores
    files     (training, test), those that are there first
    flawed    whether rows that end too early, or lack a text, are left out: of files that have some as published
    """

    folder: str
    columns: tuple[str | int, ...]
    labels: dict[str, str]
    scores: tuple[str, ...] = ("accuracy",)
    files: tuple[tuple[str, str], ...] = (("train.tsv", "dev.tsv"),)
    flawed: bool = False


PARAPHRASES = (("train.tsv", "dev.tsv"), ("msr_paraphrase_train.txt", "msr_paraphrase_test.txt"))
INFERENCES = {"entailment": "entailment", "neutral": "neutral", "contradiction": "contradiction"}
MNLI = ("sentence1", "sentence2", "gold_label")
LAYOUTS = {
    "sst2": Layout("SST-2", ("sentence", "label"), {"0": "negative", "1": "positive"}),
    "cola": Layout("CoLA", (3, 1), {"0": "unacceptable", "1": "acceptable"}, ("matthews",)),
    "mrpc": Layout(
        "MRPC",
        ("#1 String", "#2 String", "Quality"),
        {"0": "not_equivalent", "1": "equivalent"},
        ("accuracy", "f1"),
        PARAPHRASES,
    ),
    "stsb": Layout("STS-B", ("sentence1", "sentence2", "score"), {}, ("pearson", "spearman")),
    "mnli": Layout("MNLI", MNLI, INFERENCES, files=(("train.tsv", "dev_matched.tsv"),)),
    "mnli_mismatched": Layout("MNLI", MNLI, INFERENCES, files=(("train.tsv", "dev_mismatched.tsv"),)),
    "qqp": Layout(
        "QQP",
        ("question1", "question2", "is_duplicate"),
        {"0": "not_duplicate", "1": "duplicate"},
        ("accuracy", "f1"),
        flawed=True,
    ),
    "qnli": Layout("QNLI", ("question", "sentence", "label"), ENTAILMENT),
    "rte": Layout("RTE", ("sentence1", "sentence2", "label"), ENTAILMENT),
    "wnli": Layout("WNLI", ("sentence1", "sentence2", "label"), {"0": "not_entailment", "1": "entailment"}),
}


def glue(root: Path, options: LoadOptions) -> Data:
    """Raises UserError for a file that is missing, damaged or of another task, and for a text that is empty."""
    name = f"glue {options.glue}"
    layout = LAYOUTS[options.glue]
    folder = root / layout.folder
    there = [pair for pair in layout.files if all((folder / file).is_file() for file in pair)]
    if not there:
        wanted = " or ".join(" and ".join(pair) for pair in layout.files)
        raise UserError(f"{name}: {folder} must hold {wanted}; --root names the folder that contains {layout.folder}/")
    words = Words(vocabulary(vocabulary_file(root, options.vocabulary, name), name), options.length)
    train, test = (sentences(folder / file, layout, words, name) for file in there[0])
    train.replaced = options.replace_words
    labels = tuple(layout.labels.values()) or ("similarity",)
    return Data("glue", train, test, words, labels, "text", layout.scores)


def vocabulary_file(root: Path, given: str, where: str) -> Path:
    """The file of word pieces. Raises UserError where there is none."""
    places = [Path(given), root / given] if given else [f / name for f in (root, root.parent) for name in VOCABULARIES]
    if (found := next((path for path in places if path.is_file()), None)) is None:
        if given:
            raise UserError(f"{where}: vocabulary = {given!r} is no file; name one with a word piece a line")
        raise UserError(f"{where}: {root} holds no {' or '.join(VOCABULARIES)}; copy it there, or set vocabulary")
    return found


def sentences(path: Path, layout: Layout, words: Words, where: str) -> Sentences:
    """The examples of a file."""
    short: list[int] = []
    texts: list[list[str]] = []
    targets: list[float] = []
    for line, cells in table(path, layout.columns, where, short if layout.flawed else None):
        *parts, label = cells
        if not all(part.strip() for part in parts):
            if not layout.flawed:
                raise UserError(f"{where}: {path}, line {line}, has an empty text; complete it, or leave it out")
            short.append(line)
            continue
        texts.append(parts)
        targets.append(target(label, layout, f"{where}: {path}, line {line}"))
    rows, total = len(texts), len(texts) + len(short)
    if not rows:
        raise UserError(f"{where}: {path} holds no examples; copy it again")
    if short:
        warn(
            f"{where}: {len(short)} of {total} rows of {path.name} lack a text or a label and are left out; the first is line {min(short)}"
        )
    columns = list(zip(*texts))
    found = pieces(
        columns[0], columns[1] if len(columns) > 1 else None, words.vocabulary, words.lowercase, words.length
    )
    if found.cut:
        warn(
            f"{where}: {found.cut} of {rows} texts of {path.name} have more than length = {words.length} tokens and are cut there"
        )
    kind = torch.int64 if layout.labels else torch.float32
    marks = {mark: words.vocabulary.index(mark) for mark in SPECIAL}
    return Sentences(found, torch.tensor(targets, dtype=kind), marks["[PAD]"], tuple(marks.values()))


def target(label: str, layout: Layout, where: str) -> float:
    """The number of a label, or a similarity."""
    if layout.labels:
        if label not in layout.labels:
            raise UserError(f"{where}, has the label {label[:40]!r}; it must be one of {', '.join(layout.labels)}")
        return list(layout.labels).index(label)
    try:
        value = float(label)
    except ValueError:
        value = math.nan
    if not 0 <= value <= HIGHEST:  # nor NaN
        raise UserError(f"{where}, has the score {label[:40]!r}; it must be a number from 0 to {HIGHEST:g}")
    return value
