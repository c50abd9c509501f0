"""The results of a table: a JSON file with one record for each training, to which every machine and every later run adds.

    {"table": name, "version": 1, "records": [{
        "row", "seed", "epochs",
        "settings"   what identifies the training, see `runs.settings_of`
        "trained"    {"scores" after the last epoch, "best" (first score), "seconds", "date", "threads", "device", "precision",
                      "starts"}
        "machine"    {"cpu", "cores", "gpus"},  "versions" {"onebit", "torch", "python"},
        "source"     {"revision", "dirty"}, or null for an installed package
        "structure"  {"block", "shortcut", "nonlinearity", "pretraining", "distillation"}
        "measured"   {name of a measurement: what it returned}, see `measurements`
    }]}

A record stands for (settings, processor): the same training measured again on the same kind of machine replaces it.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from onebit import files
from onebit.errors import UserError
from onebit.options import fits
from onebit.reproduction.runs import difference

VERSION = 1
FIELDS: dict[str, Any] = {
    "row": str,
    "seed": int,
    "epochs": int,
    "settings": dict,
    "trained": dict,
    "machine": dict,
    "versions": dict,
    "source": dict | None,
    "structure": dict,
    "measured": dict,
}

Record = dict[str, Any]


def read(path: Path) -> list[Record]:
    """The file's records; none where there is no file. Raises UserError for one that is damaged or of another version."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise damaged(path, getattr(error, "strerror", None) or f"not JSON: {error}") from error
    if not isinstance(content, dict) or not fits(content.get("records"), list[dict]):
        raise damaged(path, "it has no list of records")
    if content.get("version") != VERSION:
        raise UserError(f"{path} has version {content.get('version')!r}, this onebit reads {VERSION}; update it")
    for number, record in enumerate(content["records"]):
        for name, kind in FIELDS.items():
            if name not in record or not fits(record[name], kind):
                raise damaged(path, f"record {number} has no usable {name!r}")
        scores = record["trained"].get("scores")
        if not fits(scores, dict) or not scores or not all(fits(value, float) for value in scores.values()):
            raise damaged(path, f"record {number} has no usable scores")
        if not all(fits(value, dict) for value in record["measured"].values()):
            raise damaged(path, f"record {number} has a measurement that is no table of values")
    return content["records"]


def damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path} is no file of results ({why}); restore it, or name another folder with --out")


def write(path: Path, name: str, records: Iterable[Record]) -> None:
    """One record a line, sorted, so that versions of the file can be compared and merged."""
    ordered = sorted(records, key=lambda r: (r["row"], r["epochs"], r["seed"], r["trained"]["date"]))
    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in ordered)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, f'{{"table": {json.dumps(name)}, "version": {VERSION}, "records": [\n{lines}\n]}}\n')


def add(path: Path, name: str, record: Record) -> None:
    """Put the record into the file as it is now, in place of an earlier one of the same training and processor."""
    kept = [old for old in read(path) if not same(old, record)]
    write(path, name, [*kept, record])


def same(one: Record, other: Record) -> bool:
    return one["machine"].get("cpu") == other["machine"].get("cpu") and not difference(
        one["settings"], other["settings"]
    )


def of(records: Iterable[Record], settings: dict[str, Any]) -> list[Record]:
    """The records of a training."""
    return [record for record in records if not difference(settings, record["settings"])]
