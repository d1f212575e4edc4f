"""The benchmark counts what it says, and both loops train."""

import json
import subprocess
import sys

import pytest

from bleedmap.bench.training import forward_flop, measure_passes
from bleedmap.training.config import TrainConfig
from bleedmap.training.device import choose_machine


def test_a_forward_pass_costs_what_the_thesis_network_is_known_to():
    assert forward_flop(TrainConfig(size=256)) == pytest.approx(73.4e9, rel=0.005)


@pytest.mark.exhaustive
def test_both_loops_are_measured_epoch_by_epoch():
    config = TrainConfig(width=1 / 16, size=32, batch_size=8)
    found = measure_passes(config, choose_machine("cpu", "fp32"), slices=20, epochs=2, workers=1)
    assert len(found["plain_epochs"]) == len(found["ours_epochs"]) == 2
    assert found["ratio"] == pytest.approx(found["ours_slices_per_s"] / found["plain_slices_per_s"], rel=0.02)
    assert 0 < found["share"] < 1


@pytest.mark.exhaustive
def test_the_command_tells_the_ratio():
    size = ["--width", "0.0625", "--size", "32", "--slices", "16", "--batch-size", "8", "--epochs", "1"]
    words = ["reproduce", "speed", *size, "--device", "cpu", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "bleedmap.cli.main", *words], capture_output=True, text=True, check=True, timeout=600
    )
    assert json.loads(done.stdout)["ratio"] > 0
