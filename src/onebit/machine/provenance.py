"""Where a result comes from: versions, revision of the source, machine."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from onebit.machine import processor

PACKAGES = ("onebit", "numpy", "torchvision", "lightning-fabric", "timm")


def versions() -> dict[str, str | None]:
    """Of onebit, Python and the packages that a training depends on; None where one is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    found["torch"] = str(torch.__version__)  # with the build for a GPU, which the metadata leaves out
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def source(package: Path | None = None) -> dict[str, Any] | None:
    """{"revision": commit, "dirty": whether tracked files of the package differ from it} of a checkout, None for an installed package.

    package: folder of the package's modules; a checkout holds it as src/onebit. A package installed inside some other
    checkout, as in a project's virtual environment, is not that checkout's revision.
    """
    package = package or Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() / "src" / package.name != package:
            return None
        git("ls-files", "--error-unmatch", "__init__.py")
        return {
            "revision": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no", "--", ".")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def machine() -> dict[str, Any]:
    """Host, processor, cores that this process may use, and GPUs."""
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "cpu": processor.name(),
        "cores": processor.count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }
