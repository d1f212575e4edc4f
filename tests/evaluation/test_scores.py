"""From out-of-fold masks to the protocol's table, and two methods compared: worked by hand and against plain loops."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bleedmap.datasets.folds import Fold, ProtocolFolds, protocol_folds
from bleedmap.errors import InputError, SplitError
from bleedmap.evaluation.measure_table import HEADLINE, measures
from bleedmap.evaluation.measures import Measured
from bleedmap.evaluation.protocol import (
    PEERS,
    PROTOCOL,
    SLICE_SPECIFICITY,
    SMALLEST_LESION_VOXELS,
    STUDY_SPECIFICITY,
    TARGETS,
)
from bleedmap.evaluation.records import Choices, OutOfFold, read_out_of_fold
from bleedmap.evaluation.scores import NO_DIFFERENCE, CrossValidation, _score, compare_methods, cross_validation
from bleedmap.evaluation.tables import Tables
from bleedmap.metrics.bootstrap import RESAMPLES
from synthetic_records import SIDE, all_patients, blank, random_records, study, three_patients

LEAST_KNOWN = 30  # of 66 measures; others need large lesions, or types that random patients have not


@pytest.fixture(scope="module")
def by_hand() -> CrossValidation:
    return cross_validation(three_patients(), resamples=50)


@pytest.mark.parametrize(
    ("key", "value", "cases", "patients"),
    [
        ("authors_dice", 0.25, 1, 1),  # patient 1: (2·10/40 + 0) / 2; patient 70 is left out
        ("patient_mean_dice", (0.25 + 1) / 2, 2, 2),
        ("volume_dice", (20 / 60 + 1) / 2, 2, 2),
        ("volume_dice_median", (20 / 60 + 1) / 2, 2, 2),
        ("lesion_slice_dice", (0.5 + 0 + 1) / 3, 3, 2),
        ("lesion_sensitivity_touched", 2 / 3, 3, 2),
        ("lesion_sensitivity_overlapped", 2 / 3, 3, 2),  # 10/30 ≥ 0.1
        ("lesion_sensitivity_touched_small", 2 / 3, 3, 2),
        ("lesion_sensitivity_touched_large", None, 0, 0),
        ("lesion_sensitivity_touched_EDH", 2 / 3, 3, 2),
        ("lesion_sensitivity_touched_SDH", 0.0, 1, 1),
        ("false_positives_per_study_touched", 1 / 3, 3, 3),
        ("false_positives_per_study_touched_bleed_free", 1.0, 1, 1),
        ("lesion_free_slices_marked", 1 / 3, 3, 2),
        ("bleed_free_patients_slices_marked", 0.5, 2, 1),
        ("bleed_free_patients_marked", 1.0, 1, 1),
        ("slice_auc", 8 / 9, 6, 3),  # of 9 pairs only 0.3 against 0.6 is wrong
        ("slice_auc_within_folds", 1.0, 6, 3),  # fold 1 has no lesion-free slice
        ("slice_sensitivity", 2 / 3, 3, 2),
        ("slice_specificity", 2 / 3, 3, 2),
        ("slice_sensitivity_fixed", 2 / 3, 3, 2),  # no lesion-free slice may be called: from 0.8 on
        ("slice_sensitivity_fixed_EDH", 2 / 3, 3, 2),
        ("study_auc", 0.5, 3, 3),
        ("study_sensitivity", 0.5, 2, 2),
        ("study_specificity", 0.0, 1, 1),
        ("study_sensitivity_fixed", 0.5, 2, 2),
        ("study_sensitivity_fixed_small", 0.5, 2, 2),
        ("slice_brier", (0.04 + 0.49 + 0.01 + 0.36 + 0.01 + 0.04) / 6, 6, 3),
        ("study_brier", (0.01 + 0.16 + 0.49) / 3, 3, 3),
        ("volume_interval_coverage", None, 0, 0),
        ("slice_auc_EDH", None, 0, 0),
    ],
)
def test_worked_by_hand(by_hand: CrossValidation, key: str, value: float | None, cases: int, patients: int) -> None:
    score = by_hand.score(key)
    assert score.value == (None if value is None else pytest.approx(value))
    assert (score.cases, score.patients) == (cases, patients)
    if value is None:
        assert (score.low, score.high, score.interval, score.met) == (None, None, None, None)


def test_a_share_of_all_has_wilsons_interval_over_patients(by_hand: CrossValidation) -> None:
    everyone = by_hand.score("bleed_free_patients_marked")
    assert everyone.interval == "wilson"
    assert everyone.low == pytest.approx(0.2065, abs=1e-3)  # 1 / (1 + 1.96²)
    assert everyone.high == pytest.approx(1.0)
    assert by_hand.score("lesion_free_slices_marked").interval == "bootstrap"


def test_wilsons_interval_is_over_patients_who_have_several_cases() -> None:
    several = Measured(1.0, 6, np.array([1, 1, 2, 2, 3, 3]), is_share=True)
    found = _score(measures()[0], several, (1.0, 1.0))
    assert (found.interval, found.cases, found.patients) == ("wilson", 6, 3)
    assert (found.low, found.high) == (pytest.approx(3 / (3 + 1.96**2), abs=1e-3), pytest.approx(1.0))


def test_targets_peers_and_keys() -> None:
    keys = [one.key for one in measures()]
    assert len(set(keys)) == len(keys)
    assert set(TARGETS) <= set(keys)
    assert {peer.measure for peer in PEERS} <= set(keys)
    scores = cross_validation(three_patients(), resamples=10)
    assert scores.score("authors_dice").target == "≥ 0.60"
    assert scores.score("authors_dice").met is False
    assert scores.score("bleed_free_patients_slices_marked").met is False
    assert json.loads(json.dumps(scores.to_dict(), allow_nan=False))["scores"][0]["key"] == "authors_dice"
    assert sum(one.cases for one in scores.slice_reliability) == 6


def test_the_document_names_every_target_and_size() -> None:
    text = (Path(__file__).parents[2] / "docs/protocol.md").read_text("utf-8")
    for key, target in TARGETS.items():
        assert f"| `{key}` | {target} |" in text
    for number in (SLICE_SPECIFICITY, STUDY_SPECIFICITY, f"{RESAMPLES:,} draws", f"{SMALLEST_LESION_VOXELS} voxels"):
        assert str(number) in text
    assert f"`{PROTOCOL}`" in text


def test_specks_of_the_reference_are_no_lesions_but_cover_what_touches_them() -> None:
    reference, marked = blank(), blank()
    reference[0, 0, :5] = marked[0, 0, :5] = True
    records = OutOfFold("speck", "", (Choices(1, 1, 0.5, 0.5, 0.5),), (study(1, reference, marked, [1, 0], 1),))
    scores = cross_validation(records, resamples=5)
    assert scores.score("lesion_sensitivity_touched").value is None
    assert scores.score("false_positives_per_study_touched").value == 0
    assert scores.score("volume_dice").value == 1  # overlap knows no smallest lesion


def test_lesions_are_counted_by_their_true_size_where_the_pixels_are_known() -> None:
    """Patient 49's JPEG pixels are 0.41211 mm times 512/650, the slices 5 mm apart: a mL has 1,898 voxels."""
    voxel_ml = (0.41211 * 512 / 650) ** 2 * 5 / 1000
    reference, marked = np.zeros((2, 2, 60, 60), np.bool_)
    reference[0, :31, :60] = reference[0, 35:, :] = True  # 1,860 voxels are 0.98 mL; 1,500 are 0.79 mL
    reference[1, :31, :2] = marked[1, 0, 0] = True  # with 62 more the upper one has 1.01 mL
    choices, one = (Choices(1, 1, 0.5, 0.5, 0.5),), study(49, reference, marked, [1, 1], 1)
    assert (1_860 * voxel_ml, 1_922 * voxel_ml) == (pytest.approx(0.980, abs=1e-3), pytest.approx(1.013, abs=1e-3))
    known = cross_validation(OutOfFold("known", protocol_folds().data_sha256, choices, (one,)), resamples=5)
    for size, cases, found in (("below_1_ml", 1, 0.0), ("1_to_10_ml", 1, 1.0), ("1_ml_or_more", 1, 1.0)):
        score = known.score(f"lesion_sensitivity_touched_{size}")
        assert (score.cases, score.value) == (cases, found)
    assert known.score("lesion_sensitivity_touched_10_ml_or_more").value is None
    other = cross_validation(OutOfFold("other data", "", choices, (one,)), resamples=5)
    assert other.score("lesion_sensitivity_touched_1_ml_or_more").value is None
    assert other.score("lesion_sensitivity_touched").cases == 2


