"""`onebit bench`: peers are checked before they are timed, other processes' load is told, ratios are to our best row."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from onebit import models, pack
from onebit.bench import turns
from onebit.bench.contenders import MAX_ISA, Contender
from onebit.bench.networks import random_images
from onebit.bench.peers import PEERS
from onebit.bench.peers.torch import Compiled, Eager
from onebit.bench.speed import bench_speed, speed_table
from onebit.cli.main import main
from onebit.errors import UserError
from onebit.machine import load as cpu_load
from onebit.runtime import Image, native

TINY = ("resnet8", "--size", "8", "--rounds", "2")


def run(capsys, *arguments):
    """(exit code, standard output, standard error) of `onebit bench` with these arguments."""
    code = main(["bench", *map(str, arguments)])
    return code, *capsys.readouterr()


def refused(capsys, *arguments):
    code, out, err = run(capsys, *arguments)
    assert code == 2 and not out and err.count("onebit: error: ") == 1, (code, out, err)
    return err


def computes_in_bf16() -> bool:
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.parametrize("name", ["torch", "onnxruntime", "openvino"])
def test_a_peer_gives_checked_rows(capsys, name):
    for package in PEERS[name].packages:
        if find_spec(package) is None:
            pytest.skip(f"the package {package} is not installed: pip install '.[peers]'")
    code, out, err = run(capsys, *TINY, "--threads", "1,2", "--batch", "2", "--peers", name, "--json")
    assert code == 0, err
    result = json.loads(out)  # nothing else was printed, such as a progress bar
    assert list(result["peers"]) == [name]
    if name == "openvino" and computes_in_bf16():
        # by itself: signs near 0 turn, and with random weights the answers of the packed network with them
        assert all("openvino (1 bit" in warning for warning in result["warnings"])
    else:
        assert result["warnings"] == []
    precisions = {"torch": ["float32"], "onnxruntime": ["float32", "int8"], "openvino": ["float32", "int8", "1 bit"]}[
        name
    ]
    expected = [
        (engine, precision, threads)
        for threads in (1, 2)
        for engine, precision in [("onebit", "1 bit"), *((name, p) for p in precisions)]
    ]
    assert [(row["engine"], row["precision"], row["threads"]) for row in result["rows"]] == expected
    for row in result["rows"]:
        assert row["batch"] == 2 and row["n"] >= 18 and 0 < row["q1_ms"] <= row["median_ms"] <= row["q3_ms"]


def test_weights_of_8_bits_take_images_of_bytes(capsys):
    code, out, err = run(capsys, *TINY, "--int8", "--json")
    assert code == 0, err
    assert next(row["precision"] for row in json.loads(out)["rows"]) == "1 bit, else int8"
    code, out, err = run(capsys, *TINY, "--int8", "--layers", "--json")
    assert code == 0, err
    (table,) = json.loads(out)["tables"]
    assert table["peaks_gmacs"]["bytes"] > 0
    assert table["rows"][0]["peak_share"] == pytest.approx(table["rows"][0]["gmacs"] / table["peaks_gmacs"]["bytes"])


@pytest.mark.parametrize("in_bytes", [False, True])
def test_our_engine_and_the_others_get_the_same_inputs(in_bytes):
    image = Image((3, 5, 4), mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.1))
    (ours,), batches = random_images(image, 2, 3, in_bytes=in_bytes)
    assert [(x.shape, x.dtype, x.flags.c_contiguous) for x in batches] == [((2, 3, 5, 4), np.float32, True)] * 3
    if in_bytes:
        assert ours.shape == (2, 5, 4, 3) and ours.dtype == np.uint8
        mean, std = np.array(image.mean, np.float32), np.array(image.std, np.float32)
        ours = ((ours.astype(np.float32) / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(ours, batches[0])
    assert len({x.tobytes() for batch in batches for x in batch}) == 6


def test_memory_is_that_of_a_process_of_its_own(capsys):
    code, out, err = run(capsys, "resnet8", "--size", "8", "--memory", "--threads", "1,2", "--json")
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert [row["threads"] for row in rows] == [1, 2]
    for row in rows:
        assert 0 < row["weights_mb"] + row["maps_mb"] < row["peak_mb"] < 50
        assert row["resident_mb"] <= row["peak_mb"]
    assert "torch runs no file of its own" in refused(capsys, "resnet8", "--size", "8", "--memory", "--peers", "torch")


def test_the_default_rounds_time_a_hundred_runs():
    slow = Contender({"engine": "onebit", "threads": 1}, lambda: None)
    rows, _ = turns.measure([slow], 1, 12)
    assert rows[0]["n"] >= 100 and 12 * turns.TURN_CALLS[0] >= 100


def test_compiled_pytorch_has_the_threads_in_its_code(monkeypatch):
    options = []

    def compile_(network, **given):
        options.append(given["options"])
        return network

    monkeypatch.setattr(torch, "compile", compile_)
    images = np.zeros((1, 3, 8, 8), np.float32)
    peer = Compiled(models.create("resnet8", image_size=8).eval(), [images], "")
    assert peer.sessions(2)["float32"](images).shape == (1, 10)
    assert options[0]["cpp.threads"] == 2


def test_the_parent_of_a_packed_file_is_found_by_name(capsys, tmp_path):
    network = models.create("resnet8", "adabin", in_channels=1, image_size=8, classes=4)
    pack(network, tmp_path / "net.safetensors")
    code, out, err = run(capsys, tmp_path / "net.safetensors", "--rounds", "2", "--peers", "torch", "--json")
    assert code == 0, err
    assert [row["engine"] for row in json.loads(out)["rows"]] == ["onebit", "torch"]
    pack(network, tmp_path / "other.safetensors", name="mine")
    line = refused(capsys, tmp_path / "other.safetensors", "--peers", "torch")
    assert "--peers needs a model of the table" in line and "mine" in line


@pytest.mark.parametrize("options", [["--rounds", "2"], ["--layers"], ["--memory"]], ids=str)
def test_a_packed_file_is_benchmarked_without_pytorch(tmp_path, options):
    pack(models.create("resnet8", "adabin", image_size=8), tmp_path / "net.safetensors")
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('as if it was not installed', name='torch')")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "onebit", "bench", str(tmp_path / "net.safetensors"), *options]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout, done.stderr


def test_the_names_of_peers_load_no_package():
    script = "import sys; from onebit.bench.peers import PEERS; print(*PEERS); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    names, loaded = (set(line.split()) for line in done.stdout.splitlines())
    assert names == {"torch", "torch-compile", "onnxruntime", "openvino"} and not names & loaded


def test_random_prefers_the_table_to_a_file(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet8").write_text("not a packed file")
    assert "not a onebit file" in refused(capsys, *TINY)
    assert run(capsys, *TINY, "--random", "--peers", "torch")[0] == 0


def test_unknown_and_missing_peers(capsys, monkeypatch):
    assert "peer 'tflite' is unknown; choose one of onnxruntime, openvino, torch, torch-compile" in refused(
        capsys, *TINY, "--peers", "tflite"
    )
    monkeypatch.setitem(sys.modules, "nncf", None)  # as if it was not installed
    monkeypatch.setitem(sys.modules, "openvino", None)
    line = refused(capsys, *TINY, "--peers", "torch,openvino")
    assert "openvino, nncf" in line and "[peers]'" in line


def slightly_wrong(answer):
    return answer * 1.01


def same_for_all(answer):
    return np.broadcast_to(answer.mean(0), answer.shape) + 100


def unrelated(answer):
    return np.random.default_rng(1).standard_normal(answer.shape)


@pytest.mark.parametrize(
    ("precision", "change", "says"),
    [
        ("float32", slightly_wrong, "answers differently"),
        ("float32", lambda answer: answer * np.nan, "answers differently"),
        ("float32", lambda answer: answer[:, :1], "shape"),
        ("int8", same_for_all, "correlation"),
        ("int8", unrelated, "correlation"),
        ("int8", lambda answer: -answer, "correlation -1.00"),
        ("int8", lambda answer: answer * np.nan, "correlation"),
        ("int8", lambda answer: answer[:, :1], "shape"),
    ],
)
def test_a_peer_with_wrong_answers_is_not_timed(capsys, monkeypatch, precision, change, says):
    """One wrong batch is enough; a wrong int8 is one whose answers do not follow float's from image to image."""
    change_peer(monkeypatch, precision, change)
    line = refused(capsys, *TINY, "--batch", "4", "--peers", "torch")
    assert says in line and "no time is reported" in line and f"torch ({precision}" in line


