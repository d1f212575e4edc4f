"""`reproduce precisions`: what is compared, counted and kept, on a small data set."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from bleedmap.cli.reproduce.precisions import command
from bleedmap.datasets.ct_ich import open_ct_ich
from bleedmap.datasets.folds import Fold, ProtocolFolds
from bleedmap.errors import InputError, OutputError, WeightsError
from bleedmap.folds.precisions import LARGEST_FALL, RECORD_FILE, FoldResults, compare_fold, read_results, summarise
from bleedmap.inference.weights import locate
from bleedmap.metrics.overlap import Counts
from shipped_network import copy_shipped

FOLDS = ProtocolFolds("1.0.0 JPEG", "", 0, (Fold(1, (), (49,)), Fold(2, (), (50,)), Fold(3, (), (51,))))


def silent(done: int, of: int) -> None:
    pass


@pytest.fixture
def fold(jpeg_release, tmp_path):
    """The data and a folder with fold 1's network."""
    copy_shipped(tmp_path / "folds/fold-1/network.onnx", name="fold", trained_patients=["050", "051"])
    return open_ct_ich(jpeg_release), tmp_path / "folds"


def test_a_fold_is_compared_once_and_kept(fold, monkeypatch):
    data, folder = fold
    found = compare_fold(data, FOLDS, folder, 1, silent)
    forms = [one.form for one in found.answers]
    assert forms[0] == "fp32"
    assert {"fp32", "bf16"} <= set(forms) | set(found.left_out)
    assert {one.study.patient for one in found.answers} == {49}
    first = found.answers[0]
    assert (first.changed, first.difference) == (0, 0)
    assert first.pixels == 3 * 24 * 32
    for one in found.answers:
        assert one.backend["precision"] == one.form
        assert one.study.counts.reference.sum() == first.study.counts.reference.sum() > 0
        assert 0 <= one.difference <= 1
    again = compare_fold(data, FOLDS, folder, 1, lambda *_: pytest.fail("computed again"))
    assert [one.to_dict() for one in again.answers] == [one.to_dict() for one in found.answers]
    (folder / "fold-1" / RECORD_FILE).unlink()
    compare_fold(data, FOLDS, folder, 1, silent, most=1)
    assert not (folder / "fold-1" / RECORD_FILE).exists()  # a trial is not kept

    of_these = replace(FOLDS, data_sha256=data.content_sha256())
    monkeypatch.setattr("bleedmap.datasets.folds.protocol_folds", lambda: of_these)
    words = ["-o", str(folder), "--data", str(data.root), "--fold", "1"]
    told = json.loads(CliRunner().invoke(command, [*words, "--json"], catch_exceptions=False).stdout)
    assert (told["folds"], told["patients"], told["bleeding"]) == ([1], 1, 1)
    assert told["formats"][0] | {"format": "fp32", "dice_fall": 0, "passes": True} == told["formats"][0]
    printed = CliRunner().invoke(command, words, catch_exceptions=False, env={"COLUMNS": "200"}).stdout
    assert "passes" in printed
    assert "1 test patients, 1 bleeding" in printed


def made(told: str, hit: int, form: str, base: FoldResults, dice: float | None = 1.0):
    """Patient 49 with 100 lesion pixels, `hit` of them found."""
    counts = Counts(*(np.array([value, 0, 0]) for value in (hit, 0, 100 - hit, 668)))
    first = base.answers[0]
    study = replace(first.study, counts=counts)
    return replace(first, form=form, told=told, study=study, dice=dice)


@pytest.mark.parametrize(
    ("told", "hit", "passes"),
    [
        ("positive", 60, True),  # the same
        ("positive", 61, True),  # better
        ("positive", 59, False),  # a fall of more than 0.002
        ("negative", 60, False),  # another verdict
        ("abstained", 60, False),
    ],
)
def test_a_default_may_lose_neither_dice_nor_a_verdict(fold, told, hit, passes):
    data, folder = fold
    base = compare_only_fp32(data, folder)
    answers = (made("positive", 60, "fp32", base), made(told, hit, "bf16", base))
    rows = {one["format"]: one for one in summarise([replace(base, answers=answers)])["formats"]}
    assert rows["fp32"]["passes"]
    assert rows["fp32"]["volume_dice"] == pytest.approx(2 * 60 / 160)
    assert rows["bf16"]["passes"] == passes
    assert rows["bf16"]["verdicts_changed"] == ([] if told == "positive" else [49])
    assert rows["bf16"]["dice_fall"] == pytest.approx(2 * 60 / 160 - 2 * hit / (100 + hit))
    assert (rows["bf16"]["dice_fall"] < LARGEST_FALL) == (hit >= 60)


def test_nothing_marked_on_a_bleeding_patient_counts_nought(fold):
    data, folder = fold
    base = compare_only_fp32(data, folder)
    answers = (made("positive", 60, "fp32", base), made("negative", 0, "bf16", base, dice=None))
    row = summarise([replace(base, answers=answers)])["formats"][1]
    assert row["volume_dice"] == 0
    assert row["mask_dice_min"] is None
    assert row["slices_marked"] == 0


def compare_only_fp32(data, folder) -> FoldResults:
    """A fold's answers in fp32 alone."""
    from bleedmap.folds import precisions
    from bleedmap.inference.openvino_backend import OpenVinoBackend

    weights = locate(folder / "fold-1/network.onnx")
    answers = precisions._compare(data, data.patients[0], 1, weights, weights.certainty, [OpenVinoBackend(weights)])
    return FoldResults(precisions._read_choices(weights, 1), weights.sha256, {}, tuple(answers))


def test_what_cannot_be_compared_is_refused(fold, tmp_path):
    data, folder = fold
    with pytest.raises(WeightsError):
        compare_fold(data, FOLDS, tmp_path / "none", 1, silent)
    copy_shipped(folder / "fold-2/network.onnx", certainty=None, trained_patients=["049"])
    with pytest.raises(OutputError, match="stopped before"):
        compare_fold(data, FOLDS, folder, 2, silent)
    (folder / "fold-1" / RECORD_FILE).write_text('{"format": "another"}')
    with pytest.raises(InputError):
        read_results(folder / "fold-1" / RECORD_FILE)
