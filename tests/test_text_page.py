"""docs/text.md: what it says of packed files runs, and its numbers are those of MiniLM's files."""

import re
import shlex
from pathlib import Path

import pytest
import torch

import glue_files
import onebit
from onebit import models, pack
from onebit.checkpoints import checkpoint
from onebit.checkpoints.checkpoint import Checkpoint
from onebit.cli.main import main
from onebit.data.inputs import Words
from onebit.packing.from_checkpoint import sources
from onebit.runtime import native
from shared_data import glue_root

PAGE = (Path(__file__).parents[1] / "docs" / "text.md").read_text(encoding="utf-8")
PACKED = PAGE.partition("\n## Packed files\n")[2].partition("\n## ")[0]
WORDS = Words(glue_files.VOCABULARY, 24)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the commands run: a checkpoint, GLUE's made-up files, and lines of texts."""
    monkeypatch.chdir(tmp_path)
    glue_files.write(Path("glue"))
    Path("lines.txt").write_text("the film was good\nthe film was bad\tgood\n", encoding="utf-8")
    sizes = {"layers": 1, "width": 24, "heads": 3, "hidden": 48, "positions": 32, "vocabulary": len(WORDS.vocabulary)}
    config = {"name": "bert", "method": "bit", **sizes, "dropout": 0.0, "classes": 2}
    torch.manual_seed(0)
    model = models.create("bert", "bit", **sizes, dropout=0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    folder = Path("runs/glue-minilm-bit-0")
    folder.mkdir(parents=True)
    labels = {"name": "text", "labels": ["negative", "positive"]}
    checkpoint.save(folder / "best.ckpt", Checkpoint(config, model.state_dict(), labels, WORDS))
    return tmp_path


@pytest.mark.skipif(not native.available(), reason="the engine was not built")
def test_what_it_says_of_packed_files(folder, capsys):
    pytest.importorskip("tokenizers", reason="pip install 'onebit[text]'")
    pytest.importorskip("onnx", reason="the package onnx is not installed: pip install '.[onnx]'")
    ((shell,), (code,)) = (
        re.findall(rf"^```{kind}\n(.*?)^```$", PACKED, re.MULTILINE | re.DOTALL) for kind in ("sh", "python")
    )
    said = {}
    for line in shell.splitlines():
        assert main(shlex.split(line, comments=True)[1:]) == 0, line
        said[line.split()[1]] = capsys.readouterr().out.splitlines()
    assert said["run"][0] == "text,second,label_1,score_1,label_2,score_2" and len(said["run"]) == 3
    assert "texts/s" in said["bench"][-2] and "accuracy" in said["eval"][0] and Path("sst2.onnx").is_file()
    names = {}
    exec(compile(code, "docs/text.md", "exec"), names)
    assert names["encoded"].ids[0] == glue_files.VOCABULARY.index("[CLS]") and names["onebit"] is onebit


ROWS = re.findall(r"^\| (bit|bibert)\b.*?\| ([\d,]+) \| 1/([\d.]+) \|", PACKED, re.MULTILINE)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_sizes_of_packed_files(row, tmp_path, monkeypatch):
    """MiniLM's with one-bit words, which need a twentieth of float32's bytes at most. What is not compared here other tests compare."""
    from onebit.packing import pack as packing

    monkeypatch.setattr(packing, "compare", lambda *_: None, raising=True)
    method, size, ratio = row
    pieces = (glue_root().parent / "bert-base-uncased-vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    model = models.create("minilm", method, vocabulary=len(pieces)).eval()
    labels = ["negative", "positive"]
    result = pack(model, tmp_path / "net", **sources(Words(tuple(pieces), 8)), task="text", labels=labels)
    claimed = int(size.replace(",", ""))
    assert abs(result["bytes"] - claimed) < 1000 and result["float32_bytes"] > 20 * result["bytes"]
    assert f"of float32, {result['float32_bytes']:,}" in PACKED
    assert ratio == f"{result['float32_bytes'] / result['bytes']:.1f}"


def test_rows_are_found():
    assert [name for name, *_ in ROWS] == ["bit", "bibert"]
