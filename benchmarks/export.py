"""A packed network in the engine and, exported, in ONNX Runtime: bytes, decisions on a data set's test images, time.

    python benchmarks/export.py adabin.safetensors --root data
    python benchmarks/export.py photographs.safetensors --data imagefolder --root imagenette

Times are of one image and one thread, the least of --runs turns in which both take part.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from onebit import export, runtime
from onebit.analysis.subject import opened


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", help="packed file, or zoo:NAME")
    parser.add_argument("--data", default="cifar10", help="data set")
    parser.add_argument("--root", default="data", help="folder that holds it")
    parser.add_argument("--runs", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        print(f"{export.write(options.model, file)['bytes']} bytes")
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    calls: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "onebit": runtime.load(options.model, threads=1),
        "ONNX Runtime": lambda images: session.run(None, {name: images})[0],
    }
    logits: dict[str, list[np.ndarray]] = {engine: [] for engine in calls}
    targets = []
    for batch in opened(options.model, options.data, options.root, checkpoint=False).batches(100):
        images = np.ascontiguousarray(batch.inputs.numpy())
        targets.append(batch.targets.numpy())
        for engine, call in calls.items():
            logits[engine].append(call(images))
    labels, (ours, theirs) = np.concatenate(targets), (np.concatenate(found) for found in logits.values())
    for engine, found in zip(calls, (ours, theirs), strict=True):
        print(f"{engine}: {100 * np.mean(found.argmax(1) == labels):.2f} % of {len(labels)} images")
    difference = np.abs(ours - theirs).max(1)
    print(f"the same label for {100 * np.mean(ours.argmax(1) == theirs.argmax(1)):.2f} %")
    print(f"logits within 1e-4 for {100 * np.mean(difference < 1e-4):.2f} %")
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(options.runs):
        for engine, call in calls.items():
            start = time.perf_counter()
            call(images[:1])
            best[engine] = min(best[engine], 1000 * (time.perf_counter() - start))
    print(", ".join(f"{engine} {ms:.3f} ms" for engine, ms in best.items()))


if __name__ == "__main__":
    main()
