"""What to install where a package is missing: the one place that names a command of pip."""

import json
from importlib import metadata
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

EXTRAS = {  # of pyproject.toml, by the package that is imported; what is not listed is part of `train`
    "PIL": "run",
    "datasets": "datasets",
    "pyarrow": "datasets",
    **dict.fromkeys(("imagecorruptions", "skimage", "cv2"), "robustness"),
    "onnx": "onnx",
    **dict.fromkeys(("onnxruntime", "onnxscript", "openvino", "nncf"), "peers"),
}
DISTRIBUTIONS = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "cv2": "opencv-python",
    "lightning_fabric": "lightning-fabric",
}  # other names
REQUIRED = ("numpy",)  # which an installation has


def command(extra: str = "") -> str:
    """pip install ... for this onebit with an extra, from where it was installed: a checkout, a repository, or an index."""
    extra = f"[{extra}]" if extra else ""
    checkout = Path(__file__).resolve().parents[3]
    if (checkout / "pyproject.toml").is_file() and (checkout / "src" / "onebit").is_dir():
        return f"pip install '{checkout}{extra}'"
    try:
        record = json.loads(metadata.distribution("onebit").read_text("direct_url.json") or "{}")
        url, vcs = str(record.get("url", "")), record.get("vcs_info") or {}
    except (metadata.PackageNotFoundError, ValueError, AttributeError):
        url, vcs = "", {}
    if url.startswith("file:"):
        path = url2pathname(urlparse(url).path)
        if Path(path).exists():  # a folder or a wheel
            return f"pip install '{path}{extra}'"
    elif vcs:
        return f"pip install 'onebit{extra} @ {vcs.get('vcs', 'git')}+{url}'"
    elif url:
        return f"pip install 'onebit{extra} @ {url}'"
    return f"pip install 'onebit{extra}'"


def missing(modules: str | list[str] | None, purpose: str = "this") -> str:
    """One line about modules that cannot be imported, for an error: what needs them, and what installs them."""
    names = [modules] if isinstance(modules, str) else list(modules or ["?"])
    roots = [name.partition(".")[0] for name in names]
    packages = ", ".join(DISTRIBUTIONS.get(root, root) for root in roots)
    extra = "" if roots[0] in REQUIRED else EXTRAS.get(roots[0], "train")
    several = "s" if len(roots) > 1 else ""
    return f"{purpose} needs the Python package{several} {packages}; install with {command(extra)}"
