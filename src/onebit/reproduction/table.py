"""Tables of results as data: tables/<name>.toml says which networks are trained, by which recipes, and what the papers report.

    title, about        of the table
    methods = "all"     a row for each method of the method table, besides [[rows]]
    [recipe]            keys of every row's recipe
    [paper]             what all "paper" entries share, such as their source
    [[rows]]
      name, label       label: as the table prints it, default the name
      group             heading under which the row stands
      recipe            a recipe that comes with onebit
      keys              keys of the row's recipe
      paper             {scores of SCORES in percent, epochs where the source tells, source}
      note              one line
    [method.NAME]       label, group, keys, paper, note of a row of `methods`

Later ones win: recipe < [recipe] < keys; of `options` and `structure`, entry by entry. A row without recipe and keys cites a number,
nothing is trained for it. `initial` and `teacher` may be "row:NAME": last.ckpt of that row's run with the same seed.
"""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from onebit.errors import UserError
from onebit.methods import METHODS
from onebit.options import fits
from onebit.training.recipe import Recipe, check_names
from onebit.training.recipe import read as read_recipe

SHIPPED = resources.files("onebit") / "reproduction" / "tables"
TOP: dict[str, Any] = {"title": str, "about": str, "methods": str, "recipe": dict, "paper": dict, "method": dict}
PARTS: dict[str, Any] = {"label": str, "group": str, "recipe": str, "keys": dict, "paper": dict, "note": str}
SCORES = ("accuracy", "accuracy_top5", "map_50", "map", "voc07_map_50")
PAPER: dict[str, Any] = {**dict.fromkeys(SCORES, float), "epochs": int, "source": str}
OURS = ("seed", "out", "root", "threads")  # keys of a recipe that the command sets
FROM_ROW = "row:"
LINKS = ("initial", "teacher")  # keys that may name a row


@dataclass(frozen=True)
class Paper:
    """What a publication reports: scores in percent by name, epochs of its training (None: not stated), and where."""

    scores: dict[str, float]
    epochs: int | None
    source: str


@dataclass(frozen=True)
class Row:
    """values: keys of its recipe, None for a row that only cites a number. recipe: name of the one it starts from."""

    name: str
    label: str
    group: str
    recipe: str | None
    values: dict[str, Any] | None
    paper: Paper | None
    note: str

    @property
    def needs(self) -> list[str]:
        """Names of the rows whose checkpoints this one starts or learns from."""
        given = [str((self.values or {}).get(key) or "") for key in LINKS]
        return [value.removeprefix(FROM_ROW) for value in given if value.startswith(FROM_ROW)]


@dataclass(frozen=True)
class ResultTable:
    """A table as its file says."""

    name: str
    title: str
    about: str
    rows: tuple[Row, ...] = field(repr=False)

    def row(self, name: str) -> Row:
        """Raises UserError for an unknown name."""
        for row in self.rows:
            if row.name == name:
                return row
        names = [row.name for row in self.rows]
        close = difflib.get_close_matches(name, names, 1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise UserError(f"table {self.name} has no row {name!r}{hint}; its rows are {', '.join(names)}")

    def trained(self) -> list[Row]:
        """The rows that stand for a training."""
        return [row for row in self.rows if row.values is not None]


def shipped() -> list[str]:
    """Names of the tables that come with onebit."""
    return sorted(entry.name.removesuffix(".toml") for entry in SHIPPED.iterdir() if entry.name.endswith(".toml"))


def find(name: str) -> Path:
    """The file of the table of this name, or of this path. UserError if there is none."""
    if name in shipped():
        return Path(str(SHIPPED / f"{name}.toml"))
    if name.endswith(".toml") and Path(name).is_file():
        return Path(name)
    if name.endswith(".toml"):
        raise UserError(f"table {name}: there is no such file; name a TOML file, or one of {', '.join(shipped())}")
    close = difflib.get_close_matches(name, shipped(), 1)
    hint = f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(shipped())}, or name a TOML file"
    raise UserError(f"table {name!r} is unknown; {hint}")


