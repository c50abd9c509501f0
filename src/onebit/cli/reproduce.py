"""`onebit reproduce`: a table of the papers, or of our own, trained, measured and printed beside the papers' numbers."""

import argparse
from pathlib import Path
from typing import Any

from onebit.cli.arguments import positive, refuse, verb
from onebit.errors import UserError
from onebit.reproduction import table as tables

RESULTS = "docs/results"  # in a checkout of the repository
DETAILS = """TABLE names rows: networks, each with its recipe and what its paper reports (`onebit list tables`), or is a TOML file of your own.

  onebit reproduce digits                                             a minute or two, needs no data
  onebit reproduce rbnn-ablation --list                               its rows
  onebit reproduce rbnn-ablation --root data --seeds 0,1 --dry-run    what would run
  onebit reproduce rbnn-ablation --root data --seeds 0,1              run what is missing
  onebit reproduce rbnn-cifar10 --only rbnn --epochs 40 --root data   one row, for fewer epochs than its recipe's
  onebit reproduce methods --adopt adabin 0 runs/adabin               take a run of `onebit train` that has the row's recipe

Each row and seed is a run folder of `onebit train` under --runs; then its network is packed, scored in the engine, and in the end, when
nothing else runs, timed. Killed or stopped, the same command goes on. What has a record in TABLE.json is not run again, wherever it was
run; a row whose recipe was changed since is run anew, beside its earlier record. TABLE.md and TABLE.csv are written from the records
after every run."""


class Names(tuple[str, ...]):
    """What shells complete; a path is taken too."""

    def __contains__(self, name: object) -> bool:
        return True


def add(verbs: Any) -> None:
    parser = verb(
        verbs,
        "reproduce",
        run,
        "Train and measure what a table of results lacks, and print it beside the papers' numbers",
        DETAILS,
        f"folder of TABLE.json, .md and .csv (default {RESULTS} where that exists, else results)",
    )
    parser.add_argument(
        "table",
        metavar="TABLE",
        choices=Names(tables.shipped()),
        help=f"one of {', '.join(tables.shipped())}, or a TOML file",
    )
    parser.add_argument("--seeds", type=seeds, default=[0], help="seeds of every row, such as 0,1,2 (default 0)")
    parser.add_argument("--epochs", type=positive, help="of every training, in place of the rows' own")
    parser.add_argument(
        "--only", metavar="ROW", action="append", default=[], help="this row; may be given several times"
    )
    parser.add_argument(
        "--jobs",
        type=positive,
        help="trainings side by side, with one thread each (default: as many as CPUs; 1 where there is a GPU)",
    )
    parser.add_argument("--root", default="data", help="folder that holds the data set (default data)")
    parser.add_argument("--download", action="store_true", help="fetch the data set where there is a network")
    parser.add_argument(
        "--runs", default="runs/reproduce", metavar="FOLDER", help="of run folders (default runs/reproduce)"
    )
    parser.add_argument(
        "--adopt",
        nargs=3,
        action="append",
        default=[],
        metavar=("ROW", "SEED", "FOLDER"),
        help="copy this finished training, of the row's recipe, and measure it in place of training",
    )
    parser.add_argument(
        "--again",
        metavar="MEASUREMENT",
        action="append",
        default=[],
        help="measure this anew, such as speed on a machine that is idle now; may be given several times",
    )
    parser.add_argument(
        "--figure", metavar="FILE", help="draw accuracy against bytes and ms into this .svg or .png, and stop"
    )
    parser.add_argument("--list", action="store_true", help="print the rows, and stop")
    parser.add_argument("--dry-run", action="store_true", help="print what would be trained and measured, and stop")
    parser.add_argument("--render", action="store_true", help="write TABLE.md and .csv from TABLE.json, and stop")


