"""A detector's boxes in PyTorch and in the engine: how many above a score of 0.05 are the same, and that every engine gives one answer.

    python benchmarks/boxes.py runs/cells/last.ckpt cells.safetensors --data voc --root BCCD

A box is matched by one of its label whose IoU is --iou or more and whose score differs by at most --score.
"""

import argparse
from itertools import chain

import torch
from torchvision.ops import box_iou

from onebit import data, runtime, tasks
from onebit.checkpoints import checkpoint
from onebit.runtime import native
from onebit.tasks.found import Found

LEAST = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("packed", help="its packed file")
    parser.add_argument("--data", default="voc", help="data set")
    parser.add_argument("--root", default="data", help="folder that holds it")
    parser.add_argument("--images", type=int, default=100, help="the test's, and then some of the training's")
    parser.add_argument("--iou", type=float, default=0.99)
    parser.add_argument("--score", type=float, default=1e-3)
    options = parser.parse_args()
    saved = checkpoint.load(options.checkpoint)
    model = saved.network()
    source = data.load(options.data, options.root, data.LoadOptions(image_size=saved.config["image_size"], workers=0))
    task = tasks.create("detection", saved.task["labels"], settings=saved.task["settings"])
    engine, *others = (
        task.outputs_of(runtime.load(options.packed, threads=threads, isa=isa))
        for threads, isa in [(1, None), (2, None), *((1, isa) for isa in native.supported())]
    )
    test, rest = source.test.some(options.images), max(0, options.images - len(source.test))
    images = alike = boxes = matched = 0
    for batch in chain(test.evaluation_batches(4), source.train.some(rest).evaluation_batches(4) if rest else ()):
        with torch.inference_mode():
            expected = task.read(model(batch.inputs))
        answers = engine(batch.inputs)
        if not images:
            for other in others:
                assert all(map(same, other(batch.inputs), answers)), "another engine finds something else"
        for ours, theirs in zip(map(certain, answers), map(certain, expected), strict=True):
            near = (ours.scores[:, None] - theirs.scores).abs() <= options.score
            near &= ours.labels[:, None] == theirs.labels
            near &= box_iou(ours.boxes, theirs.boxes) >= options.iou  # (N, M)
            images, boxes, matched = images + 1, boxes + len(ours.scores), matched + int(near.any(1).sum())
            alike += len(ours.scores) == len(theirs.scores)
    print(f"{matched} of {boxes} boxes on {images} images are matched, in {alike} images there are as many")


def certain(found: Found) -> Found:
    kept = found.scores > LEAST
    return Found(found.boxes[kept], found.labels[kept], found.scores[kept])


def same(one: Found, other: Found) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("boxes", "labels", "scores"))


if __name__ == "__main__":
    main()
