"""Runs the command line as if the training packages were not installed."""

import subprocess
import sys

TRAINING_PACKAGES = ("torch", "safetensors", "onnx", "onnxscript", "tensorboard", "matplotlib", "pooch", "requests")
BLOCKED = f"""
import sys
for package in {TRAINING_PACKAGES!r}:
    sys.modules[package] = None  # as if it were not installed
from bleedmap.cli.main import main
"""


def without_training_packages(*arguments: str, first: str = "") -> "subprocess.CompletedProcess[str]":
    """Run the command line as a plain install would, after the statement `first`, if any."""
    command = [sys.executable, "-c", f"{BLOCKED}{first}\nmain(sys.argv[1:])", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