def seeds(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and int(part) < 2**32 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of seeds from 0 to 2^32 - 1, such as 0,1,2")
    return list(dict.fromkeys(int(part) for part in parts))


def run(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    table = tables.read(options.table)
    alone = [name for name in ("list", "dry_run", "render") if getattr(options, name)]
    if len(alone) > 1:
        raise UserError(f"--{alone[1].replace('_', '-')} has no effect beside --{alone[0]}; give one of them")
    if options.list:
        return rows(table)
    if options.out == "" or options.runs == "":
        raise UserError("--out and --runs name folders; give one, or leave them out")
    if options.figure is not None:
        refuse(
            options,
            "--figure trains nothing",
            seeds=[0],
            epochs=None,
            jobs=None,
            adopt=[],
            only=[],
            again=[],
            render=False,
        )
    if options.render:
        refuse(options, "--render trains nothing", seeds=[0], epochs=None, jobs=None, adopt=[], only=[], again=[])
    from onebit.reproduction.measurements import MEASUREMENTS
    from onebit.reproduction.reproduce import Places, adopt, answer, reproduce
    from onebit.reproduction.runs import wanted

    for name in options.again:
        if name not in MEASUREMENTS:
            raise UserError(f"--again {name}: there is no such measurement; choose one of {', '.join(MEASUREMENTS)}")
    places = Places(Path(options.runs), Path(options.out or (RESULTS if Path(RESULTS).is_dir() else "results")))
    for folder in (places.runs, places.out):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file; name a folder with --out and --runs")
    keys = {"root": options.root, "download": options.download}
    if options.figure is not None:
        from onebit.reproduction import figure, records

        path = figure.write(Path(options.figure), table, records.read(places.results(table)))
        return {"table": table.name, "figure": path}, path
    if options.render:
        return answer(table, places, ())
    if options.adopt:
        nothing = {"only": [], "seeds": [0], "jobs": None, "dry_run": False, "again": []}
        refuse(options, "--adopt names rows and seeds itself, and trains nothing", **nothing)
        given = [(row, a_seed(seed), Path(folder)) for row, seed, folder in options.adopt]
        runs = [adopt(table, places, *one, options.epochs, **keys) for one in given]
        return reproduce(table, places, runs, only=[one.row.name for one in runs], quiet=options.json)
    runs = wanted(table, options.only, options.seeds, options.epochs, places.runs, **keys)
    if options.dry_run:
        return plan(table, places, runs)
    return reproduce(
        table, places, runs, only=options.only, jobs=options.jobs or 0, again=options.again, quiet=options.json
    )


def a_seed(text: str) -> int:
    try:
        (seed,) = seeds(text)
    except ValueError as error:  # of several
        raise UserError(f"--adopt: {text!r} is not one seed") from error
    except argparse.ArgumentTypeError as error:
        raise UserError(f"--adopt: {error}") from error
    return seed


def rows(table: tables.ResultTable) -> tuple[dict[str, Any], str]:
    """The table's rows: recipe, and what the papers report."""
    lines: dict[str, dict[str, Any]] = {}
    for row in table.rows:
        cited = "" if row.paper is None else f"{row.paper.scores['accuracy']:g} % ({row.paper.source})"
        values = row.values or {}
        what = row.recipe or ("cited only" if row.values is None else f"{values.get('model')} {values.get('method')}")
        lines[row.name] = {"recipe": row.recipe, "keys": row.values, "paper": cited, "what": what}
    width = [max(map(len, lines)), max(len(line["what"]) for line in lines.values())]
    text = [f"{name:{width[0]}}  {line['what']:{width[1]}}  {line['paper']}".rstrip() for name, line in lines.items()]
    return {"table": table.name, "title": table.title, "rows": lines}, "\n".join([table.title, "", *text])


def plan(table: tables.ResultTable, places: Any, runs: list[Any]) -> tuple[dict[str, Any], str]:
    """What is to be done for each run."""
    from onebit.reproduction import records
    from onebit.reproduction.reproduce import state
    from onebit.reproduction.runs import epochs_done

    found = records.read(places.results(table))
    lines = []
    for one in runs:
        lines.append(
            {
                "row": one.row.name,
                "seed": one.recipe.seed,
                "state": state(one, found),
                "epochs": one.recipe.epochs,
                "done": epochs_done(one.folder),
                "folder": str(one.folder),
            }
        )
    width = max(len(line["row"]) for line in lines)
    text = [
        f"{line['row']:{width}}  seed {line['seed']}  {line['state']:10}  {line['done']}/{line['epochs']} epochs  {line['folder']}"
        for line in lines
    ]
    return {"table": table.name, "runs": lines}, "\n".join(text)
