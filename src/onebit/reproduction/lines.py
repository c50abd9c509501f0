"""The lines of a printed table: for each row one for every number of epochs that it was trained for, or one that says it was not."""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from onebit.reproduction.record import structure_of
from onebit.reproduction.records import Record
from onebit.reproduction.runs import difference, differs, settings_of
from onebit.reproduction.table import ResultTable, Row
from onebit.training.recipe import Recipe

BUSY = 10.0  # percent of a CPU: where other processes take more while a network is timed, the time is marked


@dataclass(frozen=True)
class Line:
    """records of one row and one number of epochs; none for a row that was not trained.

    earlier   how their settings differ from the row's as it is, empty for those of the row
    """

    row: Row
    records: tuple[Record, ...]
    earlier: str = ""

    @property
    def epochs(self) -> int | None:
        return self.records[0]["epochs"] if self.records else None

    @cached_property
    def structure(self) -> dict[str, str]:
        if self.records:
            return self.records[-1]["structure"]
        return {} if self.row.values is None else structure_of(self.row, Recipe(**self.row.values))

    def setting(self, key: str) -> Any:
        """A key of the recipe, None for a row without one."""
        if self.records:
            return self.records[-1]["settings"].get(key, getattr(Recipe(), key))
        return None if self.row.values is None else getattr(Recipe(**self.row.values), key)

    def over_seeds(self, value: Callable[[Record], Any]) -> list[float]:
        """The value of each seed, averaged over its records; of seeds that have it."""
        by_seed: dict[int, list[float]] = {}
        for record in self.records:
            if (found := value(record)) is not None:
                by_seed.setdefault(record["seed"], []).append(float(found))
        return [statistics.fmean(values) for _, values in sorted(by_seed.items())]

    def score(self, name: str) -> list[float]:
        """In PyTorch after the last epoch, in percent, of each seed."""
        return self.over_seeds(lambda record: record["trained"]["scores"].get(name))

    def seconds(self) -> list[float]:
        return self.over_seeds(lambda record: record["trained"].get("seconds"))

    def measured(self, measurement: str, name: str) -> list[float]:
        return self.over_seeds(lambda record: record["measured"].get(measurement, {}).get(name))

    @property
    def disturbed(self) -> bool:
        """Whether others used the machine while one of the networks was timed."""
        loads = [record["measured"].get("speed", {}).get("other_load") for record in self.records]
        return any(load is not None and load >= BUSY for load in loads)


def lines_of(table: ResultTable, records: Iterable[Record]) -> list[Line]:
    """The table's lines in its order, then those of records that fit no row as it is now."""
    rest = list(records)
    found: list[Line] = []
    for row in table.rows:
        settings = {} if row.values is None else own_settings(row)
        own = [] if row.values is None else [r for r in rest if matches(settings, r)]
        found += [Line(row, part) for part in by_epochs(own)] or [Line(row, ())]
    current = {id(record) for line in found for record in line.records}
    rows = {row.name: row for row in table.trained()}
    old: dict[tuple[str, str], list[Record]] = {}
    for record in (record for record in rest if id(record) not in current):
        known = rows.get(record["row"])
        changed = "no such row any more" if known is None else differs(unlike(own_settings(known), record))
        old.setdefault((record["row"], changed), []).append(record)
    for (name, changed), part in old.items():
        row = rows.get(name) or Row(name, name, "", None, None, None, "")
        found += [Line(row, group, changed) for group in by_epochs(part)]
    return found


def own_settings(row: Row) -> dict[str, Any]:
    return settings_of(vars(Recipe(**(row.values or {}))))


def unlike(settings: dict[str, Any], record: Record) -> dict[str, list[Any]]:
    return difference(settings, record["settings"], but=("seed", "epochs"))


def matches(settings: dict[str, Any], record: Record) -> bool:
    return not unlike(settings, record)


def by_epochs(records: Iterable[Record]) -> list[tuple[Record, ...]]:
    groups: dict[int, list[Record]] = {}
    for record in records:
        groups.setdefault(record["epochs"], []).append(record)
    return [tuple(groups[epochs]) for epochs in sorted(groups)]
