"""Where tests find real data: $ONEBIT_DATA (torchvision's layout, or packed with a prepare.py), else ../shared/data."""

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"
CHECKPOINTS = Path(os.environ.get("ONEBIT_CHECKPOINTS", SHARED / "checkpoints"))


def cifar10_root() -> Path:
    """The folder that holds cifar-10-batches-py/; skips the test where there is none."""
    return _root("cifar-10-batches-py", "cifar-10")


def imagenette_root() -> Path:
    """The folder that holds train/ and val/ of Imagenette's photographs; skips the test where there is none."""
    return _root("imagenette/train", "imagenette") / "imagenette"


def bccd_root() -> Path:
    """The folder of BCCD, blood cells in VOC's layout; skips the test where there is none."""
    return _root("BCCD/Annotations", "detection") / "BCCD"


def coco_mini_root() -> Path:
    """The folder of 256 of COCO's images, in its layout; skips the test where there is none."""
    return _root("coco-mini/annotations", "detection") / "coco-mini"


def glue_root() -> Path:
    """The folder of GLUE's folders, beside which lies the vocabulary; skips the test where there is none."""
    return _root("glue/SST-2", "text") / "glue"


def _root(folder: str, name: str) -> Path:
    data = Path(os.environ.get("ONEBIT_DATA", SHARED / "data"))
    if (data / folder).is_dir():
        return data
    prepare = data / "prepare.py"
    if not prepare.exists():
        pytest.skip(f"no {folder} in {data}, and no prepare.py that unpacks it; set ONEBIT_DATA")
    root = Path(tempfile.gettempdir()) / "onebit-test-data"
    with open(f"{root}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the processes that run the tests unpack it once
        subprocess.run([sys.executable, prepare, root, name], check=True, capture_output=True)
    return root


def authors_checkpoint(name: str) -> Path:
    """A checkpoint trained with the authors' code; skips the test where there is none."""
    path = CHECKPOINTS / name
    if not path.exists():
        pytest.skip(f"no {path}; set ONEBIT_CHECKPOINTS")
    return path
