"""What `onebit.pack` is told about a model, checked before any work is done, as plain values for the file."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np

from onebit.errors import FormatError, UserError
from onebit.runtime import fields, vocabulary
from onebit.runtime.answers import ANSWERS
from onebit.runtime.fields import MAX_CHANNELS, MAX_SIZE
from onebit.runtime.graph import INPUT, MAX_INPUTS, MAX_TRAINING, TaskRecord, check_texts
from onebit.runtime.inputs import PIECES, Floats, Image, Input, Tokens


def inputs(
    given: Any, input_shape: Any, mean: Any, std: Any, resize: Any, config: Mapping[str, Any]
) -> dict[str, Input] | Input:
    """The inputs by the names of forward's arguments; or the one image of a model that was told in the short form, or that
    `onebit.models.create` made, which has a config."""
    if given is None:
        if input_shape is None:
            if not {"in_channels", "image_size"} <= config.keys():
                raise UserError(
                    "pack: input_shape=(channels, height, width) is needed for a model that onebit did not create for images"
                )
            input_shape = (config["in_channels"], config["image_size"], config["image_size"])
        return image(input_shape, mean, std, resize, INPUT, "input_shape")
    for what, value in (("input_shape", input_shape), ("mean", mean), ("std", std), ("resize", resize)):
        if value is not None:
            raise UserError(
                f"pack: {what}= is for models of one image; with inputs=, give it as onebit.Image(..., {what})"
            )
    if not isinstance(given, Mapping) or not 1 <= len(given) <= MAX_INPUTS:
        raise UserError(
            f"pack: inputs = {fields.show(given)} must be a dict of 1 to {MAX_INPUTS} onebit.Image, Tokens or Floats by the names "
            "of forward's arguments"
        )
    found = {name: of_type(source, name) for name, source in given.items()}
    try:
        check_texts(tuple(found.values()))
    except FormatError as error:
        raise UserError(f"pack: inputs: {error}") from error
    return found


def of_type(given: Any, name: Any) -> Input:
    """One of the inputs, with the name of its argument."""
    if not isinstance(name, str) or not fields.NAME.fullmatch(name):
        raise UserError(f"pack: inputs = {{{fields.show(name)}: ...}}: names are 1 to 200 letters, digits or _ . / -")
    where = f"inputs[{name!r}]"
    if isinstance(given, Image):
        return image(given.shape, given.mean, given.std, given.resize, name, f"{where}: shape")
    if isinstance(given, Tokens):
        return tokens(given, name, where)
    if isinstance(given, Floats):
        shape = given.shape
        if isinstance(shape, tuple | list) and len(shape) == 1:
            return Floats((required(shape[0], MAX_CHANNELS, f"{where}: shape"),), name)
        return Floats(image_shape(shape, f"{where}: shape"), name)
    raise UserError(f"pack: {where} = {fields.show(given)} must be a onebit.Image, Tokens or Floats")


def tokens(given: Tokens, name: str, where: str) -> Tokens:
    """Tokens whose numbers, and what they hold of texts, are checked."""
    length = required(given.length, MAX_SIZE, f"{where}: length")
    count = required(given.count, MAX_CHANNELS, f"{where}: count")
    found = Tokens(length, count, name, holds=given.holds, lowercase=given.lowercase)
    try:
        Tokens.parse(found.to_dict(), f"pack: {where}")
        if given.holds == PIECES:
            words = listed(given.vocabulary, f"pack: {where}: vocabulary")
            found = replace(found, vocabulary=vocabulary.given(words, count, f"pack: {where}: vocabulary"))
    except (TypeError, FormatError) as error:
        raise UserError(str(error)) from error
    if given.holds != PIECES and given.vocabulary is not None and len(given.vocabulary):
        raise UserError(f'pack: {where} has a vocabulary; give holds="{PIECES}" with it, or leave it out')
    return found


def listed(given: Any, where: str) -> tuple[Any, ...]:
    """The pieces in the order of their numbers, which neither a dict of the numbers, a set nor a file's name has."""
    if isinstance(given, str | bytes | Mapping | Set) or not isinstance(given, Iterable):
        raise UserError(
            f"{where} = {fields.show(given)} must be a list of the pieces in the order of their numbers; of a tokenizer's "
            "dict give sorted(vocabulary, key=vocabulary.get)"
        )
    return tuple(given)


def image(shape: Any, mean: Any, std: Any, resize: Any, name: str, what: str) -> Image:
    """An image whose numbers are checked; None and () stand for a mean of 0 and a std of 1."""
    sizes = image_shape(shape, what)
    means, stds = per_channel(mean, "mean", sizes[0], 0.0), per_channel(std, "std", sizes[0], 1.0)
    return Image(sizes, tuple(means), tuple(stds), whole(resize, "resize"), name)


