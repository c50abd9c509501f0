"""Small photographs in each of the layouts that onebit reads, the same images in each."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("cat", "dog", "owl")


def jpeg(generator: np.random.Generator, label: int) -> bytes:
    """A noisy JPEG whose mean brightness tells the class: about 50, 120 or 190."""
    height, width = generator.integers(30, 60, 2)
    pixels = generator.integers(0, 100, (height, width, 3)) + 70 * label
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "jpeg")
    return file.getvalue()


def images(split: str, count: int) -> list[tuple[str, bytes, int]]:
    """(key, JPEG, label) in the order of class folders."""
    generator = np.random.default_rng(len(split))
    labels = sorted(i % len(CLASSES) for i in range(count))
    return [(f"{split}{i:04d}", jpeg(generator, label), label) for i, label in enumerate(labels)]


def write_imagefolder(root: Path, split: str, samples: list[tuple[str, bytes, int]]) -> None:
    for name in CLASSES:
        (root / split / name).mkdir(parents=True, exist_ok=True)
    for key, content, label in samples:
        (root / split / CLASSES[label] / f"{key}.JPEG").write_bytes(content)


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def write_webdataset(root: Path, split: str, samples: list[tuple[str, bytes, int]], shards: int = 3) -> None:
    for shard in range(shards):
        part = samples[shard * len(samples) // shards : (shard + 1) * len(samples) // shards]
        members = []
        for key, content, label in part:
            members += [(f"./{key}.jpg", content), (f"./{key}.cls", b"%d\n" % label), (f"./{key}.json", b"{}")]
        write_tar(root / f"{split}-{shard:04d}.tar", members)
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")


def write_parquet(root: Path, split: str, samples: list[tuple[str, bytes, int]], shards: int = 2) -> None:
    import datasets

    (root / "data").mkdir(parents=True, exist_ok=True)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    split = "validation" if split == "val" else split
    for shard in range(shards):
        part = samples[shard * len(samples) // shards : (shard + 1) * len(samples) // shards]
        columns = {"image": [{"bytes": c, "path": f"{k}.jpg"} for k, c, _ in part], "label": [n for _, _, n in part]}
        table = datasets.Dataset.from_dict(columns, features=features)
        table.to_parquet(str(root / "data" / f"{split}-{shard:05d}-of-{shards:05d}.parquet"))


WRITERS = {"imagefolder": write_imagefolder, "webdataset": write_webdataset, "parquet": write_parquet}


def write(kind: str, root: Path, train: int = 26, val: int = 7) -> Path:
    for split, count in (("train", train), ("val", val)):
        WRITERS[kind](root, split, images(split, count))
    return root
