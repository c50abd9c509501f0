"""A loaded network in the child of a fork, which has its parent's memory but only one of its threads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nets
from onebit.runtime import format as file_format
from onebit.runtime import native

pytestmark = [
    pytest.mark.skipif(not native.available(), reason="the engine is not built"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here"),
]
PROGRAM = """
import gc, os, signal, sys, threading, time, warnings
import numpy as np
from onebit import runtime
from onebit.machine import processor

processor.usable = lambda threads: threads  # also where there are fewer CPUs
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
path, threads = sys.argv[1], int(sys.argv[2])
net = runtime.load(path, threads=threads, backend="engine")
few, many = np.random.default_rng(0).normal(size=(2, 16, 3, 32, 32)).astype(np.float32)
few = few[:1]
right = net(few), net(many)


def answers():
    assert all(np.array_equal(net(x), y) for x, y in zip((few, many), right))


def on_three_threads():
    wrong = []
    def run():
        try:
            answers()
        except BaseException as error:
            wrong.append(error)
    started = [threading.Thread(target=run) for _ in range(3)]
    for thread in started: thread.start()
    for thread in started: thread.join()
    assert not wrong, wrong


def free():
    global net
    net = None
    gc.collect()


def again():
    global net
    net = runtime.load(path, threads=threads, backend="engine")
    answers()


def grandchild():
    answers()
    code = child(answers, exit=os._exit)
    assert code == 0, code


def child(work, exit):
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException as error:
            print(f"child: {error!r}", file=sys.stderr)
            os._exit(1)
        exit(0)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hangs"
"""
KINDS = """
for work in (lambda: None, answers, on_three_threads, free, again, grandchild):
    for exit in (sys.exit, os._exit):  # as a program ends, which frees the network, and at once
        code = child(work, exit)
        assert code == 0, (work.__name__, code)
answers()
"""
BUSY = """
stop = False
def busy():
    while not stop: net(many); net(few)
others = [threading.Thread(target=busy) for _ in range(2)]
for thread in others: thread.start()
codes = [child(work, sys.exit) for _ in range(3) for work in (lambda: None, answers, on_three_threads, free)]
stop = True
for thread in others: thread.join()
assert set(codes) == {0}, codes
answers()
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("forks") / "net"
    file_format.write(path, *nets.resnet20())
    return path


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("situation", [KINDS, BUSY], ids=["quiet", "while_other_threads_run_it"])
def test_children(path: Path, situation: str, threads: int) -> None:
    """They run, free and reload the network, alone and on threads of their own, with the same bits, and end at once."""
    command = [sys.executable, "-c", PROGRAM + situation, str(path), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr[-2000:]
