"""Feeds hostile files to both readers and the engine, guided by the coverage of the reader in Python; needs atheris.

    PYTHONPATH=src python tests/fuzz/fuzz_format.py --seconds 600
    PYTHONPATH=src python tests/fuzz/fuzz_format.py --keep    # the files that add coverage become tests/fuzz/corpus

Files on which the readers differ are failures. Each new kind of failure is printed and its file is left in build/fuzz as finding-*; a crash or a hang ends the run, as
crash-* or timeout-*. The exit status is 1 if there is any.
"""

from __future__ import annotations

import argparse
import gc
import resource
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from random import Random
from types import FunctionType

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"
OUT = HERE.parents[1] / "build" / "fuzz"
MEMORY = 2**30  # bytes that a file may cost
MAX_FILE = 2**20  # bytes
sys.path[:0] = [str(HERE), str(HERE.parent / "runtime")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="replace the committed corpus by the smallest that covers")
    parser.add_argument("--replay", action="store_true", help="only load what was found before; needs no atheris")
    args = parser.parse_args()
    if args.replay:
        return replay()
    found, seeds = OUT / "corpus", OUT / "seeds"
    for folder in (found, seeds, CORPUS):
        folder.mkdir(parents=True, exist_ok=True)
    limits = ["-timeout=120", f"-max_len={MAX_FILE}", f"-artifact_prefix={OUT}/", "-rss_limit_mb=0"]
    child = [sys.executable, __file__, "--child"]
    if args.keep:
        kept = OUT / "kept"
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir()
        folders = [str(kept), str(CORPUS), str(found)]
        status = subprocess.run([*child, "-merge=1", *limits[:3], "-max_len=4096", *folders]).returncode
        if status == 0:
            for path in kept.iterdir():
                shutil.copy(path, CORPUS / path.name[:16])
        return status
    from sources import sources

    for name, data in sources().items():
        (seeds / name).write_bytes(data)
    folders = [str(found), str(seeds), str(CORPUS)]
    times = [f"-max_total_time={args.seconds}", f"-seed={args.seed}"]
    status = subprocess.run([*child, *times, *limits, *folders]).returncode
    if not any(found.iterdir()):
        print("no file added coverage: is the reader instrumented?")
        status = status or 1
    findings = sorted(
        path for path in OUT.iterdir() if path.name.startswith(("finding-", "crash-", "timeout-", "oom-"))
    )
    for path in findings:
        print("finding:", path)
    return 1 if findings or status else 0


def replay() -> int:
    """Under AddressSanitizer, which atheris cannot share a process with: it takes away the coverage."""
    from outcome import outcome

    path = Path(tempfile.mkdtemp()) / "replayed.onebit"
    files = sorted(path for folder in (OUT / "corpus", OUT / "seeds", CORPUS) for path in folder.glob("*"))
    counts: dict[str, int] = {}
    for file in files:
        result = outcome(file.read_bytes(), path)
        counts[result] = counts.get(result, 0) + 1
    print(f"replayed {len(files)} files: {counts}")
    return 0


def child() -> None:
    import atheris
    from hostile_files import mutate
    from outcome import outcome
    from verdicts import verdicts

    from onebit.runtime import native

    # One by one: the loader of an editable installation is not one that atheris could replace.
    functions = [thing for thing in gc.get_objects() if isinstance(thing, FunctionType)]
    for function in functions:
        if (function.__module__ or "").startswith("onebit.runtime"):
            atheris.instrument_func(function)
    assert native.available(), "build the engine first"
    with open("/proc/self/statm") as file:  # Linux: what the interpreter itself holds
        held = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY,) * 2)
    path = Path(tempfile.mkdtemp()) / "fuzzed.onebit"
    kinds: set[str] = set()

    def test(data: bytes) -> None:
        try:
            found = verdicts(data)  # the reader in Python leads the way
            assert found.agree, f"the readers differ: {found}"
            outcome(data, path)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__}-{Path(frame.filename).stem}-{frame.lineno}"
            if kind not in kinds:
                kinds.add(kind)
                (OUT / f"finding-{kind}").write_bytes(data)
                print("finding", kind, repr(error)[:300], flush=True)

    def custom(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        changed = mutate(data, random) if random.random() < 0.95 else atheris.Mutate(data, max_size)
        return changed[:max_size]

    command = f"{sys.executable} {__file__} --child"  # what -merge runs again, in a shell
    atheris.Setup([command, *sys.argv[2:]], test, custom_mutator=custom)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child()
    else:
        sys.exit(main())