def test_a_coarse_int8_is_timed_with_a_warning(capsys, monkeypatch):
    noise = np.random.default_rng(0)
    change_peer(monkeypatch, "int8", lambda answer: answer + 0.7 * answer.std(0) * noise.standard_normal(answer.shape))
    code, out, _ = run(capsys, *TINY, "--batch", "16", "--peers", "torch")
    assert code == 0 and re.search(r"warning: torch \(int8, threads: 1\): its answers have correlation 0\.[78]", out)


def change_peer(monkeypatch, precision, change):
    class Changed(Eager):
        def sessions(self, threads):
            right = super().sessions(threads)["float32"]
            return {precision: lambda images: change(right(images))}

    monkeypatch.setitem(PEERS, "torch", Changed)


def test_the_limit_of_the_instruction_set_is_told(capsys, monkeypatch):
    monkeypatch.setenv(MAX_ISA, "AVX2")
    code, out, _ = run(capsys, *TINY, "--peers", "torch")
    assert code == 0 and "ONEDNN_MAX_CPU_ISA=AVX2" in out.splitlines()[2] and "max AVX2" in out


def test_ratios_are_to_our_best_row_with_the_same_threads():
    """Round by round, so that a machine twice as slow in the second of three rounds changes none."""

    def contender(engine, threads):
        return Contender({"engine": engine, "threads": threads}, lambda: None)

    contenders = [contender(*row) for row in (("onebit", 1), ("onebit", 1), ("torch", 1), ("onebit", 2), ("torch", 2))]
    times = [[[factor * ms] * 9 for factor in (1, 2, 1)] for ms in (4.0, 2.0, 3.0, 1.0, 3.0)]
    assert turns.ratios(contenders, times) == [2.0, 1.0, 1.5, 1.0, 3.0]


def test_the_table_tells_the_load():
    times = {"median_ms": 3.0, "q1_ms": 2.0, "q3_ms": 4.0, "n": 100, "ratio": 1.5}
    row = {"engine": "torch", "precision": "float32", "isa": "auto", "threads": 1, "batch": 1, **times}
    loads = {"before_percent": None, "during_percent": 12.34}
    text = speed_table({"machine": "m", "rounds": 2, "warnings": ["w"], "other_load": loads, "rows": [row]})
    assert "other processes used 12 % of a CPU (just before: unknown)" in text and "warning: w" in text
    assert text.splitlines()[-1].split()[-3:] == ["(2.000-4.000)", "100", "1.50"]


def test_load_is_what_others_used(monkeypatch, tmp_path):
    """Readings are (all CPUs busy, this process busy, the clock) in seconds."""
    readings = iter([(10.0, 1.0, 5.0), (12.0, 2.5, 6.0), (12.0, 2.51, 7.0), None])
    monkeypatch.setattr(cpu_load, "reading", lambda: next(readings))
    load = cpu_load.OtherLoad()
    assert [load.percent(), load.percent(), load.percent()] == [50.0, 0.0, None]
    monkeypatch.undo()
    stat = tmp_path / "stat"
    monkeypatch.setattr(cpu_load, "STAT", stat)
    assert cpu_load.reading() is None
    stat.write_text("cpu  100 20 30 9999 9999 4 5 70 80 90\ncpu0 1 1 1\n")
    assert cpu_load.reading()[0] == pytest.approx(1.59)  # idle, waiting and stolen time is not use


@pytest.mark.skipif(not cpu_load.STAT.exists(), reason="no /proc/stat here")
def test_a_busy_process_is_seen():
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        assert cpu_load.during(0.5) > cpu_load.IDLE_PERCENT
    finally:
        busy.kill()
        busy.wait()


def test_require_idle(capsys, monkeypatch):
    def loads(before, meanwhile):
        monkeypatch.setattr(cpu_load, "during", lambda seconds: before)
        monkeypatch.setattr(cpu_load.OtherLoad, "percent", lambda self: meanwhile)

    for before, meanwhile, says in ((11.0, 0.0, "11 %"), (0.0, 30.0, "30 %"), (None, None, "leave it out")):
        loads(before, meanwhile)
        assert says in refused(capsys, *TINY, "--require-idle")
        assert run(capsys, *TINY)[0] == 0
    loads(9.0, 9.0)
    code, out, _ = run(capsys, *TINY, "--require-idle")
    assert code == 0 and "other processes used 9 % of a CPU (just before: 9 %)" in out


def test_a_wrong_engine_is_not_timed(monkeypatch):
    from onebit.runtime import native

    right = native.Engine.run

    def wrong(self, values):
        return {name: value * np.float32(1.01) for name, value in right(self, values).items()}

    monkeypatch.setattr(native.Engine, "run", wrong)
    with pytest.raises(UserError, match="no time is reported"):
        bench_speed("resnet8", size=8, rounds=2)


def test_layers_and_their_share_of_the_peak(capsys):
    arguments = ["bench", "resnet8", "--size", "8", "--layers", "--rounds", "3", "--isa", "all", "--json"]
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert [part["isa"] for part in result["tables"]] == native.supported()
    for part in result["tables"]:
        rows = {row["layer"]: row for row in part["rows"]}
        stem, binary = rows["conv1"], next(row for row in part["rows"] if row["op"] == "binary_conv")
        assert stem["mmac"] == pytest.approx(8 * 8 * 16 * 27 / 1e6)
        assert binary["mmac"] == pytest.approx(8 * 8 * 16 * 9 * 16 / 1e6)
        for row, kind in ((stem, "float"), (binary, "binary")):
            assert row["gmacs"] == pytest.approx(1e3 * row["mmac"] / row["us"])
            assert row["peak_share"] == pytest.approx(row["gmacs"] / part["peaks_gmacs"][kind])
        assert part["total_us"] == pytest.approx(sum(row["us"] for row in part["rows"]))
    assert main(["bench", "resnet8", "--size", "8", "--layers", "--rounds", "1"]) == 0
    assert "of peak" in capsys.readouterr().out


def test_layers_of_a_missing_file(capsys):
    assert main(["bench", "nosuch.safetensors", "--layers"]) == 2
    assert "nosuch.safetensors" in capsys.readouterr().err
