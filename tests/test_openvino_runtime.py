"""What OpenVINO does to a process."""

import subprocess
import sys
from pathlib import Path

from tiny_network import write_tiny_network

# Networks come and go in another order than a stack's, then a signal with a handler arrives.
SCRIPT = """
import gc, os, signal, sys
from pathlib import Path
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.models.weights import locate
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
