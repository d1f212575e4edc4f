"""The benchmark counts what it says, and both loops train."""

import json

import pytest

from bleedmap.bench import training
from bleedmap.bench.training import forward_flop, measure_passes
from bleedmap.training.config import TrainConfig
from bleedmap.training.device import choose_machine
from command_line import run


@pytest.fixture
def _small_product(monkeypatch):
    """The product of 4096³ that is the machine's own rate takes seconds; one of 512³ is measured as well."""
    monkeypatch.setattr(training, "MATRIX", 512)


def test_a_forward_pass_costs_what_the_thesis_network_is_known_to():
    assert forward_flop(TrainConfig(size=256)) == pytest.approx(73.4e9, rel=0.005)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("_small_product")
def test_both_loops_are_measured_epoch_by_epoch():
    config = TrainConfig(width=1 / 16, size=32, batch_size=8)
    found = measure_passes(config, choose_machine("cpu", "fp32"), slices=20, epochs=2, workers=1)
    assert len(found["plain_epochs"]) == len(found["ours_epochs"]) == 2
    assert found["ratio"] == pytest.approx(found["ours_slices_per_s"] / found["plain_slices_per_s"], rel=0.02)
    assert 0 < found["share"] < 1


@pytest.mark.exhaustive
@pytest.mark.usefixtures("_small_product")
def test_the_command_tells_the_ratio(capsys):
    size = ["--width", "0.0625", "--size", "32", "--slices", "16", "--batch-size", "8", "--epochs", "1"]
    assert run("reproduce", "speed", *size, "--device", "cpu", "--json") == 0
    assert json.loads(capsys.readouterr().out)["ratio"] > 0
