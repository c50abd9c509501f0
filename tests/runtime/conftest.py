"""Settings for the tests of the runtime."""

import pytest

from onebit.machine import processor


@pytest.fixture(autouse=True)
def as_many_threads_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there are fewer CPUs: what a network computes must not depend on either."""
    monkeypatch.setattr(processor, "usable", lambda threads: threads)
