"""One run in a process of its own: trained, or trained on from where it was stopped, and measured. `jobs` starts it.

`python -m onebit.reproduction.job` reads {"recipe", "name"} from the first line of its standard input, and ends as by SIGTERM when
that is closed: when the process that started it has ended, however it ended.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

from onebit import files
from onebit.errors import Stopped, UserError
from onebit.machine import installation
from onebit.reproduction.measurements import MEASUREMENTS, missing
from onebit.reproduction.record import MEASURED, measured
from onebit.reproduction.runs import epochs_done
from onebit.training.recipe import Recipe
from onebit.training.train import train


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


def follow_parent() -> None:
    """End this process when its standard input does: stop the training as SIGTERM would. (Read without the lock of sys.stdin, which
    Python needs to end.)"""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=follow_parent, name="parent", daemon=True).start()
    try:
        work(Recipe(**order["recipe"]), order["name"])
    except UserError as error:
        print(f"onebit: error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"onebit: error: {installation.missing(error.name)}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(f"onebit: {stopped}", file=sys.stderr)
        return stopped.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
