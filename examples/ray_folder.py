"""What a packed network answers to many images, on all machines of a Ray cluster: docs/cluster.md.

python examples/ray_folder.py adabin.safetensors photographs/ answers/
"""

import argparse
import os
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reads it when it is imported

import ray

from onebit import runtime
from onebit.errors import UserError
from onebit.runtime.pictures import SUFFIXES
from onebit.runtime.run import answered, reader_of

READING = 0.25  # of a processor, to read and write: a worker that took a whole one would wait for ever where it is the only one


class Answers:
    """One worker: the network, loaded once, and what it says to a batch."""

    def __init__(self, model: runtime.Model):
        self.model = model  # it travels as its file's bytes; the engine here takes this machine's instruction set
        self.reader = reader_of(model)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        inputs, problems = [], []
        for content in batch["bytes"]:
            try:
                inputs.append(self.reader.seen(content, self.model))  # decoded, resized and cut as `onebit run` does
                problems.append("")
            except UserError as error:
                problems.append(str(error))
        found = iter(answered(self.model, inputs) if inputs else ())
        best = [{"label": "", "score": float("nan")} if problem else next(found)[0] for problem in problems]
        names = {"path": batch["path"]} if "path" in batch else {}
        return names | {"label": [b["label"] for b in best], "score": [b["score"] for b in best], "problem": problems}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="packed file, on this machine")
    parser.add_argument("images", help='folder of images; or of .parquet files whose column "bytes" holds image files')
    parser.add_argument("answers", help="folder for parquet files: path, label, score, problem")
    parser.add_argument("--parquet", action="store_true", help="the images are in parquet files")
    parser.add_argument("--wheel", help="onebit, for machines where it is not installed")
    options = parser.parse_args()
    try:
        model = runtime.load(options.model, threads=1)  # a worker a processor, each with one thread
        reader_of(model).check_model(model)
    except UserError as error:
        parser.error(str(error))

    environment = {"py_modules": [options.wheel]} if options.wheel else None
    ray.init(include_dashboard=False, log_to_driver=False, runtime_env=environment)
    if options.parquet:
        images = ray.data.read_parquet(options.images, num_cpus=READING)
    else:
        endings = [suffix.removeprefix(".") for suffix in SUFFIXES]
        images = ray.data.read_binary_files(
            options.images, include_paths=True, file_extensions=endings, num_cpus=READING
        )
    answers = images.map_batches(Answers, fn_constructor_args=[model], batch_size=64, num_cpus=1 - READING)
    answers.write_parquet(options.answers, mode=ray.data.SaveMode.ERROR, ray_remote_args={"num_cpus": READING})


if __name__ == "__main__":
    main()
