"""examples/ray_folder.py: many images through Ray Data, with the answers of `onebit run`."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from onebit import runtime
from onebit.runtime import pictures, run

pytest.importorskip("PIL", reason="Pillow is not installed: pip install '.[run]'")
from PIL import Image

if find_spec("ray") is None or find_spec("pyarrow") is None:
    pytest.skip("Ray is not installed: pip install 'ray[data]'", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "tests" / "old" / "adabin.safetensors"
COUNT = 1000


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Images in colour and grey, of any size, in subfolders and of several formats; one damaged, and what is no image."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    endings = ("png", "bmp", "JPG", "webp")
    for number in range(COUNT):
        path = folder / str(number % 7) / f"{number}.{endings[number % len(endings)]}"
        path.parent.mkdir(exist_ok=True)
        shape = (*random.integers(6, 40, 2), 3)[: 3 - number % 2]
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(path)
    (folder / "0" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n of no use")
    (folder / "notes.txt").write_text("no image")
    return folder


def answers(tmp_path: Path, *arguments: object) -> list[dict[str, object]]:
    """What the example writes, in a process whose home is not this user's: Ray leaves files there."""
    import pyarrow.parquet

    out = tmp_path / "answers"
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "ray_folder.py", MODEL, *arguments, out],
        env=os.environ | {"HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": "local"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    files = sorted(out.glob("*.parquet"))
    assert files and not [path for path in out.iterdir() if path not in files]
    return [row for file in files for row in pyarrow.parquet.read_table(file).to_pylist()]


def test_a_folder_has_the_answers_of_onebit_run(folder, tmp_path):
    count, rows = run.run(runtime.load(MODEL), [str(folder)])
    expected = {row.path: row.answer and row.answer[0] for row in rows}
    assert count == len(expected) == COUNT + 1 and len({a["label"] for a in expected.values() if a}) > 1
    found = answers(tmp_path, folder)
    assert len(found) == count and {row["path"] for row in found} == set(expected)
    for row in found:
        assert set(row) == {"path", "label", "score", "problem"}
        if (answer := expected[row["path"]]) is None:
            assert row["label"] == "" and np.isnan(row["score"]) and "cannot be read as an image" in row["problem"]
        else:
            assert (row["label"], row["score"], row["problem"]) == (answer["label"], answer["score"], "")


def test_a_column_of_encoded_images(folder, tmp_path):
    """In parquet files, whose other columns the answers keep none of but the path."""
    import pyarrow
    import pyarrow.parquet

    paths = [file.path for file in pictures.find([str(folder)]) if "damaged" not in file.path][:200]
    content = [Path(path).read_bytes() for path in paths]
    (tmp_path / "images").mkdir()
    table = pyarrow.table({"path": paths, "bytes": content, "size": [len(c) for c in content]})
    for part in range(2):
        pyarrow.parquet.write_table(table.slice(100 * part, 100), tmp_path / "images" / f"{part}.parquet")
    model = runtime.load(MODEL)
    expected = dict(zip(paths, model.predict(paths), strict=True))
    assert model.predict(content) == list(expected.values())
    found = {row["path"]: row for row in answers(tmp_path, "--parquet", tmp_path / "images")}
    assert found.keys() == expected.keys()
    assert all([{k: found[path][k] for k in ("label", "score")}] == expected[path] for path in paths)
