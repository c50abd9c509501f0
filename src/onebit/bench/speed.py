"""Time per batch of a network in the engine, in PyTorch where the model is given by name, and in its peers if asked.

Every contender's answer is checked before anything is timed; contenders, at every number of threads, take turns within
each round, so that a slower phase of the machine meets them all. Reported are the median and quartiles of all timed runs,
and the median over rounds of the ratio to our best instruction set at the same number of threads.
"""

import os
import tempfile
from collections.abc import Sequence
from functools import partial
from typing import Any

from onebit import runtime
from onebit.bench.contenders import MAX_ISA, Contender, check, check_signs
from onebit.bench.networks import check_peers, eager, instruction_sets, machine, network, random_inputs, what
from onebit.bench.outputs import joined
from onebit.bench.peers import versions
from onebit.bench.peers.peer import calibration_batches
from onebit.bench.turns import measure
from onebit.errors import UserError
from onebit.machine import load as cpu_load


def bench_speed(
    model: str,
    method: str = "adabin",
    *,
    size: int = 32,
    batch: int = 1,
    threads: Sequence[int] = (1,),
    isa: str = "best",
    rounds: int = 12,
    peers: Sequence[str] = (),
    random: bool = False,
    int8: bool = False,
    length: int | None = None,
    require_idle: bool = False,
) -> dict[str, Any]:
    """Rows {"engine", "precision", "isa", "threads", "batch", "median_ms", "q1_ms", "q3_ms", "n", "ratio"} for a packed
    file, or for a model of the table with random weights, which `random` says where a file has the same name; of texts also
    "per_second": texts in a second.

    int8          the engine takes images of bytes, and the float weights of a model given by name have 8 bits
    length        tokens of a text, by default as many as the network takes
    peers         names of peers.PEERS, which run the full-precision parent in place of eager PyTorch's rows
    require_idle  raise UserError where other processes use more than 10 % of a CPU

    Raises UserError for values that do not fit, and where an answer is wrong.
    """
    load = cpu_load.during(0.3)
    if require_idle:
        check_idle(load)
    result: dict[str, Any] = {"model": model}
    with tempfile.TemporaryDirectory() as folder:
        path, networks = network(model, method, size, folder, random=random, int8=int8, length=length)
        if networks:
            result["method"] = method
        if peers:
            check_peers(path)
            result["peers"] = versions(peers)
            if limit := os.environ.get(MAX_ISA):
                result[MAX_ISA] = limit
        contenders, doubts, given = checked_contenders(path, networks, batch, threads, isa, peers, folder, int8, length)
        rows, other = measure(contenders, batch, rounds)
    if given.startswith("text"):
        rows = [{**row, "per_second": round(1000 * batch / row["median_ms"], 2)} for row in rows]
    if require_idle:
        check_idle(other)
    loads = {"before_percent": load, "during_percent": other}
    result |= {"input": given, "machine": machine(), "rounds": rounds, "other_load": loads}
    return {**result, "warnings": doubts, "rows": rows}


def checked_contenders(
    path: str,
    networks: Any,
    batch: int,
    threads: Sequence[int],
    isa: str,
    peers: Sequence[str],
    folder: str,
    int8: bool = False,
    length: int | None = None,
) -> tuple[list[Contender], list[str], str]:
    """(contenders, warnings, one input in words). networks are the (binary, parent) of a model with random weights, None for a
    file."""
    reference = runtime.load(path, backend="reference")
    batches = calibration_batches(batch) if peers else 1
    inputs, samples = random_inputs(reference, batch, batches, int8=int8, named=bool(networks), length=length)
    expected = joined(reference(*(values[:1] for values in inputs)))
    contenders: list[Contender] = []
    doubts: list[str] = []
    for count in threads:
        for name in instruction_sets(isa):
            engine = runtime.load(path, threads=count, isa=name, backend="engine")
            check(f"engine on {engine.isa}", joined(engine(*inputs))[:1], expected)
            precision = "1 bit, else int8" if int8 else "1 bit"
            row = {"engine": "onebit", "precision": precision, "isa": engine.isa, "threads": count}
            contenders.append(Contender(row, partial(engine, *inputs)))
    if networks:
        binary, parent = (eager(network, samples[0]) for network in networks)
        doubts = check_signs("PyTorch (the binary network)", binary()[:1].numpy(), expected)
        for count in [] if peers else threads:
            for precision, call in (("float32, binary network", binary), ("float32, parent", parent)):
                row = {"engine": "pytorch", "precision": precision, "isa": "eager", "threads": count}
                contenders.append(Contender(row, call))
    if not peers:
        return contenders, doubts, what(inputs)
    from onebit.bench import peer_contenders  # loads PyTorch, which a packed file alone does without

    shape, labels = reference.input_shape, reference.labels
    classes = len(labels) if labels else expected.shape[1]
    parent = networks[1] if networks else peer_contenders.parent_of(reference.name, shape, classes)
    theirs, others = peer_contenders.checked_peers(peers, path, parent, samples, threads, folder)
    return sorted(contenders + theirs, key=lambda contender: contender.row["threads"]), doubts + others, what(inputs)


def check_idle(percent: float | None) -> None:
    if percent is None:
        raise UserError(f"--require-idle: {cpu_load.STAT} does not tell what other processes use; leave it out")
    if percent > cpu_load.IDLE_PERCENT:
        raise UserError(
            f"--require-idle: other processes use {percent:.0f} % of a CPU, more than {cpu_load.IDLE_PERCENT:.0f} %; "
            "no time is reported"
        )


def speed_table(result: dict[str, Any]) -> str:
    """The result of bench_speed as text: a line a row, with the ratio to our best row at the same number of threads."""
    text = any("per_second" in row for row in result["rows"])
    lines = [
        f"{result['machine']}; medians of {result['rounds']} interleaved rounds{'; ' + result['input'] if text else ''}"
    ]
    if peers := result.get("peers"):
        lines.append("peers: " + ", ".join(f"{name} {version}" for name, version in peers.items()))
    if limit := result.get(MAX_ISA):
        lines.append(f"{MAX_ISA}={limit}, which PyTorch and OpenVINO obey and onnxruntime does not")
    lines += [f"warning: {doubt}" for doubt in result["warnings"]]
    before, during = ("unknown" if p is None else f"{p:.0f} %" for p in result["other_load"].values())
    lines.append(f"other processes used {during} of a CPU (just before: {before})")
    lines.append(
        f"{'engine':13} {'precision':23} {'isa':10} threads batch   median ms  {'(quartiles)':19} {'n':>5}   ratio"
        + "  texts/s" * text
    )
    for row in result["rows"]:
        quartiles = f"({row['q1_ms']:.3f}-{row['q3_ms']:.3f})"
        lines.append(
            f"{row['engine']:13} {row['precision']:23} {row['isa']:10} {row['threads']:7} {row['batch']:5} "
            f"{row['median_ms']:11.3f}  {quartiles:19} {row['n']:5} {row['ratio']:7.2f}"
            + (f" {row['per_second']:8.1f}" if text else "")
        )
    return "\n".join(lines)
