"""A classifier's labels in PyTorch and in the engine: how many are the same, and that every engine gives the same bits.

python benchmarks/labels.py runs/glue-minilm-bit-0/last.ckpt sst2.safetensors --data glue --root glue
"""

import argparse

import torch

from onebit.analysis.subject import opened
from onebit.runtime import native


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("packed", help="its packed file")
    parser.add_argument("--data", default="cifar10", help="data set, whose test examples are all taken")
    parser.add_argument("--root", default="data", help="folder that holds it")
    options = parser.parse_args()
    pytorch = opened(options.checkpoint, options.data, options.root, checkpoint=True)
    engines = {
        f"{isa}, {threads}": opened(
            options.packed, options.data, options.root, checkpoint=False, threads=threads, isa=isa
        )
        for isa in native.supported()
        for threads in (1, 2)
    }
    first = next(iter(engines.values()))
    examples = alike = 0
    largest = 0.0
    with torch.inference_mode():
        for batch in first.batches(32):
            expected = pytorch.network(batch.inputs).float()  # (B, labels)
            found = first.network(batch.inputs)
            for name, engine in engines.items():
                assert torch.equal(engine.network(batch.inputs), found), f"{name} threads: other bits"
            examples += len(found)
            alike += int((found.argmax(1) == expected.argmax(1)).sum())
            largest = max(largest, float((found - expected).abs().max()))
    print(f"{alike} of {examples} labels are the same ({100 * alike / examples:.2f} %), outputs within {largest:.3g}")
    print(f"the same bits: {'; '.join(engines)} threads")


if __name__ == "__main__":
    main()
