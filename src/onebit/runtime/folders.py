"""Folders of pictures: what is in them for a network, and what only looks so."""

import os
from collections.abc import Iterator
from typing import NamedTuple


class Found(NamedTuple):
    """A file, or what stands in the place of one and why it cannot be used.

    root   the folder that was searched, if the file was not named itself
    """

    path: str
    problem: str = ""
    root: str = ""

    @property
    def inside(self) -> str:
        """The path from the folder on, or the file's name."""
        return os.path.relpath(self.path, self.root) if self.root else os.path.basename(self.path)


def walk(folder: str, suffixes: tuple[str, ...], above: tuple[tuple[int, int], ...] = ()) -> Iterator[Found]:
    """What ends in one of the suffixes (".png", lower case) in a folder and those below it, sorted by name in each.

    Hidden files and folders (".name": what editors and file managers leave, as Jupyter and macOS do) are no data and left
    out. Links are followed, but not to a folder that this one lies in. A folder that is called like a file and holds none
    is a problem, as are dangling links, pipes and devices, and folders that cannot be read.
    """
    try:
        status = os.stat(folder)
        with os.scandir(folder) as listed:
            entries = sorted(
                (entry for entry in listed if not entry.name.startswith(".")), key=lambda entry: entry.name
            )
    except OSError as error:
        yield Found(folder, error.strerror or str(error))
        return
    own = (status.st_dev, status.st_ino)
    if own in above:
        return
    for entry in entries:
        named = entry.name.lower().endswith(suffixes)
        if is_kind(entry, os.DirEntry.is_dir):
            inside = walk(entry.path, suffixes, (*above, own))
            first = next(inside, Found(entry.path, "it is a folder, without pictures") if named else None)
            if first is not None:
                yield first
                yield from inside
        elif named and is_kind(entry, os.DirEntry.is_file):
            yield Found(entry.path)
        elif named:
            dangling = entry.is_symlink() and not os.path.exists(entry.path)
            yield Found(entry.path, "it is a link to nothing" if dangling else "it is not a file")


def is_kind(entry: "os.DirEntry[str]", kind: object) -> bool:
    try:
        return bool(kind(entry))  # type: ignore[operator]
    except OSError:  # a circle of links
        return False
