"""How much memory each engine takes and how long it loads, in a process of its own that does nothing else: `onebit bench --memory`.

Counted is resident memory beyond that of the process when the engine's package was imported and the inputs made, as Linux
tells it: the highest value while the network is loaded and run (VmHWM), and the value after the last run (VmRSS). It holds
the engine's libraries as far as they are touched, weights, maps, and what preparing them took. Then the file is loaded again, some
times: what counts is the shortest, beside that of reading its bytes alone.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from onebit import runtime
from onebit.bench.contenders import check
from onebit.bench.networks import check_peers, machine, network, random_inputs
from onebit.bench.outputs import joined
from onebit.bench.peers import PEERS, versions
from onebit.bench.peers.peer import Call, FilePeer, calibration_batches
from onebit.errors import UserError
from onebit.runtime import native

RUNS = 5
LOADS = 7


def bench_memory(
    model: str,
    method: str = "adabin",
    *,
    size: int = 32,
    batch: int = 1,
    threads: Sequence[int] = (1,),
    peers: Sequence[str] = (),
    random: bool = False,
    int8: bool = False,
    length: int | None = None,
) -> dict[str, Any]:
    """{"machine", "rows"}: for each engine, precision and number of threads {"engine", "precision", "threads", "batch",
    "peak_mb", "resident_mb"} in 10^6 bytes, "load_ms" and "read_ms"; ours also "weights_mb" and "maps_mb" (of one thread).

    Raises UserError for values that do not fit, and where Linux does not tell.
    """
    if status("VmHWM") is None:
        raise UserError("--memory reads /proc/self/status, which is not there: it needs Linux")
    with tempfile.TemporaryDirectory() as folder:
        path, networks = network(model, method, size, folder, random=random, int8=int8, length=length)
        if peers:
            check_peers(path)
        kinds = file_peers(peers)
        reference = runtime.load(path, backend="reference")
        batches = calibration_batches(batch) if peers else 1
        inputs, samples = random_inputs(reference, batch, batches, int8=int8, named=bool(networks), length=length)
        expected = joined(reference(*(values[:1] for values in inputs)))
        check("engine", joined(runtime.load(path, backend="engine")(*inputs))[:1], expected)
        precision = "1 bit, else int8" if int8 else "1 bit"
        rows = [row_of("onebit", precision, path, count, inputs, folder) for count in threads]
        if kinds:
            rows += rows_of_peers(kinds, path, networks, reference, samples, threads, folder)
    return {"model": model, "machine": machine(), "rows": rows}


def file_peers(names: Sequence[str]) -> dict[str, type[FilePeer]]:
    """The classes of peers by name. Raises UserError for one that is unknown, not installed, or makes no file that another
    process could run."""
    versions(names)
    kinds: dict[str, type[FilePeer]] = {}
    for name in names:
        kind = PEERS[name]
        if not issubclass(kind, FilePeer):
            raise UserError(f"--memory: {name} runs no file of its own; leave it out of --peers")
        kinds[name] = kind
    return kinds


def rows_of_peers(
    kinds: Mapping[str, type[FilePeer]],
    path: str,
    networks: Any,
    reference: runtime.Model,
    samples: list[np.ndarray],
    threads: Sequence[int],
    folder: str,
) -> list[dict[str, Any]]:
    """A row for each peer, precision and number of threads, from files that the peers make here, of the parent and of the
    packed network at `path`. Raises UserError where a process fails, and for a packed file whose parent is not in the table."""
    from onebit.bench import peer_contenders  # loads PyTorch, which a packed file alone does without

    classes = len(reference.labels) if reference.labels else joined(reference(samples[0][:1])).shape[1]
    parent = networks[1] if networks else peer_contenders.parent_of(reference.name, reference.input_shape, classes)
    parent = peer_contenders.Joined(parent)
    peer_contenders.settle(parent, samples)
    rows = []
    for name, kind in kinds.items():
        with peer_contenders.silence():
            peer = kind(parent, samples, folder)
            peer_contenders.add_packed(name, peer, path, samples, folder)
        for count in threads:
            rows += [
                row_of(name, precision, file, count, samples[:1], folder) for precision, file in peer.paths.items()
            ]
    return rows


def row_of(
    engine: str, precision: str, path: str, threads: int, inputs: list[np.ndarray], folder: str
) -> dict[str, Any]:
    """A row of bench_memory: runs this module on the file in a new process. Raises UserError where that fails."""
    saved = os.path.join(folder, "inputs.npz")
    np.savez(saved, *inputs)
    command = [sys.executable, "-m", __name__, engine, precision, path, str(threads), saved]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{engine} ({precision}) fails in a process of its own: {done.stderr.strip()[-500:]}")
    row = {"engine": engine, "precision": precision, "threads": threads, "batch": len(inputs[0])}
    return row | json.loads(done.stdout.splitlines()[-1])


def measured(engine: str, precision: str, path: str, threads: int, inputs: list[np.ndarray]) -> dict[str, float]:
    """What `row_of` measures, in this process, in 10^6 bytes and ms."""
    if engine == "onebit":
        native.extension()
    else:
        import_module(PEERS[engine].packages[0])
    before = status("VmRSS") or 0
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    call, own = opened(engine, precision, path, threads, inputs)
    for _ in range(RUNS):
        call(*inputs)
    peak, after = (status(key) or 0 for key in ("VmHWM", "VmRSS"))
    peak = max(peak, after)  # Linux counts in portions: either may lag
    times = {
        "load_ms": shortest(lambda: opened(engine, precision, path, threads, inputs)),
        "read_ms": shortest(Path(path).read_bytes),
    }
    return {"peak_mb": (peak - before) / 1e6, "resident_mb": (after - before) / 1e6, **times, **own}


def shortest(call: Callable[[], object]) -> float:
    """ms of the fastest of LOADS calls, what they give freed between them."""
    times = []
    for _ in range(LOADS):
        start = time.perf_counter()
        made = call()
        times.append(time.perf_counter() - start)
        del made
    return 1e3 * min(times)


def opened(
    engine: str, precision: str, path: str, threads: int, inputs: list[np.ndarray]
) -> tuple[Call, dict[str, float]]:
    """(the call of a file in one of the engines, what ours tells of its memory: {"weights_mb", "maps_mb"} for such inputs)."""
    if engine != "onebit":
        kind = PEERS[engine]  # checked by file_peers in the process that made the file: here it would count as memory
        assert issubclass(kind, FilePeer)
        return kind.open(path, precision, threads), {}
    model = runtime.load(path, threads=threads, backend="engine")
    assert isinstance(model.backend, native.Engine)
    sizes = {source.name: source.sizes(values) for source, values in zip(model.inputs, inputs, strict=True)}
    return model, {f"{key}_mb": value / 1e6 for key, value in model.backend.memory(sizes).items()}


def status(key: str) -> int | None:
    """A line of /proc/self/status in bytes; None where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), None)


def memory_table(result: dict[str, Any]) -> str:
    """The result of bench_memory as text: a line a row, in 10^6 bytes."""
    lines = [f"{result['machine']}; resident memory beyond the imported package, each in a process of its own"]
    lines[0] += f"; load: the shortest of {LOADS}, of it reading the bytes"
    lines.append(f"{'engine':13} {'precision':23} threads batch   peak MB   after MB    load ms  read ms")
    for row in result["rows"]:
        line = f"{row['engine']:13} {row['precision']:23} {row['threads']:7} {row['batch']:5} "
        line += f"{row['peak_mb']:9.1f} {row['resident_mb']:10.1f} {row['load_ms']:10.2f} {row['read_ms']:8.2f}"
        if "maps_mb" in row:
            line += f"   (weights {row['weights_mb']:.2f}, maps {row['maps_mb']:.2f} a thread)"
        lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    engine, precision, path, threads, inputs = sys.argv[1:]
    with np.load(inputs) as file:
        given = [file[name] for name in file.files]
    print(json.dumps(measured(engine, precision, path, int(threads), given)))
