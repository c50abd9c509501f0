"""docs/own-model.md: its code runs, from top to bottom, and prints the table that it shows."""

import re
import warnings
from pathlib import Path

import pytest
import torch

from onebit.nn import binary_layers

PAGE = (Path(__file__).parents[1] / "docs" / "own-model.md").read_text(encoding="utf-8")
NEEDS = {"lightning": "lightning", "transformers": "transformers"}


@pytest.mark.filterwarnings("ignore")  # of Lightning and transformers
def test_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    skipped = []
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)):
        package = next((name for name in NEEDS if f"import {name}\n" in block), None)
        if package is not None:
            try:
                __import__(package)
            except ModuleNotFoundError:
                skipped.append(package)
                continue
        before = [layer.weight.detach().clone() for _, layer in binary_layers(names["model"])] if number else []
        with warnings.catch_warnings():
            warnings.simplefilter("error" if package is None else "ignore")
            exec(compile(block, f"own-model.md, block {number}", "exec"), names)
        after = [layer.weight for _, layer in binary_layers(names["model"])]
        trains = "onebit.pack(" not in block
        assert all(torch.equal(a, b) != trains for a, b in zip(before, after)), "the block has trained"
        if not trains:
            assert capsys.readouterr().out.endswith("True\n")
        if number == 0:
            shown = re.search(r"^    layer .*?\n\n", PAGE, re.MULTILINE | re.DOTALL)[0]
            printed = capsys.readouterr().out
            assert all(line.removeprefix("    ") in printed for line in shown.rstrip().splitlines())
    if skipped:
        pytest.skip(f"pip install {' '.join(skipped)}")
