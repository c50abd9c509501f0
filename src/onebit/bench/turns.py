"""Contenders take turns within each round, so that a slower phase of the machine meets them all."""

import statistics
import sys
import time
from typing import Any

from onebit.bench.contenders import Contender
from onebit.machine import load as cpu_load

TURN_SECONDS = 0.05  # timed calls of one contender in one round take about so long,
TURN_CALLS = (9, 30)  # but are at least and at most so many: 12 rounds make 108 or more
WARM_UPS = 2


def measure(contenders: list[Contender], batch: int, rounds: int) -> tuple[list[dict[str, Any]], float | None]:
    """(a row for each contender, percent of a CPU that other processes used meanwhile, None where the system does not tell).

    A row is the contender's own with {"batch", "median_ms", "q1_ms", "q3_ms", "n", "ratio"}, of n timed calls in all rounds.
    """
    repeats = []
    for contender in contenders:
        prepare(contender)
        began = time.perf_counter()
        contender.call()
        fit = int(TURN_SECONDS / max(time.perf_counter() - began, 1e-6))
        repeats.append(max(TURN_CALLS[0], min(TURN_CALLS[1], fit)))
    times: list[list[list[float]]] = [[] for _ in contenders]  # of each call in each round, in ms
    load = cpu_load.OtherLoad()
    for _ in range(rounds):
        for contender, calls, turns in zip(contenders, repeats, times, strict=True):
            prepare(contender)
            taken = []
            for _ in range(calls):
                began = time.perf_counter()
                contender.call()
                taken.append(1e3 * (time.perf_counter() - began))
            turns.append(taken)
    other = load.percent()
    return [
        {**contender.row, "batch": batch, **summary(turns), "ratio": ratio}
        for contender, turns, ratio in zip(contenders, times, ratios(contenders, times), strict=True)
    ], other


def summary(turns: list[list[float]]) -> dict[str, Any]:
    """{"median_ms", "q1_ms", "q3_ms", "n"} of all calls of all turns, given in ms; two calls are the least."""
    taken = [ms for turn in turns for ms in turn]
    q1, median, q3 = (round(value, 4) for value in statistics.quantiles(taken, n=4))
    return {"median_ms": median, "q1_ms": q1, "q3_ms": q3, "n": len(taken)}


def ratios(contenders: list[Contender], times: list[list[list[float]]]) -> list[float]:
    """To our best contender at the same threads: medians over rounds of (median of a turn / of its turn that round).

    times: for each contender, for each round, ms of each call.
    """
    turns = [[statistics.median(turn) for turn in rounds] for rounds in times]
    ours: dict[int, list[list[float]]] = {}
    for contender, own in zip(contenders, turns, strict=True):
        if contender.row["engine"] == "onebit":
            ours.setdefault(contender.row["threads"], []).append(own)
    best = {threads: min(rows, key=statistics.median) for threads, rows in ours.items()}
    return [
        round(statistics.median(a / b for a, b in zip(own, best[contender.row["threads"]], strict=True)), 3)
        for contender, own in zip(contenders, turns, strict=True)
    ]


def prepare(contender: Contender) -> None:
    """Waits, at most 0.1 s, until the last contender's threads sleep, which poll for work a while after their answer;
    then brings this one's data back into the caches."""
    for _ in range(50):
        used = time.process_time()
        time.sleep(0.002)
        if time.process_time() - used < 0.0005:
            break
    if torch := sys.modules.get("torch"):  # what never loaded PyTorch needs none of its threads, and may not have it
        torch.set_num_threads(contender.row["threads"])
    for _ in range(WARM_UPS):
        contender.call()