def test_an_interval_for_the_volume_and_types_are_scored_where_they_are_told() -> None:
    records = three_patients()
    told = np.full((2, 5), 0.2)
    told[0, 0] = 0.9
    studies = [replace(one, verdict=replace(one.verdict, types=told, voxels=(30, 40))) for one in records.studies]
    scores = cross_validation(replace(records, studies=tuple(studies)), resamples=5)
    assert scores.score("volume_interval_coverage").value == 1.0  # both have 40 voxels; the bleed-free one is not asked
    assert scores.score("volume_interval_coverage").cases == 2
    assert scores.score("slice_auc_EDH").value == pytest.approx((2 * 2 + 2 * 0.5 + 0.5 * 2) / 9)
    assert scores.score("slice_auc_IVH").value is None  # no slice bears it


def test_the_table_is_rebuilt_from_the_file(tmp_path: Path) -> None:
    records = random_records(np.random.default_rng(1), 6)
    records.write(tmp_path / "out-of-fold.json")
    again = read_out_of_fold(tmp_path / "out-of-fold.json")
    assert cross_validation(again, resamples=20) == cross_validation(records, resamples=20)
    again.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "out-of-fold.json").read_bytes()


@pytest.mark.parametrize("damage", ['{"format": "other"}', "[]", "{", '{"format": "bleedmap out-of-fold 1"}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, damage: str) -> None:
    (tmp_path / "x.json").write_text(damage)
    with pytest.raises(InputError, match="cannot be used"):
        read_out_of_fold(tmp_path / "x.json")


class TestComplete:
    FOLDS = ProtocolFolds("1.0.0 JPEG", "ab" * 32, 0, (Fold(1, (), (1,)), Fold(2, (), (2, 70))))

    def test_all_patients(self) -> None:
        three_patients().check_against(self.FOLDS)

    def test_what_does_not_fit_is_refused(self) -> None:
        records = three_patients()
        first, second, third = records.studies
        wrong = {
            r"\[70\] \(1 in all\)": replace(records, studies=(first, second)),
            r"twice": replace(records, studies=(first, second, third, third)),
            r"\[2\]": replace(records, studies=(first, replace(second, fold=1), third)),
            "no choices of fold 2": replace(records, choices=records.choices[:1]),
            "other data": replace(records, data_sha256="cd" * 32),
        }
        for found, one in wrong.items():
            with pytest.raises(SplitError, match=found):
                one.check_against(self.FOLDS)


def authors_way(masks: list[tuple[int, np.ndarray, np.ndarray]]) -> float:
    """As the authors' code goes: loops over patients and slices, NaN for those without a lesion and for the chronic."""
    report = []
    for patient, reference, marked in masks:
        dices = [
            2.0 * np.logical_and(one, other).sum() / (one.sum() + other.sum())
            for one, other in zip(reference, marked, strict=True)
            if one.sum() > 0
        ]
        report.append(sum(dices) / len(dices) if dices and patient != 70 else np.nan)
    return float(np.nanmean(report))


@given(st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_the_authors_measure_is_their_codes(seed: int) -> None:
    random = np.random.default_rng(seed)
    masks = []
    for patient in range(68, 74):
        reference = random.random((3, SIDE, SIDE)) < random.choice([0, 0.1], (3, 1, 1))
        reference[0, 0, 0] |= patient == 68  # somebody bleeds
        masks.append((patient, reference, random.random(reference.shape) < 0.1))
    studies = tuple(study(patient, one, other, [0.5] * 3, 0.5) for patient, one, other in masks)
    tables = Tables.of(OutOfFold("random", "", (Choices(1, 1, 0.5, 0.5, 0.5),), studies))
    ours = next(one for one in measures() if one.key == "authors_dice").compute(tables)
    assert ours.value == pytest.approx(authors_way(masks))


@given(st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_drawing_patients_is_recording_them_anew(seed: int) -> None:
    random = np.random.default_rng(seed)
    records = random_records(random, 5)
    rows = np.r_[0, 1, random.integers(5, size=5)]  # one patient who bleeds and one who does not, and more
    drawn = Tables.of(records).drawn(rows)
    anew = Tables.of(replace(records, studies=tuple(records.studies[row] for row in rows)))
    known = 0
    for measure in measures():
        one, other = measure.compute(drawn), measure.compute(anew)
        assert (one.cases, one.patients) == (other.cases, other.patients)
        assert one.value == pytest.approx(other.value, nan_ok=True)
        known += not np.isnan(one.value)
    assert known >= LEAST_KNOWN


@given(st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_shares_are_shares_and_more_marks_cost(seed: int) -> None:
    records = random_records(np.random.default_rng(seed), 6)
    samples = [measure.compute(Tables.of(records)) for measure in measures()]
    assert sum(not np.isnan(sample.value) for sample in samples) >= LEAST_KNOWN
    for sample in samples:
        assert np.isnan(sample.value) or sample.value >= 0
        assert not sample.is_share or np.isnan(sample.value) or sample.value <= 1
    free = next(one for one in records.studies if one.patient % 2)
    everywhere = np.ones((3, SIDE, SIDE), bool)
    worse = study(free.patient, ~everywhere, everywhere, [0.5] * 3, 0.5, free.fold)
    studies = tuple(worse if one is free else one for one in records.studies)
    before, after = (
        {one.key: one.compute(Tables.of(replace(records, studies=chosen))).value for one in measures()}
        for chosen in (records.studies, studies)
    )
    assert after["bleed_free_patients_slices_marked"] >= before["bleed_free_patients_slices_marked"]
    assert after["bleed_free_patients_marked"] >= before["bleed_free_patients_marked"]
    assert after["volume_dice"] == before["volume_dice"]


def abstaining(records: OutOfFold, patients: set[int], reason: str = "no head") -> OutOfFold:
    studies = [
        replace(one, verdict=replace(one.verdict, abstained=(reason,))) if one.patient in patients else one
        for one in records.studies
    ]
    return replace(records, studies=tuple(studies))


class TestComparison:
    GOOD, POOR = all_patients("good", 0.9), all_patients("poor", 0.3, seed=1)

    def test_a_method_does_not_differ_from_itself(self) -> None:
        one = compare_methods(self.GOOD, replace(self.GOOD, method="again"), resamples=30)
        assert [each.key for each in one.differences] == list(HEADLINE)
        assert {(each.difference, each.low, each.high) for each in one.differences} == {(0, 0, 0)}
        assert {each.better for each in one.differences} == {NO_DIFFERENCE}

    def test_the_better_one_is_named_whichever_comes_first(self) -> None:
        there, back = (
            {each.key: each for each in compare_methods(*pair, resamples=60).differences}
            for pair in ((self.GOOD, self.POOR), (self.POOR, self.GOOD))
        )
        for key in ("authors_dice", "volume_dice", "slice_auc"):
            assert there[key].better == back[key].better == "good"
            assert there[key].difference > 0
        for key, each in there.items():
            assert each.difference == pytest.approx(-back[key].difference)
            assert (each.low, each.high) == pytest.approx((-back[key].high, -back[key].low))

    def test_where_less_is_better_the_lower_one_is_better(self) -> None:
        everywhere = [
            replace(one, counts=replace(one.counts, false_positive=one.counts.false_positive + 1))
            for one in self.GOOD.studies
        ]
        marks = replace(self.GOOD, method="marks all", studies=tuple(everywhere))
        found = {each.key: each for each in compare_methods(self.GOOD, marks, resamples=60).differences}
        assert found["bleed_free_patients_slices_marked"].better == "good"
        assert found["bleed_free_patients_slices_marked"].difference < 0

    def test_the_order_of_a_files_patients_does_not_matter(self) -> None:
        backwards = replace(self.POOR, studies=self.POOR.studies[::-1])
        assert compare_methods(self.GOOD, backwards, resamples=20) == compare_methods(
            self.GOOD, self.POOR, resamples=20
        )

    def test_the_interval_is_that_of_differences_on_shared_draws(self) -> None:
        """By plain loops: the same draws, each patient's Dice of both methods."""
        found = {each.key: each for each in compare_methods(self.GOOD, self.POOR, resamples=200, seed=3).differences}
        dice = []
        for records in (self.GOOD, self.POOR):
            whole = [one.counts.pooled() for one in records.studies]
            hits = [(2 * int(one.true_positive[0]), int(one.reference[0] + one.predicted[0])) for one in whole]
            bleeds = [bool(one.reference[0]) for one in whole]
            dice.append([up / down if own else np.nan for (up, down), own in zip(hits, bleeds, strict=True)])
        gap, random = np.subtract(*dice), np.random.default_rng(3)
        draws = [np.nanmean(gap[random.integers(82, size=82)]) for _ in range(200)]
        assert found["volume_dice"].difference == pytest.approx(np.nanmean(gap))
        assert (found["volume_dice"].low, found["volume_dice"].high) == pytest.approx(
            tuple(np.percentile(draws, [2.5, 97.5]))
        )

    def test_other_patients_folds_or_data_are_refused(self) -> None:
        first, *rest = self.POOR.studies
        for other in (
            replace(self.POOR, studies=tuple(rest)),
            replace(self.POOR, studies=(replace(first, fold=first.fold % 5 + 1), *rest)),
            replace(self.POOR, data_sha256="other"),
            replace(self.POOR, studies=(replace(first, counts=self.POOR.studies[1].counts), *rest)),
        ):
            with pytest.raises(InputError, match="different patients, folds or references"):
                compare_methods(self.GOOD, other, resamples=2)

    def test_what_cannot_be_had_is_empty(self) -> None:
        bleed_free = replace(three_patients(), studies=three_patients().studies[1:2])
        found = {each.key: each for each in compare_methods(bleed_free, bleed_free, resamples=5).differences}
        assert (found["volume_dice"].difference, found["volume_dice"].low, found["volume_dice"].better) == (None,) * 3


class TestAbstaining:
    def test_worked_by_hand(self) -> None:
        scores = cross_validation(abstaining(three_patients(), {1}), resamples=20)
        assert scores.score("abstained").value == pytest.approx(1 / 3)
        assert scores.score("abstained_bleeding").value == pytest.approx(1 / 2)
        assert scores.score("abstained_bleed_free").value == 0
        assert scores.score("abstained_bleed_free").interval == "wilson"
        assert scores.score("volume_dice_answered").value == 1  # patient 70 alone
        assert scores.score("volume_dice_answered").met is None
        assert scores.score("authors_dice_answered").value is None  # and that one is left out there
        assert scores.answered is not None
        assert [one.key for one in scores.answered] == [f"{key}_answered" for key in HEADLINE]

    def test_the_headline_holds_every_study(self) -> None:
        plain, held = (
            cross_validation(one, resamples=20) for one in (three_patients(), abstaining(three_patients(), {2}))
        )
        assert plain.scores == held.scores
        assert plain.answered is None
        assert plain.score("abstained").value == 0

    def test_abstaining_on_all_leaves_nothing(self) -> None:
        scores = cross_validation(abstaining(three_patients(), {1, 2, 70}), resamples=5)
        assert scores.answered is not None
        assert {one.value for one in scores.answered} == {None}

    def test_the_file_keeps_the_reasons_and_older_files_read(self, tmp_path: Path) -> None:
        records = abstaining(random_records(np.random.default_rng(0), 4), {70}, "slices are missing")
        records.write(tmp_path / "records.json")
        again = read_out_of_fold(tmp_path / "records.json")
        assert [one.verdict.abstained for one in again.studies] == [(), ("slices are missing",), (), ()]
        assert cross_validation(again, resamples=5) == cross_validation(records, resamples=5)
        assert (tmp_path / "records.json").read_text().count('"abstained"') == 1
