"""Two methods on the same draws of patients, and studies on which the program gives no verdict."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bleedmap.errors import InputError
from bleedmap.evaluation.measure_table import HEADLINE
from bleedmap.evaluation.records import OutOfFold, read_out_of_fold
from bleedmap.evaluation.scores import NO_DIFFERENCE, compare_methods, cross_validation
from bleedmap.metrics.roc import roc_auc
from synthetic_records import all_patients, random_records, three_patients


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


@given(st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_the_area_is_mann_and_whitneys(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.random(30) < 0.4
    truth[:2] = True, False
    score = random.integers(0, 8, 30) / 8
    u = stats.mannwhitneyu(score[truth], score[~truth], method="asymptotic").statistic
    assert roc_auc(truth, score) == float(u) / (truth.sum() * (~truth).sum())
