"""Where tests find real data: $ONEBIT_DATA (torchvision's layout), else the sets in ../shared, unpacked to a cache."""

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
    return _root("imagenette", "imagenette") / "imagenette"


def _root(folder: str, name: str) -> Path:
    if "ONEBIT_DATA" in os.environ:
        root = Path(os.environ["ONEBIT_DATA"])
        if not (root / folder).is_dir():
            pytest.skip(f"no {folder} in ONEBIT_DATA={root}")
        return root
    prepare = SHARED / "data" / "prepare.py"
    if not prepare.exists():
        pytest.skip(f"no {folder}: set ONEBIT_DATA, or provide {prepare}")
    root = Path(tempfile.gettempdir()) / "onebit-test-data"
    subprocess.run([sys.executable, prepare, root, name], check=True, capture_output=True)
    return root


def authors_checkpoint(name: str) -> Path:
    """A checkpoint trained with the authors' code; skips the test where there is none."""
    path = CHECKPOINTS / name
    if not path.exists():
        pytest.skip(f"no {path}; set ONEBIT_CHECKPOINTS")
    return path
