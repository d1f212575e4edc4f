"""Our own cross-validation from beginning to end, on a small data set of made-up heads and by a recipe of seconds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from bleedmap.archive.ledger import Job, Ledger
from bleedmap.archive.locks import locked
from bleedmap.archive.workers import Share
from bleedmap.datasets.folds import Fold, ProtocolFolds
from bleedmap.errors import OutputError, ResourceError, SettingsError
from bleedmap.evaluation.records import read_prediction
from bleedmap.evaluation.scores import cross_validation
from bleedmap.folds import ablations
from bleedmap.folds import choices as fold_choices
from bleedmap.folds import run as folds
from bleedmap.folds.ablations import Trial, Variant, list_trials, run_trial, summarise, try_trial
from bleedmap.folds.out_of_distribution import CHANGES, measure_out_of_distribution
from bleedmap.folds.recipes import CrossValidation, balanced, bone, fine, mixed, painted
from bleedmap.folds.run import SHIPPED, describe_records, merge_folds, run_all, run_fold
from bleedmap.geometry import SliceGrid, axial_affine
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.outline import outline_slices
from bleedmap.inference.weights import locate
from bleedmap.io.files import write_json
from bleedmap.study.segment import Segmenter
from bleedmap.training.config import Recipe
from bleedmap.training.device import choose_machine
from bleedmap.training.steps import load_recipe_network, train_recipe
from bleedmap.training.studies import VOXEL_ML
from bleedmap.volume import Volume
from command_line import run
from head_release import PATIENTS, write_heads
from ray_nodes import run_nodes

RECIPE = Recipe(size=64, steps=16, lesion=3, lesion_free=2, phantom=1, phantoms=1, learning_rate=3e-3, average=0.8)


def begin(folder: Path) -> CrossValidation:
    """Two folds of made-up heads."""
    data = write_heads(folder / "ct-ich")
    numbers = tuple(PATIENTS)
    folds = ProtocolFolds(
        data.release, data.content_sha256(), 0,
        (Fold(1, numbers[6:10], numbers[:6]), Fold(2, numbers[:4], numbers[6:])),
    )  # fmt: skip
    pretraining = replace(RECIPE, lesion=0, lesion_free=0, phantom=4, steps=2)
    return CrossValidation(data, folds, folder / "out", choose_machine("cpu", "fp32"), RECIPE, pretraining)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> CrossValidation:
    experiment = begin(tmp_path_factory.mktemp("folds"))
    with pytest.raises(OutputError, match="folds without records"):
        run_all(experiment)
    run_fold(experiment, 1)
    assert merge_folds(experiment) is None
    run_fold(experiment, 2)
    run_all(experiment)
    return experiment


@pytest.mark.exhaustive
def test_every_patient_is_predicted_by_a_network_that_has_not_seen_it(finished: CrossValidation) -> None:
    records = merge_folds(finished)
    assert records is not None
    assert [one.patient for one in records.studies] == list(PATIENTS)
    for study in records.studies:
        weights = locate(finished.fold(study.fold) / "network.onnx")
        trained = {int(one) for one in weights.record["trained_patients"]}
        validation = next(fold.validation for fold in finished.folds.folds if fold.fold == study.fold)
        assert study.patient not in trained
        assert not trained & set(validation)


@pytest.mark.exhaustive
def test_a_cluster_makes_the_same_folds_and_variants(finished: CrossValidation, tmp_path: Path) -> None:
    from bleedmap.archive.cluster import Cluster, connect

    other, done = begin(tmp_path), list[str]()
    # both of one training, which one of them does
    variants = (
        Variant("recipe", "whole", RECIPE),
        Variant("both", "", RECIPE, trained="ablations/fold-{fold}/recipe", mirrored=True),
    )
    trials = list_trials(variants, [1], [0])

    def load() -> Any:
        return lambda cell: (folds.run_cell if isinstance(cell, str) else try_trial)(other, "run", cell)

    with run_nodes(2) as nodes, connect(nodes.address):
        cluster = Cluster(tmp_path, [tmp_path / "ct-ich"])
        # one run for both kinds of cells: each process that exports a network spends seconds on its trace
        cluster.run(load, ["1", "2", *trials], lambda actor, name: done.append(name), Share(most=2, ahead=1))
    done.append(folds.run_cell(other, "run", "all"))
    assert sorted(done) == ["1", "2", "all", "fold-1/both", "fold-1/recipe"]
    for one in trials:
        assert (other.folder / f"ablations/{one.name}/result.json").is_file()
        assert run_trial(other, one) == run_trial(finished, one)
    for name in ("fold-1", "fold-2", "all"):
        made, alone = ((one.folder / name / "network.safetensors").read_bytes() for one in (other, finished))
        assert made == alone, name
    assert (other.folder / f"all/{SHIPPED}.onnx").is_file()
    found, expected = merge_folds(other), merge_folds(finished)
    assert found is not None
    assert expected is not None
    assert [one.patient for one in found.studies] == [one.patient for one in expected.studies]


def test_a_cell_that_ends_its_process_again_and_again_is_given_up(tmp_path: Path) -> None:
    validation, ledger = begin(tmp_path), Ledger(tmp_path / "out", ".cells")
    for _ in range(10):
        ledger.begin(Job("1", "", {}), "run")
    with pytest.raises(ResourceError, match="ended 10 times"):
        folds.run_cell(validation, "run", "1")


def test_one_process_at_a_time_trains_a_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(recipe: Recipe, pools: Any, machine: Any, folder: Path, *rest: Any) -> None:
        with locked(folder.parent / f".cells/locks/train-{folder.name}.lock") as ours:
            assert not ours
        raise InterruptedError

    monkeypatch.setattr(ablations, "train_recipe", train)
    with pytest.raises(InterruptedError):
        run_trial(begin(tmp_path), Trial(Variant("recipe", "whole", RECIPE, start="imagenet")))


@pytest.mark.exhaustive
def test_it_finds_what_is_easy_to_find(finished: CrossValidation) -> None:
    records = merge_folds(finished)
    assert records is not None
    scores = cross_validation(records, resamples=10)
    assert scores.score("volume_dice").value > 0.6
    assert scores.score("slice_auc").value > 0.9


@pytest.mark.exhaustive
def test_what_is_stored_is_what_was_counted(finished: CrossValidation) -> None:
    records = merge_folds(finished)
    assert records is not None
    for study in records.studies:
        probability, mask = read_prediction(finished.predictions, study.patient)
        assert mask.sum() == study.counts.predicted.sum()
        assert probability.max(axis=(1, 2)) == pytest.approx(study.highest, abs=1 / 255)


@pytest.mark.exhaustive
def test_what_is_finished_is_not_done_again(finished: CrossValidation) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*") if path.is_file()}
    for number in (1, 2):
        run_fold(finished, number)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.exhaustive
def test_a_further_recipe_goes_on_from_the_first_ones_network_of_the_same_patients(finished: CrossValidation) -> None:
    recipe = replace(RECIPE, steps=2, learning_rate=1e-5, average=0.0)
    further = replace(painted(finished), recipe=recipe)
    records = run_fold(further, 1)
    assert records.method != finished.method
    assert records.made["before"] == [finished.recipe.to_dict()]
    assert not records.made["retrained_with_validation"]
    assert records.made["recipe_level"].startswith("Late")
    assert further.folder == finished.folder / "painted"
    ours, theirs, others = (
        load_recipe_network(folder / "network.safetensors", one).pixels.weight
        for folder, one in (
            (further.fold(1), recipe), (finished.fold(1), finished.recipe), (finished.fold(2), finished.recipe)
        )
    )  # fmt: skip
    assert 0 < (ours - theirs).abs().max() < 0.1 * (ours - others).abs().max()
    weights = locate(further.fold(1) / "network.onnx")
    assert weights.record["trained_patients"] == [f"{one:03d}" for one in finished.folds.sides(1)["train"]]


def test_the_table_of_ablations_names_each_and_its_difference(
    ct_ich_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From stored results, one of them of before the paintings were judged."""
    words = ["reproduce", "ablations", "-o", str(tmp_path), "--data", str(ct_ich_root)]
    for name, dices, more in (
        ("balanced", (0.5, 0.7), {}), ("balanced-painted", (0.6, 0.9), {"paintings": [{"dice": 0.25}, {"dice": 0.5}]}),
    ):  # fmt: skip
        patients = [
            {"patient": number, "dice": dice, "lesion": [dice is not None, False], "extent": [0.9, 0.1],
             "below_1_ml": [1, 2], "1_ml_or_more": [1, 1], "marked": None if dice else [1, 8]}
            for number, dice in ((66, dices[0]), (72, dices[1]), (112, None))
        ]  # fmt: skip
        stored = {"name": name, "fold": 1, "seed": 0, "steps": 9000, "patients": patients, **more}
        write_json(tmp_path / f"ablations/fold-1/{name}/result.json", stored)
        words += ["--only", name]
    assert run(*words) == 0
    told = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in told.splitlines() if line.startswith("balanced")}
    assert rows["balanced"] == ["9,000", "1", "0.600", "0.875", "50.0%", "100.0%", "12.5%"]
    assert rows["balanced-painted"] == ["9,000", "1", "0.750", "0.875", "50.0%", "100.0%", "12.5%", "0.375"]
    assert "half of each batch; Dice +0.150 (+0.100 to +0.200) to balanced" in told
    assert run(*words, "--json") == 0
    assert json.loads(capsys.readouterr().out)[1]["painted_dice"] == 0.375