def read(name: str) -> ResultTable:
    """The table of this name or path. Raises UserError for one that is missing or malformed, with the row and the key."""
    path = find(name)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"table {path}: not a TOML file: {getattr(error, 'strerror', None) or error}") from error
    given = content.pop("rows", [])
    if not fits(given, list[dict]):
        raise UserError(f"table {path}: rows must be [[rows]]")
    check(content, TOP, f"table {path}", ("title",))
    entries = [dict(entry) for entry in given]
    own = content.get("method", {})
    if content.get("methods", "") not in ("", "all"):
        raise UserError(f'table {path}: methods = {content["methods"]!r} must be "all", or left out')
    if content.get("methods"):
        for method in own:
            METHODS.check(method)
        for method in METHODS:
            extra = dict(own.get(method, {}))
            entries.append({"name": method, **extra, "keys": {"method": method, **extra.get("keys", {})}})
    elif own:
        raise UserError(f'table {path}: [method] is for methods = "all"')
    rows = [row_of(entry, content, f"table {path}") for entry in entries]
    names = [row.name for row in rows]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"table {path}: two rows are called {doubled[0]!r}; rename one")
    table = ResultTable(path.stem, content["title"], content.get("about", ""), tuple(rows))
    for row in rows:
        for needed in row.needs:
            if table.row(needed).values is None or needed == row.name:
                raise UserError(f"table {path}: row {row.name!r} needs {needed!r}, which no training stands for")
    return table


def row_of(entry: dict[str, Any], content: Mapping[str, Any], where: str) -> Row:
    check(entry, {"name": str, **PARTS}, where, ("name",))
    where = f"{where}: row {entry['name']!r}"
    if not entry["name"] or not set(entry["name"]).isdisjoint("/\\\0") or entry["name"].startswith("."):
        raise UserError(f"{where}: the name is also that of a folder; leave out slashes and a dot in front")
    values = None
    if "recipe" in entry or "keys" in entry:
        try:
            values = read_recipe(entry["recipe"]) if "recipe" in entry else {}
            for part in (content.get("recipe", {}), entry.get("keys", {})):
                values = merged(values, part)
            if ours := [key for key in OURS if key in values]:
                raise UserError(f"{ours[0]} is an option of onebit reproduce, no key of a row; leave it out")
            check_names(Recipe(**values))
        except (UserError, TypeError) as error:
            raise UserError(f"{where}: {error}") from error
    paper = None
    if "paper" in entry:
        given = {**content.get("paper", {}), **entry["paper"]}
        check(given, PAPER, f"{where}: paper", ("source",))
        scores = {key: float(given[key]) for key in SCORES if key in given}
        if not scores:
            raise UserError(f"{where}: paper has no score; give one of {', '.join(SCORES)}")
        paper = Paper(scores, given.get("epochs"), given["source"])
    elif values is None:
        raise UserError(f"{where} has no recipe, no keys and no paper; give one of them")
    texts = [entry.get(key, default) for key, default in (("label", entry["name"]), ("group", ""), ("note", ""))]
    return Row(entry["name"], texts[0], texts[1], entry.get("recipe"), values, paper, texts[2])


def merged(values: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """values with those of `part`; of tables, entry by entry."""
    tables = {key: {**values[key], **part[key]} for key in ("options", "structure") if key in values and key in part}
    return {**values, **part, **tables}


def check(given: Mapping[str, Any], known: Mapping[str, Any], where: str, required: Sequence[str]) -> None:
    """Refuse entries that are unknown, missing, or of another type."""
    for key, value in given.items():
        if key not in known:
            raise UserError(f"{where}: {key!r} is unknown; choose one of {', '.join(known)}")
        if not fits(value, known[key]):
            raise UserError(f"{where}: {key} = {value!r} has another type than {known[key].__name__}")
    if missing := [key for key in required if key not in given]:
        raise UserError(f"{where} has no {missing[0]}")
