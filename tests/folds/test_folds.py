"""Our own cross-validation from beginning to end, on a small data set of made-up heads and by a recipe of seconds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

from bleedmap.datasets.ct_ich import CtIch, open_ct_ich
from bleedmap.datasets.folds import Fold, ProtocolFolds
from bleedmap.errors import OutputError, SettingsError
from bleedmap.evaluation.predictions import read_prediction
from bleedmap.evaluation.scores import cross_validation
from bleedmap.folds import choices as fold_choices
from bleedmap.folds import run as folds
from bleedmap.folds.ablations import Variant, run_variant
from bleedmap.folds.out_of_distribution import CHANGES, strangers
from bleedmap.folds.run import SHIPPED, Experiment, made_of, mixed, painted, run_all, run_fold, together
from bleedmap.inference.weights import locate
from bleedmap.study.segment import Segmenter
from bleedmap.training.device import choose_machine
from bleedmap.training.fit import fit, load_fitted
from bleedmap.training.recipe import Recipe
from ct_ich_tables import PEOPLE, label_rows

RECIPE = Recipe(size=64, steps=30, lesion=3, lesion_free=2, phantom=1, phantoms=1, learning_rate=3e-3, average=0.8)
PATIENTS = {
    number: tuple(("Epidural" if number % 2 and index in (1, 2) else "", False) for index in range(4))
    for number in range(50, 62)
}


def write_heads(root: Path) -> CtIch:
    """Twelve patients of four slices, 96×96: a grey head in air; odd ones bleed, a bright disc in two slices."""
    rows, columns = np.mgrid[:96, :96]
    head = (rows - 48) ** 2 + (columns - 48) ** 2 < 40**2
    random = np.random.default_rng(0)
    for patient, slices in PATIENTS.items():
        for window in ("brain", "bone"):
            (root / f"Patients_CT/{patient:03d}/{window}").mkdir(parents=True)
        row, column = random.integers(32, 64, 2)
        lesion = (rows - row) ** 2 + (columns - column) ** 2 < 9**2
        for number, (kind, _) in enumerate(slices, start=1):
            folder = root / f"Patients_CT/{patient:03d}"
            grey = np.where(head, random.normal(110, 6, head.shape), 0)
            grey[lesion & bool(kind)] = 190
            for window in ("brain", "bone"):
                Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(folder / f"{window}/{number}.jpg", quality=95)
            if kind:
                mask = Image.fromarray((lesion * 255).astype(np.uint8))
                mask.save(folder / f"brain/{number}_HGE_Seg.jpg", quality=95)
    (root / "hemorrhage_diagnosis.csv").write_text("\ufeff" + label_rows(PATIENTS), encoding="utf-8", newline="")
    (root / "patient_demographics.csv").write_text(PEOPLE.splitlines()[0] + "\n" + PEOPLE.splitlines()[1] + "\n")
    return open_ct_ich(root)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    folder = tmp_path_factory.mktemp("folds")
    data = write_heads(folder / "ct-ich")
    numbers = tuple(PATIENTS)
    folds = ProtocolFolds(
        data.release, data.content_sha256(), 0,
        (Fold(1, numbers[6:10], numbers[:6]), Fold(2, numbers[:4], numbers[6:])),
    )  # fmt: skip
    pretraining = replace(RECIPE, lesion=0, lesion_free=0, phantom=4, steps=2)
    experiment = Experiment(data, folds, folder / "out", choose_machine("cpu", "fp32"), RECIPE, pretraining)
    with pytest.raises(OutputError, match="folds without records"):
        run_all(experiment)
    run_fold(experiment, 1)
    assert together(experiment) is None
    run_fold(experiment, 2)
    run_all(experiment)
    return experiment


def test_every_patient_is_predicted_by_a_network_that_has_not_seen_it(finished: Experiment) -> None:
    records = together(finished)
    assert records is not None
    assert [one.patient for one in records.studies] == list(PATIENTS)
    for study in records.studies:
        weights = locate(finished.fold(study.fold) / "network.onnx")
        trained = {int(one) for one in weights.record["trained_patients"]}
        validation = next(fold.validation for fold in finished.folds.folds if fold.fold == study.fold)
        assert study.patient not in trained
        assert not trained & set(validation)


def test_it_finds_what_is_easy_to_find(finished: Experiment) -> None:
    records = together(finished)
    assert records is not None
    scores = cross_validation(records, resamples=10)
    assert scores.score("volume_dice").value > 0.6
    assert scores.score("slice_auc").value > 0.9


def test_what_is_stored_is_what_was_counted(finished: Experiment) -> None:
    records = together(finished)
    assert records is not None
    for study in records.studies:
        probability, mask = read_prediction(finished.predictions, study.patient)
        assert mask.sum() == study.counts.predicted.sum()
        assert probability.max(axis=(1, 2)) == pytest.approx(study.highest, abs=1 / 255)


def test_what_is_finished_is_not_done_again(finished: Experiment) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*") if path.is_file()}
    for number in (1, 2):
        run_fold(finished, number)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_further_recipe_goes_on_from_the_first_ones_network_of_the_same_patients(finished: Experiment) -> None:
    recipe = replace(RECIPE, steps=2, learning_rate=1e-5, average=0.0)
    further = replace(painted(finished), recipe=recipe)
    records = run_fold(further, 1)
    assert records.method != finished.method
    assert records.made["before"] == [finished.recipe.to_dict()]
    assert not records.made["retrained_with_validation"]
    assert records.made["recipe_level"].startswith("Late")
    assert further.folder == finished.folder / "painted"
    ours, theirs, others = (
        load_fitted(folder / "network.safetensors", one).pixels.weight
        for folder, one in (
            (further.fold(1), recipe), (finished.fold(1), finished.recipe), (finished.fold(2), finished.recipe)
        )
    )  # fmt: skip
    assert 0 < (ours - theirs).abs().max() < 0.1 * (ours - others).abs().max()
    weights = locate(further.fold(1) / "network.onnx")
    assert weights.record["trained_patients"] == [f"{one:03d}" for one in finished.folds.sides(1)["train"]]


def test_a_share_of_the_weights_before_is_kept(finished: Experiment) -> None:
    recipe = replace(RECIPE, steps=2, learning_rate=1e-3, average=0.0)
    alone = replace(mixed(finished), recipe=recipe, before=finished, folder=finished.folder / "alone")
    half = replace(alone, recipe=replace(recipe, start_share=0.25), folder=finished.folder / "half")
    assert mixed(finished).folder == finished.folder / "mixed"
    assert mixed(finished).before == painted(finished)
    train = finished.folds.sides(1)["train"]
    after, between = (dict(folds.train(one, "fold-1", train).state_dict()) for one in (alone, half))
    before = dict(folds.train(finished, "fold-1", train).state_dict())
    for name, tensor in between.items():
        if tensor.is_floating_point():
            mean = 0.25 * before[name].numpy() + 0.75 * after[name].numpy()
            assert (np.abs(tensor.numpy() - mean) <= np.maximum(1e-5 * np.abs(mean), 1e-6)).all()
    assert not (after["pixels.weight"] == before["pixels.weight"]).all()
    with pytest.raises(SettingsError, match="start_share"):
        fit(half.recipe, folds.pools_of(finished, train), finished.machine, finished.folder / "nothing", None)


def test_the_last_recipe_lets_a_fold_take_fewer_false_alarms(
    finished: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def choose(*given: Any) -> Any:
        asked.append(given[2:])
        return fold_choices.choose(*given)

    monkeypatch.setattr(folds, "choose", choose)
    recipe = replace(RECIPE, steps=1, learning_rate=1e-5, average=0.0, start_share=0.5)
    records = run_fold(replace(mixed(finished), recipe=recipe, before=finished), 2)
    assert asked == [(fold_choices.PIXEL_THRESHOLDS, fold_choices.SMALLEST_ML, fold_choices.DICE_FOR_FEWER)]
    assert records.made["before"] == [finished.recipe.to_dict()]
    both = replace(mixed(finished), recipe=recipe)
    assert made_of(both)["before"] == [painted(finished).recipe.to_dict(), finished.recipe.to_dict()]


def test_the_network_of_all_patients_segments(finished: Experiment) -> None:
    weights = locate(finished.folder / "all" / f"{SHIPPED}.onnx")
    settings = weights.certainty
    folds = [locate(finished.fold(number) / "network.onnx").certainty for number in (1, 2)]
    assert settings is not None
    assert settings.gate == np.median([one.gate for one in folds if one])
    assert weights.record["trained_patients"] == [f"{number:03d}" for number in PATIENTS]
    assert Segmenter.load(weights.path).threshold == weights.threshold


def test_a_part_of_the_recipe_is_judged_on_inner_patients(finished: Experiment) -> None:
    whole = run_variant(finished, Variant("recipe", "whole", RECIPE))
    alone = run_variant(finished, Variant("alone", "no neighbours", replace(RECIPE, neighbours=0)))
    mirrored = run_variant(finished, Variant("mirrored", "both", RECIPE, trained="ablations/recipe", mirrored=True))
    more = run_variant(finished, Variant("more", "five slices", replace(RECIPE, neighbours=2, steps=1)))
    for one in (whole, alone, mirrored, more):
        assert (one["patients"], one["bleeding"], one["slices"]) == (4, 2, 16)  # fold 1's validation side
        assert one["mean"] == pytest.approx((one["volume_dice"] + one["slice_auc"]) / 2)
    assert len({one["volume_dice"] for one in (whole, alone, mirrored)}) == 3
    assert run_variant(finished, Variant("recipe", "whole", RECIPE)) == whole


def test_strangers_are_counted(finished: Experiment) -> None:
    rows = {one["change"]: one for one in strangers(finished)}
    assert len(rows) == len(CHANGES) + 1
    assert all(0 <= one["called_unlike"] <= one["studies"] for one in rows.values())
    assert rows["as it is"]["studies"] == 6  # three bleed-free test patients a fold
    assert rows["no anatomy: noise around 40 HU"]["median_distance"] > rows["as it is"]["median_distance"]
