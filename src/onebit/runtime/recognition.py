"""What a file is, by its first bytes: for the line that says why a file cannot be used, and what to do with it."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from typing import NamedTuple


class Kind(NamedTuple):
    """name: "packed", "torch", "safetensors", "picture", or "" for all others; words: what it is; remedy: "" or its own."""

    name: str
    words: str
    remedy: str = ""


UNKNOWN = Kind("", "")
AGAIN = "fetch it again"
UNPACK = "take the file out of it first"
SIGNATURES = (  # (offset, bytes, what starts so)
    (
        0,
        b"version https://git-lfs.github.com/spec",
        Kind("", "a Git LFS pointer, not the file itself", "run `git lfs pull`"),
    ),
    (0, b"\x89PNG", Kind("picture", "a picture (PNG)")),
    (0, b"\xff\xd8\xff", Kind("picture", "a picture (JPEG)")),
    (0, b"GIF8", Kind("picture", "a picture (GIF)")),
    (0, b"II*\0", Kind("picture", "a picture (TIFF)")),
    (0, b"MM\0*", Kind("picture", "a picture (TIFF)")),
    (8, b"WEBP", Kind("picture", "a picture (WebP)")),
    (0, b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", Kind("torch", "a PyTorch file")),  # as before PyTorch 1.6
    (0, b"\x93NUMPY", Kind("", "a numpy array")),
    (0, b"\x89HDF\r\n", Kind("", "an HDF5 file, such as Keras writes")),
    (0, b"GGUF", Kind("", "a GGUF file")),
    (4, b"TFL3", Kind("", "a TensorFlow Lite file")),
    (0, b"PAR1", Kind("", "a parquet file")),
    (0, b"%PDF", Kind("", "a PDF")),
    (0, b"\x7fELF", Kind("", "a program")),
    (0, b"\x1f\x8b", Kind("", "a gzip archive", UNPACK)),
    (0, b"BZh", Kind("", "a bzip2 archive", UNPACK)),
    (0, b"\xfd7zXZ", Kind("", "an xz archive", UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", Kind("", "a zstd archive", UNPACK)),
    (0, b"7z\xbc\xaf", Kind("", "a 7z archive", UNPACK)),
    (257, b"ustar", Kind("", "a tar archive", UNPACK)),
)
OF_OTHERS = "papers' weights are read by `onebit import`, your own network is packed in Python: onebit.pack(model, ...)"
REMEDIES = {  # what is wanted -> what to do with what is there
    "packed": {
        "torch": "a checkpoint is packed first: onebit pack {path} --out NAME.safetensors",
        "safetensors": "a network is packed by `onebit pack`, or in Python by onebit.pack(model, ...)",
        "picture": "give a packed file first: onebit run MODEL.safetensors {path}",
        "": "give a file made by `onebit pack`",
    },
    "checkpoint": {
        "packed": "it needs no packing: onebit run, eval, bench and info read it",
        "safetensors": OF_OTHERS,
        "": "give a checkpoint such as runs/NAME/last.ckpt",
    },
    "model": {
        "safetensors": OF_OTHERS,
        "": "give a checkpoint (.ckpt) or a packed file (.safetensors)",
    },
    "weights": {
        "packed": "its weights are bits; give the file that the training code saved",
        "": "give the file that the training code saved",
    },
}


def recognized(path: str | os.PathLike[str]) -> Kind:
    """The kind of a file; UNKNOWN for one that cannot be read or looks like nothing known."""
    try:
        if not os.path.isfile(path):  # opening a pipe would wait for its other end
            return UNKNOWN
        with open(path, "rb") as file:
            head = file.read(4096)
    except (OSError, ValueError):
        return UNKNOWN
    if head.startswith(b"PK\x03\x04"):
        return _zip(path)
    if head[4:9] == bytes(4) + b"{":  # before all others: the length that starts it may look like one of them
        return _safetensors(path)
    for offset, start, kind in SIGNATURES:
        if head.startswith(start, offset):
            return kind
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return Kind("picture", "a picture (BMP)")
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return Kind("", "a web page (HTML), as a server sends instead of a file", AGAIN)
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return Kind("", "a Python pickle, which may execute anything", "save tensors with torch.save or safetensors")
    if os.fspath(path).endswith(".onnx"):
        return Kind("", "an ONNX file")
    return UNKNOWN


def explained(path: str | os.PathLike[str], wanted: str) -> str | None:
    """One line about a file that is none of those wanted, a row of REMEDIES; None where its kind is right or not known."""
    kind = recognized(path)
    fitting = {"checkpoint": ("torch",), "model": ("torch", "packed"), "weights": ("torch", "safetensors")}
    if not kind.words or kind.name in fitting.get(wanted, (wanted,)):
        return None
    remedies = REMEDIES[wanted]
    remedy = kind.remedy or remedies.get(kind.name, remedies[""])
    return f"{os.fspath(path)} is {kind.words}; {remedy.format(path=os.fspath(path))}"


def _zip(path: str | os.PathLike[str]) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()[:10_000]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return Kind("torch", "a damaged or truncated checkpoint or zip archive", AGAIN)
    if any(name.endswith("/constants.pkl") for name in names):
        return Kind("", "a TorchScript archive", "pack the nn.Module it was made from: onebit.pack(model, ...)")
    if any(name.endswith("data.pkl") for name in names):
        return Kind("torch", "a PyTorch file")
    if names and all(name.endswith(".npy") for name in names):
        return Kind("", "an archive of numpy arrays")
    return Kind("", "a zip archive", UNPACK)


def _safetensors(path: str | os.PathLike[str]) -> Kind:
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if not 2 <= length <= 2**24:
                return UNKNOWN
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        ours = isinstance(metadata, dict) and metadata.get("format") == "onebit"
    except (OSError, ValueError, AttributeError, RecursionError):
        return UNKNOWN
    if ours:
        return Kind("packed", "a packed file of onebit")
    return Kind("safetensors", f"a safetensors file that was not written by onebit ({len(header)} tensors)")
