"""`onebit run` on files and folders as they are: hidden ones, bad ones among good ones, many; formats of answers; threads."""

import csv
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import pixels
from onebit import runtime
from onebit.cli.main import main
from onebit.machine import processor


@pytest.fixture
def net(tmp_path):
    pixels.network(tmp_path / "net")
    return tmp_path / "net"


@pytest.fixture
def folder(tmp_path):
    """Three pictures, of which one lies deeper."""
    inside = tmp_path / "pictures"
    (inside / "b").mkdir(parents=True)
    for name, grey in (("a.png", 50), ("b/1.jpg", 100), ("c.PNG", 150)):
        Image.new("L", (9, 7), grey).save(inside / name)
    return inside


def run(capsys, *arguments):
    code = main([str(argument) for argument in ("run", *arguments)])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err.splitlines()


def spoil(folder):
    """Everything that can lie among pictures; returns the names of what cannot be answered."""
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("hello")
    (folder / "b" / "half.png").write_bytes((folder / "a.png").read_bytes()[:50])
    (folder / "folder.png").mkdir()
    (folder / "nowhere.png").symlink_to("/nowhere.png")
    (folder / "circle.png").symlink_to("circle.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "line\nbreak.png").write_text("hello")
    os.symlink("/dev/zero", folder / "zero.jpg")
    return {"empty", "text", "half", "folder", "nowhere", "circle", "pipe", "line\\x0abreak", "zero"}


def test_the_good_ones_are_answered_and_the_bad_ones_named(capsys, net, folder):
    names = spoil(folder)
    code, out, err = run(capsys, net, folder, "--top", "2")
    assert code == 2 and len(out) == 3
    assert [line.split("  ")[0] for line in out] == [str(folder / name) for name in ("a.png", "b/1.jpg", "c.PNG")]
    assert len(err) == len(names) + 1
    for name in names:
        (line,) = (line for line in err if f"/{name}." in line and "warning" in line)
        assert line.startswith("onebit: warning: ") and "cannot be read as an image: " in line
    assert err[-1].startswith("onebit: error: 9 of 12 files could not be read; the first is ")


def test_the_bad_ones_in_json(capsys, net, folder, tmp_path):
    spoil(folder)
    for arguments in (("--json",), ("--out", tmp_path / "report.json")):
        code, out, _ = run(capsys, net, folder, *arguments)
        result = json.loads(out[0]) if arguments == ("--json",) else json.loads((tmp_path / "report.json").read_text())
        assert code == 2 and len(out) == (1 if arguments == ("--json",) else 3)
        assert len(result["images"]) == 3 and len(result["failed"]) == 9
        assert all(set(row) == {"image", "error"} and row["image"] in row["error"] for row in result["failed"])


def test_one_file_alone_is_one_line(capsys, net, folder, tmp_path):
    spoil(folder)
    for name in ("empty.png", "text.png", "nowhere.png", "pipe.png", "absent.png", "line\nbreak.png", "zero.jpg"):
        code, out, err = run(capsys, net, folder / name)
        assert (code, out, len(err)) == (2, [], 1) and err[0].startswith("onebit: error: ")
    for wrong in (folder / "folder.png", tmp_path / "absent.png"):
        code, out, err = run(capsys, net, wrong, folder / "a.png")
        assert (code, len(out), len(err)) == (2, 1, 2)


def test_hidden_files_are_left_out_unless_named(capsys, net, folder):
    (folder / "._a.png").write_bytes(b"\0\5\x16\7")
    (folder / ".cache").mkdir()
    Image.new("L", (9, 7)).save(folder / ".cache" / "x.png")
    code, out, err = run(capsys, net, folder)
    assert (code, len(out), err) == (0, 3, [])
    assert len(run(capsys, net, folder / ".cache")[1]) == len(run(capsys, net, folder / ".cache" / "x.png")[1]) == 1


def test_links_are_followed_but_not_in_circles(capsys, net, folder, tmp_path):
    (tmp_path / "other").mkdir()
    Image.new("L", (9, 7)).save(tmp_path / "other" / "x.png")
    (folder / "link").symlink_to(tmp_path / "other")
    (folder / "b" / "up").symlink_to(folder)
    code, out, err = run(capsys, net, folder)
    assert (code, len(out), err) == (0, 4, [])


def test_what_may_not_be_read(capsys, net, folder, monkeypatch):
    opened, listed = os.open, os.scandir

    def refuse(function, what):
        def call(path, *arguments):
            if os.fspath(path).endswith(what):
                raise PermissionError(13, "Permission denied", path)
            return function(path, *arguments)

        return call

    monkeypatch.setattr(os, "open", refuse(opened, "a.png"))
    monkeypatch.setattr(os, "scandir", refuse(listed, "/b"))
    code, out, err = run(capsys, net, folder)
    assert code == 2 and len(out) == 1 and len(err) == 3
    assert all("Permission denied" in line for line in err[:2])


def test_formats(capsys, net, folder):
    (folder / 'with "quotes", commas.png').write_bytes((folder / "a.png").read_bytes())
    expected = json.loads(run(capsys, net, folder, "--top", 2, "--json")[1][0])["images"]
    assert [json.loads(line) for line in run(capsys, net, folder, "--top", 2, "--format", "jsonl")[1]] == expected
    _, out, _ = run(capsys, net, folder, "--top", 2, "--format", "csv")
    header, *rows = csv.reader(io.StringIO("\n".join(out)))
    assert header == ["image", "label_1", "score_1", "label_2", "score_2"]
    assert [row[0] for row in rows] == [row["image"] for row in expected]
    for row, wanted in zip(rows, expected, strict=True):
        assert [(row[1], float(row[2])), (row[3], float(row[4]))] == [
            (p["label"], p["score"]) for p in wanted["predictions"]
        ]
    assert len(run(capsys, net, folder, "--top", 9, "--format", "csv")[1][0].split(",")) == 7
    code, out, err = run(capsys, net, folder, "--json", "--format", "csv")
    assert (code, out) == (2, []) and "--format has no effect" in err[0]


def test_answers_come_as_they_are_made(tmp_path, net):
    """The first batch is printed before the second is read: which waits, until the first was seen."""
    many = tmp_path / "many"
    many.mkdir()
    for number in range(65):
        Image.new("L", (8, 8)).save(many / f"{number:03}.png")
    program = (
        "import sys, time\nfrom onebit.runtime import pictures\nseen = pictures.seen\n"
        "def slow(source, model):\n"
        "    if source.endswith('064.png'): sys.stdin.readline()\n"
        "    return seen(source, model)\n"
        "pictures.seen = slow\nfrom onebit.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "run", str(net), str(many)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        first = [process.stdout.readline() for _ in range(64)]
        assert all("png" in line for line in first)
        rest, _ = process.communicate("go\n", timeout=60)
        assert rest.count("\n") == 1 and process.returncode == 0


@pytest.mark.parametrize("report", (False, True))
def test_a_reader_that_leaves(tmp_path, net, report):
    """Silence, and the report holds everything all the same."""
    many = tmp_path / "many"
    many.mkdir()
    for number in range(200):
        Image.new("L", (8, 8)).save(many / f"{number:03}.png")
    out = f"--out {tmp_path}/report.json" if report else ""
    command = f"{sys.executable} -m onebit run {net} {many} {out} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[1:] == ["0"] and not done.stderr
    assert not report or len(json.loads((tmp_path / "report.json").read_text())["images"]) == 200


def test_a_network_without_answers_is_refused_once(capsys, tmp_path, folder):
    pixels.network(tmp_path / "five", (5, 8, 8))
    code, out, err = run(capsys, tmp_path / "five", folder)
    assert (code, out, len(err)) == (2, [], 1) and "5 channels" in err[0]


def test_more_threads_than_cpus(capsys, monkeypatch, net, folder):
    """As many as there are CPUs run; the command says so."""
    monkeypatch.setattr(processor, "count", lambda: 2)
    if runtime.native.available():
        assert [runtime.load(net, threads=threads).threads for threads in (1, 2, 1000)] == [1, 2, 2]
    code, out, err = run(capsys, net, folder, "--threads", 1000)
    assert code == 0 and len(out) == 3
    assert err == ["onebit: warning: --threads 1000: this process may use 2 CPUs; 2 threads run"]
    assert run(capsys, net, folder, "--threads", 2)[2] == []
    code = main(["bench", str(net), "--threads", "1,2,3", "--rounds", "1", "--json"])
    captured = capsys.readouterr()
    assert code == 0 and "--threads 3" in captured.err
    assert {row["threads"] for row in json.loads(captured.out)["rows"]} == {1, 2}


def test_pictures_without_pillow(net, folder):
    program = "import sys\nsys.modules['PIL'] = None\nfrom onebit.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "run", str(net), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (
        done.returncode == 2
        and done.stderr.count("\n") == 1
        and "[run]'" in done.stderr
        and "pip install" in done.stderr
    )


def test_running_needs_pillow_alone(net, folder):
    """Beside what the runtime needs; not PyTorch."""
    program = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in {"numpy", "safetensors", "PIL", "onebit"} | sys.stdlib_module_names:
            raise ModuleNotFoundError(name + " is blocked", name=name)

sys.meta_path.insert(0, Block())
from onebit import runtime
from onebit.cli.main import main
assert main(["run", *sys.argv[1:]]) == 0
runtime.load(sys.argv[1]).predict(sys.argv[2] + "/a.png")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(net), str(folder)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout.count("\n") == 3, done.stderr


def test_pixels_of_a_network_are_what_the_file_says(capsys, net, folder):
    lines = run(capsys, net, folder, "--format", "jsonl")[1]
    scores = [json.loads(line)["predictions"][0]["score"] for line in lines]
    np.testing.assert_allclose(np.array(scores) * 255, [50, 100, 150], atol=0.5)