def test_recipes_lie_apart_and_balanced_sees_what_ships_sees(tmp_path: Path) -> None:
    first = begin(tmp_path)
    made = [make(first) for make in (painted, mixed, bone, balanced, fine)]
    assert len({one.folder for one in (first, *made)}) == len({one.method for one in (first, *made)}) == 6
    ships, other = mixed(first).recipe, balanced(first).recipe
    assert other.network() == ships.network()
    assert replace(other.preprocessing(), size=ships.size) == ships.preprocessing()
    assert balanced(first).before is None
    finer = fine(first)
    assert finer.recipe.network() == finer.pretraining.network() != other.network()
    assert finer.recipe.preprocessing() == other.preprocessing()
    assert finer.before is None


@pytest.mark.exhaustive
def test_a_share_of_the_weights_before_is_kept(finished: CrossValidation) -> None:
    recipe = replace(RECIPE, steps=2, learning_rate=1e-3, average=0.0)
    alone = replace(mixed(finished), recipe=recipe, before=finished, folder=finished.folder / "alone")
    half = replace(alone, recipe=replace(recipe, start_share=0.25), folder=finished.folder / "half")
    assert mixed(finished).folder == finished.folder / "mixed"
    assert mixed(finished).before == painted(finished)
    train = finished.folds.sides(1)["train"]
    after, between = (dict(folds.train_network(one, "fold-1", train).state_dict()) for one in (alone, half))
    before = dict(folds.train_network(finished, "fold-1", train).state_dict())
    for name, tensor in between.items():
        if tensor.is_floating_point():
            mean = 0.25 * before[name].numpy() + 0.75 * after[name].numpy()
            assert (np.abs(tensor.numpy() - mean) <= np.maximum(1e-5 * np.abs(mean), 1e-6)).all()
    assert not (after["pixels.weight"] == before["pixels.weight"]).all()
    with pytest.raises(SettingsError, match="start_share"):
        train_recipe(
            half.recipe,
            lambda: finished.source.pools(half.recipe, train),
            finished.machine,
            finished.folder / "nothing",
            None,
        )


