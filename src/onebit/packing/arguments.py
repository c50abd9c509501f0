"""What `onebit.pack` is told about a model, checked before any work is done, as plain values for the file."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onebit.errors import FormatError, UserError
from onebit.runtime import graph
from onebit.runtime.answers import ANSWERS
from onebit.runtime.graph import TaskRecord


def image_shape(given: Any, config: Mapping[str, Any]) -> tuple[int, int, int]:
    """(C, H, W): as given, or of a network of `onebit.models.create`, which has a config."""
    if given is None:
        if not {"in_channels", "image_size"} <= config.keys():
            raise UserError(
                "pack: input_shape=(channels, height, width) is needed for a model that onebit did not create for images"
            )
        return config["in_channels"], config["image_size"], config["image_size"]
    try:
        sizes = tuple(operator.index(size) for size in given)
    except TypeError:
        sizes = ()
    if len(sizes) == 4:
        raise UserError(
            f"pack: input_shape = {sizes} has a batch; give one image's (channels, height, width): {sizes[1:]}"
        )
    if len(sizes) != 3 or not all(1 <= size <= graph.MAX_SIZE for size in sizes):
        raise UserError(
            f"pack: input_shape = {given!r} must be (channels, height, width), whole numbers from 1 to {graph.MAX_SIZE}"
        )
    return sizes[0], sizes[1], sizes[2]


def per_channel(given: Any, what: str, channels: int, default: float) -> list[float]:
    """One number a channel; a single number stands for all channels."""
    if given is None:
        return [default] * channels
    try:
        values = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        values = np.empty((0, 0))
    if values.ndim == 0:
        values = np.full(channels, values)
    if values.shape != (channels,) or not np.isfinite(values).all():
        raise UserError(f"pack: {what} = {graph.show(given)} must be one number, or {channels}, one per channel")
    if what == "std" and (np.abs(values) < 1e-12).any():
        raise UserError(f"pack: std = {graph.show(given)} must not contain 0")
    return values.tolist()


def number(given: Any, what: str) -> float:
    """A finite number of any library."""
    try:
        return graph.number(float(given), f"pack: {what}")
    except (TypeError, ValueError) as error:
        raise UserError(f"pack: {what} = {graph.show(given)} must be a finite number") from error


def whole(given: Any, what: str) -> int | None:
    """A whole number of any library, or None."""
    try:
        return None if given is None else graph.integer(1, graph.MAX_SIZE)(operator.index(given), f"pack: {what}")
    except (TypeError, ValueError) as error:
        raise UserError(f"pack: {what} = {graph.show(given)} must be a whole number of pixels") from error


def text(given: Any, what: str, remedy: str) -> str:
    """Text that the format allows. Raises UserError that ends in the remedy."""
    try:
        return graph.text(given, f"pack: {what}")
    except FormatError as error:
        raise UserError(f"{error}; {remedy}") from error


def names(given: Sequence[str] | None) -> list[str] | None:
    """Labels that the format allows."""
    if given is None:
        return None
    if isinstance(given, str | bytes | Mapping) or not hasattr(given, "__len__"):
        raise UserError(f"pack: labels = {graph.show(given)} must be a list of texts, one for each output")
    if len(given) > graph.MAX_LABELS:
        raise UserError(f"pack: {len(given)} labels, at most {graph.MAX_LABELS} are supported")
    remedy = "give other names with labels=[...], `onebit pack --labels FILE`"
    return [text(label, f"labels[{place}]", remedy) for place, label in enumerate(given)]


def numbers(given: Mapping[str, Any] | None) -> dict[str, float]:
    """Scores that the format allows."""
    if not isinstance(given, Mapping | None):
        raise UserError(f"pack: scores = {graph.show(given)} must be a dict of numbers by name")
    return {
        text(key, "scores", "give other names with scores="): number(value, key) for key, value in (given or {}).items()
    }


def check_answer(task: Any, answer: Any) -> None:
    """Refuse a way of reading outputs that there is not, or that the file of a classifier could not say."""
    if not isinstance(task, str) or not task:
        raise UserError(f"pack: task = {task!r} must be a task's name, such as {TaskRecord.name}")
    if answer not in ANSWERS:
        raise UserError(f"pack: answer = {answer!r} is unknown; choose one of {', '.join(ANSWERS)}")
    if task == TaskRecord.name and answer != TaskRecord.answer:
        raise UserError(f"pack: answer = {answer!r} is not how a classifier is read; name the task with task=")


def check_percent(accuracy: float | None) -> None:
    if accuracy is not None and not 0 <= accuracy <= 100:
        raise UserError(f"pack: accuracy = {accuracy} is no percentage; give a number from 0 to 100, or leave it out")
