"""A loaded network in a pickle, as a deep copy, and in processes that inherit nothing."""

import copy
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest

from nets import random_net
from onebit.errors import FormatError, UserError
from onebit.runtime import Model, extension, load, native
from onebit.runtime import format as file_format

BACKENDS = ["reference", *(["engine"] if native.available() else [])]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file_format.write(tmp_path / "net", *random_net(3))
    return tmp_path / "net"


def images(model: Model) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, *model.input_shape)).astype(np.float32)


@pytest.mark.parametrize("backend", BACKENDS)
def test_copies_compute_the_same_where_the_file_is_gone(path: Path, backend: str) -> None:
    model = load(path, backend=backend, threads=2)
    expected = model(images(model))
    path.write_bytes(b"another file by now")
    for copied in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model)):
        assert (copied.isa, copied.threads, copied.graph) == (model.isa, model.threads, model.graph)
        assert type(copied.backend) is type(model.backend) and copied.backend is not model.backend
        assert np.array_equal(copied(images(model)), expected)
    again = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(model))))
    assert np.array_equal(again(images(model)), expected)


@pytest.mark.skipif(not native.available(), reason="the engine is not built")
def test_copies_keep_the_request_and_not_what_it_gave(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forced instruction set stays forced; a free choice is made again, where the copy lives."""
    assert copy.deepcopy(load(path, isa="scalar")).isa == "scalar"
    free, forced = pickle.dumps(load(path)), pickle.dumps(load(path, backend="engine"))
    monkeypatch.setenv("ONEBIT_ISA", "scalar")
    assert pickle.loads(free).isa == "scalar"
    monkeypatch.setattr(extension, "MODULE", "onebit.runtime._absent")
    assert pickle.loads(free).isa == "reference"
    with pytest.raises(UserError, match="the engine is not built"):
        pickle.loads(forced)


def test_a_pickle_is_checked_as_a_file_is(path: Path) -> None:
    restore, (data, request) = load(path, backend="reference").__reduce__()
    with pytest.raises(FormatError):
        restore(data[:-1], request)


def answer(job: tuple[Model, np.ndarray]) -> np.ndarray:
    model, inputs = job
    return model(inputs)


def test_a_process_that_inherits_nothing(path: Path) -> None:
    model = load(path, threads=2)
    inputs = images(model)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert np.array_equal(pool.map(answer, [(model, inputs)])[0], model(inputs))
