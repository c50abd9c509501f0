"""A signal in an evaluation: answered before its next batch; the run that continues evaluates, to the same bits and records."""

import itertools
import os
import signal
from typing import Any

import pytest

from onebit.errors import Stopped
from onebit.tasks import score
from onebit.training.stopping import Interrupted, Stop
from runs import STEPS, digits, last, metrics, run, same_end


@pytest.mark.parametrize("batch", [2, 4, 5], ids=["of the first epoch", "its last batch", "of the last epoch"])
def test_a_signal_in_an_evaluation(batch, tmp_path, monkeypatch):
    """Of 360 examples in 4 batches."""
    recipe = {"method": "rebnn", "ema_decay": 0.9}
    run(digits(tmp_path / "unbroken", **recipe))
    out = tmp_path / "run"
    score_network, counter = score.score_network, itertools.count(1)

    def watched(network: Any, *what: Any) -> Any:
        def counted(inputs: Any) -> Any:
            if next(counter) == batch:
                os.kill(os.getpid(), signal.SIGTERM)
            return network(inputs)

        return score_network(counted, *what)

    with monkeypatch.context() as patch:
        patch.setattr(score, "score_network", watched)
        epoch = (batch - 1) // 4
        says = f"after epoch {epoch}, step {STEPS - 1}; continue with --resume"
        with pytest.raises(Stopped, match=says) as caught:
            run(digits(out, **recipe))
    assert caught.value.code == 143 and next(counter) == batch + 1
    content = last(out)
    assert (content.progress.epoch, content.progress.step, content.score) == (epoch, STEPS, None)
    assert len(metrics(out)) == epoch if epoch else not (out / "metrics.csv").exists()
    run(digits(out, **recipe), resume=True)
    same_end(out, tmp_path / "unbroken")


class Ranks:
    """Stands for two ranks, whose states are reduced to their larger values."""

    device, world_size = "cpu", 2

    def __init__(self, others: list[list[int]]):
        self.others = iter(others)

    def all_reduce(self, state: Any, reduce_op: str) -> Any:
        return state.maximum(state.new_tensor(next(self.others)))


@pytest.mark.parametrize(
    ("others", "received", "stops"),
    [
        ([[0, 1], [0, 1], [0, 0]], 2, 0),
        ([[0, 1], [0, 1], [0, 1], [0, 0]], 2, 0),  # the other rank has a batch more
        ([[0, 0], [0, 0], [0, 0]], 2, 0),  # or none
        ([[0, 1], [15, 1]], 1, 15),
        ([[0, 1], [0, 1], [15, 1]], 2, 15),  # after this rank's last batch
    ],
)
def test_ranks_stop_together(others, received, stops):
    ranks, stop, batches = Ranks(others), Stop(), []
    stop.signal = 0
    try:
        for batch in stop.between([1, 2], ranks):  # type: ignore[arg-type, list-item]
            batches.append(batch)
        assert not stops
    except Interrupted as error:
        assert error.number == stops
    assert len(batches) == received and next(ranks.others, None) is None
