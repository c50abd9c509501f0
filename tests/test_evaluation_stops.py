"""A signal in an evaluation: answered before its next batch; the run that continues evaluates, to the same bits and records."""

import contextlib
import itertools
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from commands import ranks
from onebit.cli import main as cli
from onebit.errors import Stopped
from onebit.tasks import score
from onebit.training.stopping import Interrupted, Stop
from runs import STEPS, arguments, digits, last, metrics, run, same_end


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


def evaluate_until_told(folder: Path, out: Path) -> None:
    """The command line, where rank 1 alone receives SIGTERM in the first batch of its evaluation."""
    update, rank = score.Score.update, os.environ["LOCAL_RANK"]

    def watched(self: score.Score, outputs: Any, targets: Any) -> None:
        update(self, outputs, targets)
        if rank == "1" and not outputs.requires_grad and outputs.is_inference():
            os.kill(os.getpid(), signal.SIGTERM)

    score.Score.update = watched  # type: ignore[method-assign]
    with (folder / f"{rank}.txt").open("w") as file, contextlib.redirect_stderr(file):
        code = cli.main(["train", *arguments(out, method="xnor", batch_size=256, devices="2"), "--json"])
    os._exit(code)


def test_processes_stop_in_the_same_evaluation(tmp_path):
    """One of them says so, and the run continues with that evaluation."""
    for process in ranks(evaluate_until_told, tmp_path, tmp_path / "run"):
        process.join(100)
        assert process.exitcode == 143
    messages = [[x for x in (tmp_path / f"{n}.txt").read_text().splitlines() if x[:6] == "onebit"] for n in range(2)]
    assert len(messages[0]) == 1 and "stopped by SIGTERM after epoch 0, step 4;" in messages[0][0] and not messages[1]
    content = last(tmp_path / "run")
    assert (content.progress.epoch, content.progress.step, content.progress.partial["examples"]) == (0, 5, 1280)
    run(digits(tmp_path / "run", method="xnor", batch_size=256, accumulate=2), resume=True)
    assert [row["epoch"] for row in metrics(tmp_path / "run")] == ["1", "2"]
