"""split → train → evaluate → export → segment, by the verbs, on a small data set and on the real one."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bleedmap.datasets.ct_ich import open_ct_ich
from bleedmap.datasets.splits import Split, make_split
from bleedmap.errors import SettingsError
from bleedmap.evaluation.slices import measure, score
from bleedmap.models.checkpoint import read_checkpoint
from bleedmap.preprocess import Preprocessing, network_input, resize_into
from bleedmap.training.run import Run
from command_line import limit_files, run
from host_namespaces import run_hosts, why_none
from tiny_network import ANY_PICTURE

TINY = ("--width", "0.0625", "--size", "32", "--epochs", "2", "--batch-size", "4", "--device", "cpu")


@pytest.fixture
def split_file(jpeg_release: Path, tmp_path: Path) -> Path:
    data = open_ct_ich(jpeg_release)
    sides = [tuple(record.id for record in patient.slices) for patient in data.patients]
    split = Split("patient", 0, False, data.content_sha256(), data.release, None, None, *sides)
    split.write(tmp_path / "split.json")
    return tmp_path / "split.json"


@pytest.mark.exhaustive
def test_the_whole_way_on_a_small_data_set(jpeg_release, split_file, tmp_path, capsys):
    folder, onnx = tmp_path / "run", tmp_path / "tiny.onnx"
    assert run("train", "--data", jpeg_release, "--split", split_file, "-o", folder, *TINY) == 0
    assert "best validation Dice" in capsys.readouterr().out
    assert run("evaluate", folder, "--data", jpeg_release, "--json", "-o", tmp_path / "report.json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["slices"] == 3
    assert report["lesion_slices"] == 1
    assert report["patients_also_trained_on"] == 0
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["per_slice"]["ids"] == ["051/1", "051/2", "051/3"]
    assert run("evaluate", folder, "--data", jpeg_release, "--side", "train") == 0
    assert "also trained on" in capsys.readouterr().out
    assert run("export", folder, "-o", onnx) == 0
    assert run("evaluate", onnx, "--split", split_file, "--data", jpeg_release, "--json", "--precision", "fp32") == 0
    exported = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert exported["detection"]["convention"] == report["detection"]["convention"]
    picture = jpeg_release / "Patients_CT/051/brain/2.jpg"
    assert run("segment", picture, "--weights", onnx, "-o", tmp_path / "result", *ANY_PICTURE) == 0
    assert (tmp_path / "result/2_mask.png").is_file()


def test_resume_takes_its_settings_from_the_run(jpeg_release, split_file, tmp_path, capsys):
    folder = tmp_path / "run"
    assert run("train", "--data", jpeg_release, "--split", split_file, "-o", folder, *TINY) == 0
    weights = (folder / "checkpoint.safetensors").read_bytes()
    assert run("train", "--data", jpeg_release, "--resume", folder) == 0
    assert (folder / "checkpoint.safetensors").read_bytes() == weights  # it was done already
    assert run("train", "--data", jpeg_release, "--resume", folder, "--epochs", "3") == 2
    assert run("train", "--data", jpeg_release, "--split", split_file, "-o", folder, *TINY) == 2
    assert "already holds files" in capsys.readouterr().err


def start(
    *arguments: object, launcher: tuple[str, ...] = (), host: tuple[str, ...] = (), **variables: str
) -> "subprocess.Popen[str]":
    """The command line in a process of its own; `host` goes before it."""
    command = [*host, sys.executable, *launcher, "-m", "bleedmap.cli.main", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())} | variables
    return subprocess.Popen(command, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def test_a_run_killed_and_resumed_by_the_verb_ends_with_the_same_weights(jpeg_release, split_file, tmp_path):
    """In the precision that this machine chooses, with every random transform; SIGKILL after the first checkpoint."""
    arguments = ("train", "--data", jpeg_release, "--split", split_file, *TINY, "--epochs", "40", "--warp", "1")
    arguments += ("--intensity", "1", "--schedule", "cosine", "-o")
    whole, killed = Run(tmp_path / "whole"), Run(tmp_path / "killed")
    while not killed.checkpoint_file.exists() or not 1 <= len(killed.metrics()) < 40:
        shutil.rmtree(killed.folder, ignore_errors=True)  # killed too late to show anything: begin again
        process = start(*arguments, killed.folder)
        while not killed.checkpoint_file.exists() and process.poll() is None:
            time.sleep(0.005)
        process.kill()
        _, told = process.communicate()
        assert killed.checkpoint_file.exists(), told
    assert run("train", "--data", jpeg_release, "--resume", killed.folder) == 0
    assert run(*arguments, whole.folder) == 0
    ends = [read_checkpoint(one.checkpoint_file) for one in (whole, killed)]
    assert ends[0].record == ends[1].record
    assert all(torch.equal(ends[0].tensors[name], ends[1].tensors[name]) for name in ends[0].tensors)
    assert killed.machine() == whole.machine()


@pytest.mark.exhaustive
def test_torchrun_starts_the_verb_and_three_hosts_train_the_same_network(jpeg_release, split_file, tmp_path):
    """The hosts are network namespaces, each with an address of its own; docs/train.md has the commands."""
    arguments = ("train", "--data", jpeg_release, "--split", split_file, *TINY, "-o")
    alone = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3")
    _, told = (one := start(*arguments, tmp_path / "one", launcher=alone)).communicate(timeout=600)
    assert one.returncode == 0, told
    assert told.count("training and") == 1  # one of the three speaks
    run = Run(tmp_path / "one")
    assert run.record()["processes"] == 3
    assert [entry["epoch"] for entry in run.metrics()] == [1, 2]
    with pytest.raises(SettingsError, match="1 process"):
        run.machine()
    if (reason := why_none()) and not os.environ.get("CI"):
        pytest.skip(f"needs network namespaces: {reason}")
    with run_hosts(3) as hosts:
        head = hosts[0][1]
        processes = []
        for number, (before, address) in enumerate(hosts):
            launcher = (
                "-m", "torch.distributed.run", "--nnodes", "3", "--nproc-per-node", "1", "--rdzv-backend", "c10d",
                "--rdzv-endpoint", f"{head}:29400", "--rdzv-id", "train", "--local-addr", address,
                "--rdzv-conf", f"is_host={number == 0}",
            )  # fmt: skip
            process = start(
                *arguments, tmp_path / "three", launcher=launcher, host=tuple(before), GLOO_SOCKET_IFNAME="eth0"
            )
            processes.append(process)
        try:
            told = [one.communicate(timeout=300)[1] for one in processes]
        finally:
            for one in processes:
                one.kill()
    assert [one.returncode for one in processes] == [0, 0, 0], told
    assert Run(tmp_path / "three").record()["processes"] == 3
    for name in ("best.safetensors", "checkpoint.safetensors"):
        assert (tmp_path / "three" / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name


def test_damaged_input_begins_no_run(jpeg_release, tmp_path, capsys):
    """A truncated slice and a mask of another size, met while reading: exit code 2, no run folder."""
    brain = jpeg_release / "Patients_CT/049/brain"
    whole = (brain / "1.jpg").read_bytes()
    for damage, expected in (("slice", "cannot be read"), ("mask", "a mask of 10×10")):
        if damage == "slice":
            (brain / "1.jpg").write_bytes(whole[:-200])
        else:
            (brain / "1.jpg").write_bytes(whole)
            Image.fromarray(np.zeros((10, 10), np.uint8)).save(brain / "2_HGE_Seg.jpg")
        data = open_ct_ich(jpeg_release)
        sides = [tuple(record.id for record in patient.slices) for patient in data.patients]
        split = Split("patient", 0, False, data.content_sha256(), data.release, None, None, *sides)
        split.write(tmp_path / f"{damage}.json")
        folder = tmp_path / "run"
        arguments = ("--data", jpeg_release, "--split", tmp_path / f"{damage}.json", "-o", folder, *TINY)
        assert run("train", *arguments) == 2
        assert expected in capsys.readouterr().err
        assert not folder.exists()


def test_a_full_disk_is_explained(jpeg_release, split_file, tmp_path, capsys):
    """Files may not grow past 60 kB: the checkpoint does not fit. No traceback, no half-written checkpoint."""
    with limit_files(60_000):
        code = run("train", "--data", jpeg_release, "--split", split_file, "-o", tmp_path / "run", *TINY)
    assert code == 2
    told = capsys.readouterr().err
    assert "cannot be written" in told
    assert "Traceback" not in told
    assert not list((tmp_path / "run").glob("*.safetensors"))
    assert not list((tmp_path / "run").glob(".part*"))


def test_a_damaged_run_is_explained(jpeg_release, split_file, tmp_path, capsys):
    folder = tmp_path / "run"
    assert run("train", "--data", jpeg_release, "--split", split_file, "-o", folder, *TINY) == 0
    damages = {
        "metrics.jsonl": '{"epoch": 1}\n{"epo',
        "config.json": "[]",
        "run.json": "{}",
        "split.json": "{",
    }
    for name, damaged in damages.items():
        whole = (folder / name).read_text()
        (folder / name).write_text(damaged)
        capsys.readouterr()
        assert run("train", "--data", jpeg_release, "--resume", folder) == 2
        assert name in capsys.readouterr().err
        (folder / name).write_text(whole)
    config = json.loads((folder / "config.json").read_text())
    for change in ({"size": "32"}, {"width": 0.125}):
        (folder / "config.json").write_text(json.dumps(config | change))
        assert run("train", "--data", jpeg_release, "--resume", folder) == 2
    (tmp_path / "file").write_text("mine")
    assert run("train", "--data", jpeg_release, "--split", split_file, "-o", tmp_path / "file", *TINY) == 2
    assert (tmp_path / "file").read_text() == "mine"


def test_flags_that_could_do_nothing_are_refused(jpeg_release, split_file, tmp_path, capsys):
    for flags in (("--device", "cuda"), ("--precision", "bf16")):
        assert run("evaluate", "--data", jpeg_release, "--split", split_file, *flags) == 2
        assert "OpenVINO" in capsys.readouterr().err
    for wrong in (("--width", "nan"), ("--seed", "99999999999999"), ("--batch-size", "0")):
        arguments = ("--data", jpeg_release, "--split", split_file, "-o", tmp_path / "run", *TINY, *wrong)
        assert run("train", *arguments) == 2
        assert wrong[0].strip("-").replace("-", "_") in capsys.readouterr().err


def test_a_split_whose_sides_share_a_patient_is_refused(jpeg_release, split_file, tmp_path, capsys):
    content = json.loads(split_file.read_text())
    content["test"].append(content["train"].pop())
    split_file.write_text(json.dumps(content))
    assert run("train", "--data", jpeg_release, "--split", split_file, "-o", tmp_path / "run", *TINY) == 2
    assert "049" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_data_that_changed_since_the_split_are_refused(jpeg_release, split_file, tmp_path, capsys):
    picture = jpeg_release / "Patients_CT/049/brain/1.jpg"
    Image.fromarray(np.full((24, 32), 7, np.uint8)).save(picture)
    assert run("train", "--data", jpeg_release, "--split", split_file, "-o", tmp_path / "run", *TINY) == 2
    assert "images or masks differ from" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_all_slices_need_a_split_by_patient(jpeg_release, split_file, tmp_path, capsys):
    folder = tmp_path / "run"
    content = json.loads(split_file.read_text())
    split_file.write_text(json.dumps(content | {"kind": "slice"}))
    assert run("train", "--data", jpeg_release, "--split", split_file, "-o", folder, *TINY) == 0
    assert run("evaluate", folder, "--data", jpeg_release, "--slices", "all") == 2
    assert "by patient" in capsys.readouterr().err


def test_the_whole_way_on_the_real_data(ct_ich_root, tmp_path, capsys):
    """By the thesis' protocol, at a size that only shows that it runs: 318 + 318 slices, one epoch."""
    split, folder = tmp_path / "split.json", tmp_path / "run"
    assert run("split", "--data", ct_ich_root, "--kind", "slice", "-o", split) == 0
    sizes = {side: len(json.loads(split.read_text())[side]) for side in ("train", "validation", "test")}
    assert sum(sizes.values()) == 636
    assert run("train", "--data", ct_ich_root, "--split", split, "-o", folder, *TINY, "--epochs", "1") == 0
    capsys.readouterr()
    assert run("evaluate", folder, "--data", ct_ich_root, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["slices"] == sizes["test"]
    assert report["lesion_slices"] == sizes["test"] / 2
    assert report["split"]["kind"] == "slice"
    assert report["patients_also_trained_on"] > 0  # what a split by slice does


@pytest.mark.parametrize("grid", ["original", "network"])
def test_a_perfect_network_scores_1_and_a_blind_one_0(ct_ich_root, grid):
    """The measures, held against answers that are known, on real masks."""
    data = open_ct_ich(ct_ich_root)
    split = make_split(data, "patient", 0, True)
    ids = split.test[::6]
    settings = Preprocessing(size=256)
    queue = [data.slice(name) for name in ids]

    def perfect(slices):
        answers = []
        for _ in slices:
            record = queue.pop(0)
            frame = network_input(data.read_hu(record)[None], settings)[1][0]
            answers.append(resize_into(data.read_mask(record), frame, 256))
        return np.stack(answers)

    best = score(measure(data, ids, perfect, settings, grid=grid, threshold=0.5))
    blind = score(measure(data, ids, np.zeros_like, settings, grid=grid, threshold=0.5))
    assert best["thesis_pooled"]["dice"] > (0.999 if grid == "network" else 0.97)
    assert best["strict"]["lesion_free_slices_marked"] == 0
    assert best["detection"]["slice_roc_auc"] == 1
    assert blind["thesis_pooled"]["dice"] == 0
    assert blind["strict"]["lesion_slice_dice"] == blind["strict"]["patient_stack_dice"] == 0
    assert blind["thesis_per_slice"]["dice"] == pytest.approx(1 - best["lesion_slices"] / best["slices"])
    assert blind["detection"]["slice_roc_auc"] == 0.5
