"""One run in a process of its own: trained, or trained on from where it was stopped, and measured. `jobs` starts it."""

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from onebit import files
from onebit.errors import Stopped, UserError
from onebit.machine import installation
from onebit.reproduction.measurements import MEASUREMENTS, missing
from onebit.reproduction.record import MEASURED, measured
from onebit.reproduction.runs import epochs_done
from onebit.training.recipe import Recipe
from onebit.training.train import train


def main(recipe: Recipe, name: str, log: Path) -> None:
    """What the process does: everything that it says goes to the end of `log`, and it ends with an exit code as `onebit train`."""
    with contextlib.suppress(
        OSError, AttributeError
    ):  # where there are sessions: Ctrl-C reaches the starting process alone
        os.setsid()
    with open(log, "a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    threading.Thread(target=follow_parent, name="parent", daemon=True).start()
    try:
        work(recipe, name)
    except UserError as error:
        end(f"error: {error}", 2)
    except ModuleNotFoundError as error:
        end(f"error: {installation.missing(error.name)}", 2)
    except Stopped as stopped:
        end(str(stopped), stopped.code)


def end(line: str, code: int) -> None:
    print(f"onebit: {line}", file=sys.stderr, flush=True)
    sys.exit(code)


def follow_parent() -> None:
    """Stop this process as SIGTERM does when the one that started it has ended, however it ended."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def work(recipe: Recipe, name: str) -> None:
    """Train where it is not done, then measure what may be measured beside others."""
    folder = Path(str(recipe.out))
    if epochs_done(folder) < recipe.epochs:
        (folder / MEASURED).unlink(missing_ok=True)
        train(recipe, resume=True, name=name)
    measure(recipe, folder, alone=False)


def measure(recipe: Recipe, folder: Path, alone: bool) -> None:
    """Take the measurements of one kind that the folder lacks, and note them there, one by one."""
    done = measured(folder)
    for name in missing(recipe, done):
        if MEASUREMENTS[name].alone == alone:
            done[name] = MEASUREMENTS[name].measure(folder, recipe)
            files.write_text(folder / MEASURED, json.dumps(done) + "\n")


def forget(folder: Path, names: Sequence[str]) -> None:
    """Drop measurements, so that they are taken anew."""
    kept = {name: values for name, values in measured(folder).items() if name not in names}
    files.write_text(folder / MEASURED, json.dumps(kept) + "\n")
