"""TensorBoard events, written as they come: the library's own writer has a thread, whose full disk nobody would see."""

import os
import socket
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import scalar

from onebit import files


class Events:
    """An event file in `folder`. Events of steps from `first` on, left by an earlier process, are void (purged).

    Raises UserError where the file cannot be written.
    """

    def __init__(self, folder: Path, first: int):
        self.path = folder / f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.0"
        with files.failures(self.path):
            self.file = open(self.path, "ab")  # noqa: SIM115 closed by close
        self.records = RecordWriter(self.file)
        self.write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self.write(Event(wall_time=time.time(), step=first, session_log=SessionLog(status=SessionLog.START)))

    def scalars(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.write(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))

    def together(
        self, values: dict[str, float], histograms: dict[str, tuple[float, float, list[int]]], step: int
    ) -> None:
        """Many numbers, and histograms of (first edge, last edge, counts of bins of equal width), as one event."""
        summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
        for name, (first, last, counts) in histograms.items():
            width = (last - first) / len(counts)
            centres = [first + (place + 0.5) * width for place in range(len(counts))]
            counted = HistogramProto(
                min=first,
                max=last,
                num=sum(counts),
                sum=sum(n * x for n, x in zip(counts, centres)),
                sum_squares=sum(n * x * x for n, x in zip(counts, centres)),
                bucket_limit=[first + (place + 1) * width for place in range(len(counts))],
                bucket=counts,
            )
            summary.value.append(Summary.Value(tag=name, histo=counted))
        self.write(Event(wall_time=time.time(), step=step, summary=summary))

    def write(self, event: Event) -> None:
        with files.failures(self.path):
            self.records.write(event.SerializeToString())
            self.records.flush()

    def close(self) -> None:
        with files.failures(self.path):
            self.file.close()
