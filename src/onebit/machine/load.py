"""How much CPU time processes other than this one take: what makes a measured time worth less."""

import time
from pathlib import Path

STAT = Path("/proc/stat")
TICKS = 100  # a second, in /proc/stat on every architecture that Linux runs us on
IDLE_PERCENT = 10.0  # below this a machine counts as idle


class OtherLoad:
    """Load by other processes since this object was made, or since it was last asked."""

    def __init__(self) -> None:
        self._last = reading()

    def percent(self) -> float | None:
        """100 · (busy seconds of all CPUs − ours) / seconds: 100 is one CPU kept busy; None where Linux does not tell."""
        before, self._last = self._last, reading()
        if before is None or self._last is None:
            return None
        busy, own, passed = (new - old for new, old in zip(self._last, before, strict=True))
        return round(100 * max(0.0, busy - own) / max(passed, 1e-9), 1)  # ticks are coarse: below 0 for an instant


def reading() -> tuple[float, float, float] | None:
    """Seconds: (all CPUs were busy, this process was, the clock shows)."""
    try:
        ticks = [int(field) for field in STAT.read_text().split("\n", 1)[0].split()[1:]]
        user, nice, system, _, _, interrupt, soft, *_ = ticks
    except (OSError, ValueError):
        return None
    return (user + nice + system + interrupt + soft) / TICKS, time.process_time(), time.perf_counter()


def during(seconds: float) -> float | None:
    """Percent of a CPU that other processes use while this one sleeps so long."""
    load = OtherLoad()
    time.sleep(seconds)
    return load.percent()