def required(given: Any, most: int, what: str) -> int:
    """A whole number from 1 to `most`, of any library."""
    try:
        return fields.integer(1, most)(operator.index(given), f"pack: {what}")
    except (TypeError, FormatError) as error:
        raise UserError(f"pack: {what} = {fields.show(given)} must be a whole number from 1 to {most}") from error


def image_shape(given: Any, what: str) -> tuple[int, int, int]:
    """(C, H, W), as given."""
    try:
        sizes = tuple(operator.index(size) for size in given)
    except TypeError:
        sizes = ()
    if len(sizes) == 4:
        raise UserError(f"pack: {what} = {sizes} has a batch; give one image's (channels, height, width): {sizes[1:]}")
    if len(sizes) != 3 or not all(1 <= size <= fields.MAX_SIZE for size in sizes):
        raise UserError(
            f"pack: {what} = {given!r} must be (channels, height, width), whole numbers from 1 to {fields.MAX_SIZE}"
        )
    return sizes[0], sizes[1], sizes[2]


def per_channel(given: Any, what: str, channels: int, default: float) -> list[float]:
    """One number a channel; a single number stands for all channels."""
    if given is None or (isinstance(given, tuple) and not given):
        return [default] * channels
    try:
        values = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        values = np.empty((0, 0))
    if values.ndim == 0:
        values = np.full(channels, values)
    if values.shape != (channels,) or not np.isfinite(values).all():
        raise UserError(f"pack: {what} = {fields.show(given)} must be one number, or {channels}, one per channel")
    if what == "std" and (np.abs(values) < 1e-12).any():
        raise UserError(f"pack: std = {fields.show(given)} must not contain 0")
    return values.tolist()


def number(given: Any, what: str) -> float:
    """A finite number of any library."""
    try:
        return fields.number(float(given), f"pack: {what}")
    except (TypeError, ValueError) as error:
        raise UserError(f"pack: {what} = {fields.show(given)} must be a finite number") from error


def whole(given: Any, what: str) -> int | None:
    """A whole number of any library, or None."""
    try:
        return None if given is None else fields.integer(1, fields.MAX_SIZE)(operator.index(given), f"pack: {what}")
    except (TypeError, ValueError) as error:
        raise UserError(f"pack: {what} = {fields.show(given)} must be a whole number of pixels") from error


def text(given: Any, what: str, remedy: str) -> str:
    """Text that the format allows. Raises UserError that ends in the remedy."""
    try:
        return fields.text(given, f"pack: {what}")
    except FormatError as error:
        raise UserError(f"{error}; {remedy}") from error


def names(given: Sequence[str] | None) -> list[str] | None:
    """Labels that the format allows."""
    if given is None:
        return None
    if isinstance(given, str | bytes | Mapping) or not hasattr(given, "__len__"):
        raise UserError(f"pack: labels = {fields.show(given)} must be a list of texts, one for each output")
    if len(given) > fields.MAX_LABELS:
        raise UserError(f"pack: {len(given)} labels, at most {fields.MAX_LABELS} are supported")
    remedy = "give other names with labels=[...], `onebit pack --labels FILE`"
    return [text(label, f"labels[{place}]", remedy) for place, label in enumerate(given)]


def numbers(given: Mapping[str, Any] | None) -> dict[str, float]:
    """Scores that the format allows."""
    if not isinstance(given, Mapping | None):
        raise UserError(f"pack: scores = {fields.show(given)} must be a dict of numbers by name")
    return {
        text(key, "scores", "give other names with scores="): number(value, key) for key, value in (given or {}).items()
    }


def settings(answer: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """{"settings": ...} of an answer that needs them, else nothing. Raises UserError."""
    entry = {} if given is None else {"settings": given}
    try:
        found = ANSWERS[answer].settings(entry, "pack")
    except FormatError as error:
        raise UserError(f"{error} (docs/format.md describes them)") from error
    return {"settings": found} if found else {}


def training(given: Mapping[str, Any] | None) -> dict[str, float | str]:
    """A record of the training that the format allows."""
    if not isinstance(given, Mapping | None) or len(given or ()) > MAX_TRAINING:
        raise UserError(
            f"pack: training = {fields.show(given)} must be a dict of at most {MAX_TRAINING} numbers and texts by name"
        )
    remedy = "give numbers and texts with training="
    return {
        text(key, "training", remedy): text(value, f"training[{key!r}]", remedy)
        if isinstance(value, str)
        else number(value, f"training[{key!r}]")
        for key, value in (given or {}).items()
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
