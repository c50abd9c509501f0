"""Where the time of one image goes in the engine, layer by layer, beside what its kernels can reach (a roofline).

A layer is what the engine runs at once: an operator and the elementwise operators fused behind it. Its rate is

    products of its convolution / seconds of the layer, all that is fused behind it included,

the peak is that of the same kernels on operands that stay in the L1 cache, measured in the same run, and the share of it
says how much of the layer is the multiplication itself.
"""

import tempfile
from math import prod
from typing import Any

import numpy as np

from onebit import runtime
from onebit.bench.contenders import check
from onebit.bench.networks import instruction_sets, machine, network, random_inputs, what
from onebit.bench.outputs import joined
from onebit.runtime import native


def bench_layers(
    model: str,
    method: str = "adabin",
    *,
    size: int = 32,
    isa: str = "best",
    rounds: int = 50,
    random: bool = False,
    int8: bool = False,
    length: int | None = None,
) -> dict[str, Any]:
    """{"machine", "input", "tables"}: for each instruction set {"isa", "peaks_gmacs", "rows", "total_us"}, on one thread.

    rows: {"layer", "fused_to", "op", "output" (H, W, C), "mmac", "us" (the least of all rounds), "gmacs", "peak_share"};
    the last two are null where nothing is multiplied. Raises UserError for values that do not fit.
    """
    with tempfile.TemporaryDirectory() as folder:
        path, networks = network(model, method, size, folder, random=random, int8=int8, length=length)
        reference = runtime.load(path, backend="reference")
        inputs = random_inputs(reference, 1, 1, int8=int8, named=bool(networks), length=length).engine
        expected = joined(reference(*inputs))
        tables = []
        for name in instruction_sets(isa):
            engine = runtime.load(path, threads=1, isa=name, backend="engine")
            check(f"engine on {engine.isa}", joined(engine(*inputs)), expected)
            tables.append(profiled(engine, inputs, rounds))
    return {"model": model, "machine": machine(), "input": what(inputs), "rounds": rounds, "tables": tables}


def profiled(engine: runtime.Model, inputs: list[np.ndarray], rounds: int) -> dict[str, Any]:
    """One of the tables of bench_layers, for one input as `engine` takes it."""
    backend = engine.backend
    assert isinstance(backend, native.Engine)
    peaks = {kind: rate / 1e9 for kind, rate in backend.peaks().items()}
    rows = []
    given = {source.name: values for source, values in zip(engine.inputs, inputs, strict=True)}
    for stage in backend.profile(given, rounds):
        macs = stage["products"] * prod(stage["output"])
        seconds = max(stage["seconds"], 1e-9)
        kind = stage["kind"]
        rows.append(
            {
                "layer": stage["node"],
                "fused_to": stage["fused_to"],
                "op": stage["op"],
                "output": stage["output"],
                "mmac": macs / 1e6,
                "us": 1e6 * seconds,
                "gmacs": macs / seconds / 1e9 if kind else None,
                "peak_share": macs / seconds / 1e9 / peaks[kind] if kind else None,
            }
        )
    return {"isa": engine.isa, "peaks_gmacs": peaks, "rows": rows, "total_us": sum(row["us"] for row in rows)}


def layer_table(result: dict[str, Any]) -> str:
    """The result of bench_layers as text: a line a layer, a part for each instruction set."""
    lines = [f"{result['machine']}; 1 thread, 1 {result['input']}, least of {result['rounds']} rounds"]
    for part in result["tables"]:
        peaks = ", ".join(f"{kind} {rate:.0f}" for kind, rate in part["peaks_gmacs"].items())
        lines += ["", f"{part['isa']}: {part['total_us']:.1f} us; peaks of the kernels in GMAC/s: {peaks}"]
        width = max(28, *(len(row["layer"]) for row in part["rows"]))
        lines.append(f"{'layer':{width}} {'op':16} {'output':>14} {'MMAC':>8} {'us':>9} {'GMAC/s':>8} {'of peak':>8}")
        for row in part["rows"]:
            rate = f"{row['gmacs']:8.0f} {100 * row['peak_share']:6.0f} %" if row["gmacs"] is not None else ""
            shape = "x".join(map(str, row["output"]))
            lines.append(
                f"{row['layer']:{width}} {row['op']:16} {shape:>14} {row['mmac']:8.2f} {row['us']:9.1f} {rate}".rstrip()
            )
    return "\n".join(lines)
