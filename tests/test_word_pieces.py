"""WordPiece of the runtime: the numbers of the library `tokenizers`, on real sentences, odd characters and every cut."""

import random
import time
import unicodedata

import pytest

from onebit.errors import UserError
from onebit.runtime.word_pieces import WordPieces
from shared_data import glue_root

pytest.importorskip("tokenizers", reason="pip install 'onebit[text]'")
FILES = {
    "SST-2/train.tsv": 4500,
    "CoLA/train.tsv": 2500,
    "MRPC/msr_paraphrase_train.txt": 1500,
    "STS-B/train.tsv": 1500,
    "RTE/dev.tsv": 277,
}
SCRIPTS = (  # of the odd texts: ASCII, Latin, combining marks, Greek, Cyrillic, Hebrew and Arabic, Thai, Hangul, kana, ideographs
    (0, 0x250),
    (0x300, 0x530),
    (0x5D0, 0x61C),
    (0x61E, 0x6FF),
    (0xE00, 0xE60),
    (0x1100, 0x1200),
    (0x1E00, 0x2070),
    (0x3000, 0x3100),
    (0x4E00, 0x4E80),
    (0xAC00, 0xAD00),
    (0xF900, 0xF980),
    (0xFE00, 0x10000),
    (0x1D100, 0x1D180),
    (0x1F300, 0x1FB00),
    (0xE0000, 0xE0080),
)
ODD = "İıßẞΣς\u200d\u200b\u2060\ufeff\ufffd\xad\x00\x7f\x85\u2028\xa0\t\r\n'`^$!¿„—…"
TYPED = (
    "[SEP]",
    "[CLS]",
    "[PAD]",
    "[UNK]",
    "[MASK]",
    "[sep]",
    "[ SEP ]",
    "[[SEP]]",
    "##ing",
    "the",
    "İstanbul",
    "straße",
    "naïve",
    "한국어",
    "👩‍👩‍👧",
)


@pytest.fixture(scope="module")
def vocabulary():
    path = glue_root().parent / "bert-base-uncased-vocab.txt"
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


@pytest.fixture(scope="module")
def sentences():
    """Pairs of real sentences as files have them, the labels and numbers beside them, too."""
    found = []
    for name, count in FILES.items():
        lines = (glue_root() / name).read_text(encoding="utf-8-sig").split("\n")[1 : count + 1]
        found += [line.rsplit("\t", 1) if "\t" in line else (line, "") for line in lines if line]
    return found


def library(vocabulary, lowercase, length):
    from onebit.data.loading.word_pieces import encoder_of

    return encoder_of(vocabulary, lowercase, length)


def differing(ours, theirs, texts, length):
    """The texts, or pairs, whose numbers, types or cuts differ."""
    found = []
    for text, expected in zip(texts, theirs.encode_batch(list(texts)), strict=True):
        one = ours.encode(*([text, None] if isinstance(text, str) else text), length)
        same = one.ids == expected.ids and one.cut == bool(expected.overflowing)
        if not same or one.second != len(expected.ids) - sum(expected.type_ids):
            found.append(text)
    return found


@pytest.mark.parametrize("lowercase", [True, False])
def test_ten_thousand_real_sentences(lowercase, vocabulary, sentences):
    texts = [first for first, _ in sentences]
    assert len(texts) > 10_000
    ours = WordPieces(vocabulary, lowercase)
    assert not differing(ours, library(vocabulary, lowercase, 512), texts, 512)
    assert not differing(ours, library(vocabulary, lowercase, 24), texts[::5], 24)


@pytest.mark.parametrize("length", [3, 4, 5, 6, 7, 12, 13])
def test_pairs_are_cut_alike(length, vocabulary, sentences):
    rng = random.Random(length)
    texts = [text[: rng.randrange(80)] for pair in sentences[::20] for text in pair]
    pairs = [(rng.choice(texts), rng.choice(texts)) for _ in range(1000)]
    assert not differing(WordPieces(vocabulary), library(vocabulary, True, length), pairs, length)


@pytest.mark.parametrize("lowercase", [True, False])
def test_odd_texts(lowercase, vocabulary):
    rng = random.Random(0)
    pool = [chr(number) for first, last in SCRIPTS for number in range(first, last)]
    pool = [letter for letter in pool if unicodedata.category(letter) != "Cn"]
    texts = ["", " ", "\x00", "a" * 100, "a" * 101, "ä" * 100, "!" * 300, "the " * 10_000, "[SEP]" * 9, *ODD, *TYPED]
    for _ in range(6000):
        letters = rng.choices(pool, k=rng.randrange(12)) + rng.choices(ODD, k=rng.randrange(4))
        texts.append("".join(rng.sample(letters + rng.choices(TYPED, k=rng.randrange(3)), k=len(letters))))
    found = differing(WordPieces(vocabulary, lowercase), library(vocabulary, lowercase, 512), texts, 512)
    assert not found, ascii(found[:3])


def test_characters_that_came_after_the_library_s_unicode(vocabulary):
    """Every assigned character: only marks, punctuation and formats differ, all of rare scripts."""
    assigned = [c for c in map(chr, range(0x20000)) if unicodedata.category(c) not in ("Cn", "Cs", "Co", "Lo", "So")]
    texts = [f"a{letter}b {letter} e{letter}" for letter in assigned]
    found = differing(WordPieces(vocabulary), library(vocabulary, True, 512), texts, 512)
    letters = [text[1] for text in found]
    assert len(assigned) > 8000 and len(letters) < 700
    assert {unicodedata.category(letter)[0] for letter in letters} <= {"M", "P", "C", "L"}
    common = [
        *range(0x61D),
        *range(0x61E, 0x7FD),
        *range(0x900, 0x980),
        *range(0xE00, 0xE80),
        *range(0x1E00, 0x2E43),
        *range(0x3000, 0xA800),
    ]
    assert not {*map(ord, letters)} & {*common, *range(0xAC00, 0x10000), *range(0x1F000, 0x20000)}


def test_a_vocabulary_without_mask(vocabulary):
    """Then "[MASK]" is punctuation and a word."""
    pieces = [piece for piece in vocabulary if piece != "[MASK]"]
    texts = ["a [MASK] b", "[mask]", "[SEP]"]
    assert not differing(WordPieces(pieces), library(pieces, True, 16), texts, 16)


def test_half_a_surrogate_pair_is_refused(vocabulary):
    with pytest.raises(UserError, match="half a surrogate pair, which is no character; is it UTF-8"):
        WordPieces(vocabulary).encode("caf\udce9", None, 16)


def test_twenty_thousand_words_a_second(vocabulary, sentences):
    """Ten times as fast where the machine is idle; words that were not seen yet."""
    texts = [first for first, _ in sentences]
    ours = WordPieces(vocabulary)
    began = time.process_time()
    for text in texts:
        ours.encode(text, None, 128)
    assert sum(len(text.split()) for text in texts) > 20_000 * (time.process_time() - began)


def test_many_marks_behind_each_other_take_no_time():
    """Of which to put n in order takes n²: 50,000 took 7 s."""
    pieces = WordPieces(("[UNK]", "[CLS]", "[SEP]", "[PAD]", "a"))
    start = time.process_time()
    assert pieces.encode("a" + "\u0315\u0301" * 50_000, None, 8).ids == [1, 4, 2]
    assert time.process_time() - start < 2
