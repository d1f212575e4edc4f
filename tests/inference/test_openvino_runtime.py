"""What OpenVINO does to a process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tiny_network import write_tiny_network

# Networks come and go in another order than a stack's, then a signal with a handler arrives.
SCRIPT = """
import gc, os, signal, sys
from pathlib import Path
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.weights import locate
heard = []
signal.signal(signal.SIGINT, lambda *_: heard.append(1))
weights = locate(Path(sys.argv[1]))
first, second = OpenVinoBackend(weights), OpenVinoBackend(weights)
for gone in ("first", "second"):
    del globals()[gone]
    gc.collect()
    os.kill(os.getpid(), signal.SIGINT)
print(len(heard))
"""


def test_a_signal_after_networks_have_gone_is_heard(tmp_path: Path) -> None:
    write_tiny_network(tmp_path / "tiny.onnx")
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "tiny.onnx")], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout.split()) == (0, ["2"]), ended.stderr


# Bound threads are bound while they compute, and given back after each slice: so they are watched meanwhile.
WATCHED = """
import os, sys, threading
from contextlib import suppress
import numpy as np
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.weights import locate
backend, stop, seen = OpenVinoBackend(locate(), "auto", int(sys.argv[1])), threading.Event(), set()

def watch():
    while not stop.is_set():
        for task in os.listdir("/proc/self/task"):
            with suppress(ProcessLookupError):
                seen.add(frozenset(os.sched_getaffinity(int(task))))

watching = threading.Thread(target=watch)
watching.start()
backend.predict(np.zeros((20, 3, 288, 288), np.float32))
stop.set()
watching.join()
print(seen == {frozenset(os.sched_getaffinity(0))})
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux tells to which cores a thread is bound")
@pytest.mark.parametrize("threads", [1, 2])
def test_the_networks_threads_go_where_cores_are_free(threads: int) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core is all there is")
    ended = subprocess.run(
        [sys.executable, "-c", WATCHED, str(threads)], capture_output=True, text=True, check=False, timeout=600
    )
    assert (ended.returncode, ended.stdout.split()) == (0, ["True"]), ended.stderr
