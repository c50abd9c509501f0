"""Photographs in the parquet files of Hugging Face's image data sets: a column image {bytes, path} and a column label.

ROOT/train-*.parquet or ROOT/data/train-*.parquet, and likewise for validation, val or test. The library `datasets` copies
them once into its cache ($HF_DATASETS_CACHE) as Arrow files, which take as much room again, and maps those into memory.
"""

from pathlib import Path
from typing import Any

import numpy as np

from onebit.data.dataset import Data
from onebit.data.loading.class_names import check_names
from onebit.data.loading.photographs import Labelled, photographs
from onebit.data.loading.shards import check_labels, find_shards, numbers
from onebit.data.options import LoadOptions
from onebit.errors import UserError
from onebit.machine import installation


class ParquetSamples(Labelled):
    """Rows of a table in memory-mapped files."""

    def __init__(self, root: Path, paths: list[Path]):
        try:
            import datasets
            from pyarrow import parquet
            from pyarrow.lib import ArrowException
        except ModuleNotFoundError as error:
            raise UserError(installation.missing(error.name, "parquet")) from error
        self.root = root
        self.paths = paths
        self.shards = []
        for path in paths:
            try:
                self.shards.append(parquet.read_metadata(path).num_rows)
            except (ArrowException, OSError) as error:
                raise UserError(f"parquet: {path} is not a whole parquet file ({error}); fetch it again") from error
        self.ends = np.cumsum(self.shards)
        try:
            table = datasets.Dataset.from_parquet([str(path) for path in paths])
        except (datasets.exceptions.DatasetGenerationError, ArrowException, OSError) as error:
            reason = error.__cause__ or error
            raise UserError(f"parquet: {paths[0].parent}: the files cannot be read ({reason})") from error
        for column in ("image", "label"):
            if column not in table.column_names:
                raise UserError(
                    f"parquet: {paths[0]} has the columns {', '.join(table.column_names)}, not {column!r}; rename one"
                )
        label = table.features["label"]
        self.classes: tuple[str, ...] | None = tuple(label.names) if isinstance(label, datasets.ClassLabel) else None
        self.labels = np.asarray(table.data.column("label").to_numpy())
        if self.labels.dtype.kind != "i":
            raise UserError(f"parquet: {paths[0]}: the column label holds {self.labels.dtype}, not numbers of classes")
        self.labels = self.labels.astype(np.int64)
        try:
            self.table: Any = table.select_columns("image").cast_column("image", datasets.Image(decode=False))
        except (ArrowException, TypeError, ValueError) as error:
            raise UserError(f"parquet: {paths[0]}: the column image holds no images ({error})") from error

    def name(self, index: int) -> str:
        file = int(np.searchsorted(self.ends, index, side="right"))
        row = index - int(self.ends[file]) + self.shards[file]
        return f"{self.paths[file]}: row {row}"

    def read(self, index: int) -> bytes:
        content = self.table[index]["image"]["bytes"]
        if content is None:
            raise OSError("it holds the path of an image, not its bytes")
        return content


def parquet(root: Path, options: LoadOptions) -> Data:
    train, test = (
        ParquetSamples(root, find_shards("parquet", root, splits, "parquet"))
        for splits in (("train",), ("validation", "val", "test"))
    )
    where, remedy = f"parquet: {train.paths[0]}", "write the files with other names"
    labels = None if train.classes is None else check_names(train.classes, where, remedy)
    if labels is None:
        labels = numbers("parquet", train.labels, test.labels)
    for samples in (train, test):
        check_labels("parquet", samples.labels, len(labels), str(samples.paths[0].parent))
    return photographs("parquet", train, test, labels, options)
