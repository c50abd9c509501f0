"""Both readers on the same files: the one in Python and the engine's must accept and refuse the same ones.

    PYTHONPATH=src python tests/fuzz/verdicts.py --files 100000

Prints every file on which they differ, leaves it in build/fuzz as verdict-*, and then fails. Files come from those of the
tests and of the corpus, changed as `hostile_files.mutate` changes them; `--seed` chooses other ones.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
OUT = HERE.parents[1] / "build" / "fuzz"
sys.path[:0] = [str(HERE), str(HERE.parent / "runtime")]

from hostile_files import mutate  # noqa: E402
from sources import sources  # noqa: E402

from onebit.errors import FormatError  # noqa: E402
from onebit.runtime import format, native  # noqa: E402

MAX_GOOD = 2**15  # bytes
ISA = "scalar"  # what a reader says does not depend on it


class Verdicts(NamedTuple):
    """What each reader said: None if it accepts the file, else its message. `engine` also accepts what it cannot run."""

    reference: str | None
    engine: str | None

    @property
    def agree(self) -> bool:
        return (self.reference is None) == (self.engine is None)


def verdicts(data: bytes) -> Verdicts:
    """What both readers say of a file's bytes. Raises whatever they raise besides refusals."""
    module = native.extension()
    reference = engine = None
    try:
        format.decode(data)
    except FormatError as error:
        reference = str(error)
    try:
        module.Network(data, ISA, 1)
    except module.FormatError as error:
        engine = str(error)
    except ValueError as error:
        assert "2^26" in str(error), f"the engine cannot run this: {error}"  # the one limit of its own
    for message in (reference, engine):
        assert message is None or (0 < len(message) < 500 and "\n" not in message), message
        (message or "").encode()  # it can be printed
    return Verdicts(reference, engine)


def seeds() -> list[bytes]:
    """Whole files: networks of the tests, hostile ones, and the corpus."""
    return [*sources().values(), *(path.read_bytes() for path in sorted((HERE / "corpus").iterdir()))]


def changed(files: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` files: all of `files`, then changes of them, nine in ten of those that readers accept."""
    random = Random(seed)
    good = [data for data in files if verdicts(data).reference is None]
    yield from files[:count]
    for _ in range(count - len(files)):
        data = mutate(random.choice(good if random.random() < 0.9 else files), random)
        yield data
        if random.random() < 0.05 and verdicts(data).reference is None and len(data) < MAX_GOOD:
            good[random.randrange(len(good))] = data


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    start = time.monotonic()
    for data in changed(seeds(), args.files, args.seed):
        found = verdicts(data)
        counts["differ" if not found.agree else "refused" if found.reference else "accepted"] += 1
        if not found.agree:
            path = OUT / f"verdict-{hashlib.sha256(data).hexdigest()[:16]}"
            path.write_bytes(data)
            print(
                f"{path}\n  Python: {found.reference or 'accepted'}\n  engine: {found.engine or 'accepted'}", flush=True
            )
    print(f"{args.files} files in {time.monotonic() - start:.0f} s: {dict(counts)}")
    return 1 if counts["differ"] else 0


if __name__ == "__main__":
    sys.exit(main())
