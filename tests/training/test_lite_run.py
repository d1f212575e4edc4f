"""`bleedmap train --preset lite`: in stages, stopped and resumed, in several processes; exported and measured."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import tiny_lite  # noqa: E402
from bleedmap.cli.main import main  # noqa: E402
from bleedmap.datasets.splits import Split  # noqa: E402
from bleedmap.inference.weights import locate  # noqa: E402
from bleedmap.models.checkpoint import read_checkpoint  # noqa: E402
from bleedmap.training import steps  # noqa: E402
from bleedmap.training.config import PRESETS, LiteConfig  # noqa: E402
from bleedmap.training.run import Run, open_run  # noqa: E402
from head_release import PATIENTS, write_heads  # noqa: E402
from tiny_lite import RECIPE  # noqa: E402
from tiny_network import ANY_PICTURE  # noqa: E402

STAGES = LiteConfig(
    (
        ("phantoms", replace(RECIPE, lesion=0, lesion_free=0, phantom=4, steps=2)),
        ("patients", replace(RECIPE, steps=6)),
        ("mixed", replace(RECIPE, size=96, steps=3, learning_rate=1e-4, start_share=0.5)),
    )
)


def run(*arguments: object) -> int:
    """Run the command line in process; its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data set, with a split file beside it; the preset lite takes seconds."""
    monkeypatch.setitem(PRESETS, "lite", ("in seconds", STAGES))
    release = write_heads(tmp_path / "ct-ich")
    numbers = [f"{one:03d}" for one in PATIENTS]
    sides = [
        tuple(record.id for record in release.slices if record.id.split("/")[0] in chosen)
        for chosen in (numbers[:6], numbers[6:10], numbers[10:])
    ]
    split = Split("patient", 0, False, release.content_sha256(), release.release, None, None, *sides)
    split.write(tmp_path / "split.json")
    return tmp_path


@pytest.mark.exhaustive
def test_the_whole_way_stopped_and_resumed(data, monkeypatch, capsys):
    """Stopped in the second stage and resumed: the same weights and thresholds in the end."""
    train = ("train", "--data", data / "ct-ich", "--device", "cpu", "--precision", "fp32")
    new = (*train, "--split", data / "split.json", "--preset", "lite")
    assert run(*new, "-o", data / "whole") == 0
    whole = open_run(data / "whole")
    assert [sorted(path.name for path in (whole.folder / name).iterdir()) for name, _ in STAGES.stages] == [
        ["curves", "metrics.jsonl", "network.safetensors"]
    ] * 3
    assert [entry["step"] for entry in Run(whole.folder / "mixed").metrics()] == [3]

    stops = [True]

    class Bar:
        def __init__(self, **_: object) -> None: ...
        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None: ...
        def report(self, what: str, done: float, of: float | None, note: str = "") -> None:
            if what == "stage patients" and done == 2 and stops.pop():
                raise KeyboardInterrupt

    monkeypatch.setattr("bleedmap.cli.train.ProgressBar", Bar)
    monkeypatch.setattr(steps, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(steps, "ROUND", 1)
    assert run(*new, "-o", data / "stopped") == 130
    assert read_checkpoint(data / "stopped/patients/checkpoint.safetensors").record["step"] == 2
    assert not (data / "stopped/mixed").exists()
    resume = ("train", "--data", data / "ct-ich", "--resume", data / "stopped")
    assert run(*resume) == 0
    ends = [read_checkpoint(folder / "best.safetensors") for folder in (whole.folder, data / "stopped")]
    for end in ends:
        del end.record["export"]["code"]  # says whether the working copy has changes
    assert ends[0].record == ends[1].record
    assert all(torch.equal(tensor, ends[1].tensors[name]) for name, tensor in ends[0].tensors.items())
    assert run(*resume, "--steps", "4") == 2

    capsys.readouterr()
    onnx = data / "lite.onnx"
    assert run("export", data / "whole", "-o", onnx, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["trained_patients"] == ["050", "051", "052", "053", "054", "055"]
    assert record["chosen_on_patients"] == ["056", "057", "058", "059"]
    weights = locate(onnx)
    assert weights.certainty is not None
    assert weights.threshold == record["threshold"]
    assert run("evaluate", data / "whole", "--data", data / "ct-ich", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["slices"], report["lesion_slices"], report["patients"]) == (8, 2, 2)
    assert report["patients_also_trained_on"] == 0
    assert report["detection"]["slice_roc_auc"] is not None
    assert run("evaluate", onnx, "--split", data / "split.json", "--data", data / "ct-ich", "--json") == 0
    exported = json.loads(capsys.readouterr().out)
    assert {**exported, "network": report["network"]} == report
    picture = data / "ct-ich/Patients_CT/061/brain/2.jpg"
    assert run("segment", picture, "--weights", onnx, "-o", data / "result", *ANY_PICTURE) == 0
    assert run("evaluate", data / "whole", "--data", data / "ct-ich", "--grid", "network") == 2
    assert run("figure", "curves", data / "whole", "-o", data / "curves.png") == 2
    assert "in stages" in capsys.readouterr().err


def test_what_cannot_train_in_stages_is_refused(data, capsys):
    new = ("train", "--data", data / "ct-ich", "-o", data / "run", "--split", data / "split.json")
    assert run(*new, "--preset", "lite", "--epochs", "3") == 2
    assert "--epochs" in capsys.readouterr().err
    assert run(*new, "--preset", "quick", "--steps", "3") == 2
    content = json.loads((data / "split.json").read_text())
    (data / "split.json").write_text(json.dumps(content | {"kind": "slice"}))
    assert run(*new, "--preset", "lite") == 2
    assert "by patient" in capsys.readouterr().err
    bleeding = [one for one in content["validation"] if int(one[:3]) % 2]
    free = [one for one in content["validation"] if one not in bleeding]
    moved = {"train": content["train"] + free, "validation": bleeding}
    (data / "split.json").write_text(json.dumps(content | moved))
    assert run(*new, "--preset", "lite") == 2
    assert "both kinds" in capsys.readouterr().err
    assert not (data / "run").exists()


def test_a_config_file_of_stages_comes_back():
    config = STAGES.change(seed=3, steps=7)
    assert LiteConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert {(recipe.seed, recipe.steps) for _, recipe in config.stages} == {(3, 7)}


@pytest.mark.exhaustive
def test_two_processes_train_one_network(tmp_path):
    """torchrun with two gloo processes: both end with the same weights, near those of one process."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = Path(tiny_lite.__file__)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, script, tmp_path / "two"], check=True, env=environment, timeout=300)
    first, second = ((tmp_path / f"two/rank-{rank}.txt").read_text() for rank in (0, 1))
    assert first == second
    kept = read_checkpoint(tmp_path / "two/network.safetensors")
    assert kept.record["step"] == RECIPE.steps
    metrics = Run(tmp_path / "two").metrics()
    assert metrics[-1]["loss"] < metrics[0]["loss"]
