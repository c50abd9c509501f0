"""docs/adding.md adds an operator in four places: the engine is built with it, and a model that uses it packs and runs to the
same bits in the reference and on every instruction set."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import additions
from builds import build_engine

NAME = "softsign"
SCRIPT = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("_editable")]
import numpy as np
import torch
from torch import nn
import onebit
from onebit import runtime
from onebit.runtime import format, native

assert onebit.__file__.startswith(sys.argv[1]) and runtime.native.extension().__file__.startswith(sys.argv[1])
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Softsign(), nn.Conv2d(5, 4, 3), nn.Softsign(), nn.Flatten(),
                      nn.Softsign(), nn.Linear(4 * 25, 6)).eval()
path = sys.argv[1] + "/net.onebit"
onebit.pack(model, path, input_shape=(3, 7, 7))
assert [node["op"] for node in runtime.load(path).graph["nodes"]].count("softsign") == 3
x = np.random.default_rng(0).normal(size=(3, 3, 7, 7)).astype(np.float32)
expected = runtime.load(path, backend="reference")(x)
np.testing.assert_allclose(expected, model(torch.from_numpy(x)).detach().numpy(), rtol=1e-4, atol=1e-5)
for isa in native.supported():
    for threads in (1, 2):
        answer = runtime.load(path, backend="engine", isa=isa, threads=threads)(x)
        np.testing.assert_array_equal(answer.view(np.int32), expected.view(np.int32), err_msg=isa)
data = open(path, "rb").read().replace(b"softsign", b"softsigm")
for reader in (format.decode, lambda data: native.Engine(data, 1, None)):
    try:
        reader(data)
    except onebit.errors.FormatError as error:
        assert "unknown operator 'softsigm'" in str(error).replace('"', "'"), error
    else:
        raise AssertionError("softsigm was taken")
print("passed")
"""


def test_an_operator_is_four_places(tmp_path):
    section = additions.sections()["operator"]
    (code,) = re.findall(r"^```cpp\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^The row of [^,]+, in `([\w/.]+)`: `(.+)`$", section, re.MULTILINE)
    copy = tmp_path / "onebit"
    for folder in ("src", "csrc", "docs", "tests"):
        shutil.copytree(additions.ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("CMakeLists.txt", "pyproject.toml"):
        shutil.copy(additions.ROOT / name, copy)
    file = f"csrc/operators/{NAME}.cc"
    assert not (additions.ROOT / file).exists()
    (copy / file).write_text(code, encoding="utf-8")
    for path, row in rows:
        text = (copy / path).read_text(encoding="utf-8")
        (copy / path).write_text(with_row(path, text, row), encoding="utf-8")
    assert [file, *(path for path, _ in rows)] == [
        file,
        "src/onebit/runtime/operators.py",
        "src/onebit/packing/layers.py",
        "docs/format.md",
    ]
    build_engine(copy, tmp_path / "build", copy / "src" / "onebit" / "runtime")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(copy)],
        env={**os.environ, "PYTHONPATH": str(copy / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout.endswith("passed\n"), done.stderr


def with_row(path: str, text: str, row: str) -> str:
    """The text of a table's file with one row more: behind the last row of the table of operators, or of MODULES."""
    start = {".md": r"^\| `option_a` .*\n", ".py": r"^(?:OPERATORS|MODULES): dict\[.*?(?=^\})"}[Path(path).suffix]
    (table,) = re.findall(start, text, re.MULTILINE | re.DOTALL if path.endswith(".py") else re.MULTILINE)
    indent = "    " if path.endswith(".py") else ""
    return text.replace(table, f"{table}{indent}{row}\n")
