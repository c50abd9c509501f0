"""How long a call takes."""

import time
from collections.abc import Callable
from typing import Any

WARM_UPS, CALLS, LEAST = 10, 1000, 8


def times_ms(call: Callable[[], Any], seconds: float) -> list[float]:
    """Times of calls in ms, after WARM_UPS: for so many seconds, at most CALLS and at least LEAST of them."""
    for _ in range(WARM_UPS):
        call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < LEAST or (len(times) < CALLS and time.perf_counter() < end):
        began = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - began))
    return times