@pytest.mark.exhaustive
def test_the_last_recipe_lets_a_fold_take_fewer_false_alarms(
    finished: CrossValidation, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def choose(*given: Any) -> Any:
        asked.append(given[2:])
        return fold_choices.choose(*given)

    monkeypatch.setattr(folds, "choose", choose)
    recipe = replace(RECIPE, steps=1, learning_rate=1e-5, average=0.0, start_share=0.5)
    records = run_fold(replace(mixed(finished), recipe=recipe, before=finished), 2)
    assert asked == [(fold_choices.PIXEL_THRESHOLDS, fold_choices.SMALLEST_ML, fold_choices.DICE_FOR_FEWER, 1)]
    assert records.made["before"] == [finished.recipe.to_dict()]
    both = replace(mixed(finished), recipe=recipe)
    assert describe_records(both)["before"] == [painted(finished).recipe.to_dict(), finished.recipe.to_dict()]


@pytest.mark.exhaustive
def test_the_network_of_all_patients_segments(finished: CrossValidation) -> None:
    weights = locate(finished.folder / "all" / f"{SHIPPED}.onnx")
    settings = weights.certainty
    folds = [locate(finished.fold(number) / "network.onnx").certainty for number in (1, 2)]
    assert settings is not None
    assert settings.gate == np.median([one.gate for one in folds if one])
    assert weights.record["trained_patients"] == [f"{number:03d}" for number in PATIENTS]
    assert Segmenter.load(weights.path).threshold == weights.threshold


@pytest.mark.exhaustive
def test_a_part_of_the_recipe_is_judged_on_inner_patients(finished: CrossValidation) -> None:
    variants = (
        Variant("recipe", "whole", RECIPE, base=None),
        Variant("alone", "no neighbours", replace(RECIPE, neighbours=0)),
        Variant("mirrored", "both", RECIPE, trained="ablations/fold-{fold}/recipe", mirrored=True),
        Variant("more", "five slices", replace(RECIPE, neighbours=2, steps=1)),
    )
    found = [run_trial(finished, one) for one in list_trials(variants, [1], [0])]
    for one in found:
        assert [patient["patient"] for patient in one["patients"]] == list(PATIENTS)[6:10]  # fold 1's validation side
        assert sum(patient["dice"] is not None for patient in one["patients"]) == 2
        assert sum(len(patient["lesion"]) for patient in one["patients"]) == 16
    rows = {one["name"]: one for one in summarise(found)}
    assert len({rows[name]["volume_dice"] for name in ("recipe", "alone", "mirrored")}) == 3
    assert rows["recipe"]["difference"] is None
    assert rows["recipe"]["mean"] == pytest.approx((rows["recipe"]["volume_dice"] + rows["recipe"]["slice_auc"]) / 2)
    middle, low, high = rows["alone"]["difference"]
    assert middle == pytest.approx(rows["alone"]["volume_dice"] - rows["recipe"]["volume_dice"])
    assert low <= middle <= high
    assert run_trial(finished, Trial(variants[0])) == found[0]
    with pytest.raises(SettingsError, match="mirrored"):
        list_trials(variants, [1], [1])
    short = replace(variants[0], recipe=replace(RECIPE, steps=1))
    other = run_trial(finished, Trial(short, fold=2, seed=3))
    network = load_recipe_network(
        finished.folder / "ablations/fold-2/recipe-seed-3/network.safetensors", replace(short.recipe, seed=3)
    )
    assert network.settings.channels == 3
    both = summarise([found[0], other])[0]
    assert (both["trainings"], both["bleeding"]) == (2, 4)


@pytest.mark.exhaustive
def test_a_network_with_bone_and_true_sizes_is_trained_judged_and_served(tmp_path: Path) -> None:
    experiment = begin(tmp_path)
    recipe = replace(RECIPE, bone=True, boneless=0.3, mirrored=True, frame_mm=100.0, phantom=0, slice_dice=0.5)
    found = run_trial(experiment, Trial(Variant("bone", "all", recipe, start="imagenet")))
    assert summarise([found])[0]["volume_dice"] > 0.3
    weights_file = experiment.folder / "ablations/fold-1/bone/network.onnx"
    weights = locate(weights_file)
    assert weights.preprocessing == recipe.preprocessing()
    assert weights.network.channels == 5
    patient = experiment.data.patients[0]
    shown = experiment.studies.read(patient.number, recipe.preprocessing())
    assert shown.pixel_mm is not None
    assert shown.voxel_ml == pytest.approx(shown.pixel_mm[0] ** 2 * 5 / 1000)
    plain = experiment.studies.read(patient.number, RECIPE.preprocessing())
    assert (plain.pixel_mm, plain.voxel_ml) == (None, VOXEL_ML)
    predictor = folds.Predictor(experiment.studies, weights_file, experiment.report)
    np.testing.assert_array_equal(
        predictor.predict(patient.number).segmented.probability,
        predictor.segment(shown.hu, shown.pixel_mm).probability,
    )
    affine = axial_affine((5.0, 0.9, 0.9), (4, 96, 96))
    study = Volume(np.full((4, 96, 96), 40, np.float32), SliceGrid.from_affine(affine, 4))
    outline = outline_slices(study.hu, weights, OpenVinoBackend(weights), grid=study.grid)
    assert outline.probability.shape == study.hu.shape


@pytest.mark.exhaustive
def test_strangers_are_counted(finished: CrossValidation) -> None:
    rows = {one["change"]: one for one in measure_out_of_distribution(finished)}
    assert len(rows) == len(CHANGES) + 1
    assert all(0 <= one["called_unlike"] <= one["studies"] for one in rows.values())
    assert rows["as it is"]["studies"] == 6  # three bleed-free test patients a fold
    assert rows["no anatomy: noise around 40 HU"]["median_distance"] > rows["as it is"]["median_distance"]
