"""Where the images of tar files are. Reading the headers of ImageNet's 150 GB takes minutes, so the answer is kept:
$XDG_CACHE_HOME/onebit (default ~/.cache/onebit) gets a file for each list of tar files, known by their names, sizes and times.
"""

import codecs
import hashlib
import os
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from onebit import files
from onebit.errors import UserError

SUFFIXES = ("jpg", "jpeg", "png")
BLOCK = 512  # bytes of a tar header


@dataclass
class TarIndex:
    """The images of some tar files, file by file.

    shards: images of each file, int64 (files,)
    keys: names without suffix, bytes (N,)
    places: offset in the file and size, both in bytes, int64 (N, 2)
    labels: int64 (N,)
    """

    shards: np.ndarray
    keys: np.ndarray
    places: np.ndarray
    labels: np.ndarray


def index(paths: list[Path]) -> TarIndex:
    """The index of these files, from the cache if they are as they were. Raises UserError for a damaged one."""
    try:
        cached = cache_of(paths)
    except OSError as error:
        raise UserError(f"webdataset: {error.filename} cannot be read: {error.strerror}") from error
    try:
        with open(cached, "rb") as file, np.load(file, allow_pickle=False) as content:
            return TarIndex(**content)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile):
        pass  # not there, or damaged: made again
    parts = [read(path) for path in paths]
    columns = ([np.array([len(part.labels) for part in parts])], *zip(*((p.keys, p.places, p.labels) for p in parts)))
    result = TarIndex(*(np.concatenate(column) for column in columns))
    with suppress(OSError, UserError):  # a cache that cannot be written costs time, not the run
        cached.parent.mkdir(parents=True, exist_ok=True)
        files.write(cached, lambda file: np.savez(file, **asdict(result)))
    return result


def cache_of(paths: list[Path]) -> Path:
    known = hashlib.sha256(b"2")  # the version of what `read` does
    for path in paths:
        status = path.stat()
        known.update(f"{path.resolve()}\n{status.st_size} {status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.isabs(folder):  # a user without a home
        folder = os.path.join(tempfile.gettempdir(), f"onebit-{os.getuid()}")
    return Path(folder) / "onebit" / f"webdataset-{known.hexdigest()[:32]}.npz"


def read(path: Path) -> TarIndex:
    """The index of one file, from its headers. Raises UserError, naming the file and what is wrong with it."""
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, int] = {}
    dotted: list[tuple[str, str, str]] = []  # members with more dots: name, last suffix, key
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                folder, slash, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")
                key, suffix = folder + slash + stem, suffix.lower()
                last = suffix.rpartition(".")[2]
                if not member.isreg() or last not in (*SUFFIXES, "cls") or not stem:  # hidden files are no data
                    continue
                if last != suffix:
                    dotted.append((member.name, last, key))
                    continue
                if key in (labels if suffix == "cls" else images):
                    raise UserError(f"webdataset: {path} holds {key}.{suffix} twice; write the file again")
                if suffix == "cls":
                    file = tar.extractfile(member)
                    assert file is not None  # a regular member
                    labels[key] = label_of(path, member.name, file.read(64))
                else:
                    images[key] = (member.offset_data, member.size)
            end = tar.offset
        with open(path, "rb") as plain:
            plain.seek(end)
            if plain.read(BLOCK) != bytes(BLOCK):  # tarfile takes a damaged header for the end
                raise tarfile.ReadError(f"damaged or truncated at byte {end}")
    except tarfile.TarError as error:
        raise UserError(
            f"webdataset: {path} is not a whole, uncompressed tar file ({error}); fetch it again"
        ) from error
    except OSError as error:
        raise UserError(f"webdataset: {path} cannot be read: {error.strerror or error}") from error
    for one, other, what in ((images, labels, "cls"), (labels, images, "jpg, .jpeg or .png")):
        if lonely := next((key for key in one if key not in other), None):
            raise UserError(f"webdataset: {path} has no {lonely}.{what}; every image needs its class")
    check_dotted(path, dotted, images.keys() & labels.keys())
    keys = np.array([key.encode(errors="surrogateescape") for key in images], dtype=bytes)
    places = np.array(list(images.values()), np.int64).reshape(-1, 2)
    return TarIndex(np.array([len(images)]), keys, places, np.array([labels[key] for key in images], np.int64))


def check_dotted(path: Path, members: list[tuple[str, str, str]], whole: Collection[str]) -> None:
    """Refuse members that a reader with another idea of keys would take for an image or its class: further fields, as
    KEY.depth.png, stand beside an image and a class of their own key, and none of them is both."""
    kinds: dict[str, set[bool]] = {}
    for name, suffix, _ in members:
        kinds.setdefault(name[: -len(suffix)], set()).add(suffix == "cls")
    for name, suffix, key in members:
        if key not in whole or len(kinds[name[: -len(suffix)]]) == 2:
            raise UserError(
                f"webdataset: {path} holds {name}, whose key ends at the first dot of its name: {key}; "
                "write the file again, without dots in keys"
            )


def label_of(path: Path, member: str, content: bytes) -> int:
    digits = content.removeprefix(codecs.BOM_UTF8)
    if not re.fullmatch(rb"\s*\d{1,9}\s*", digits):
        raise UserError(f"webdataset: {path}: {member} holds {content!r}, not the number of a class, from 0")
    return int(digits)
