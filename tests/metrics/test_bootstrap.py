"""The bootstrap over patients, held against what is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bleedmap.evaluation.slices import SliceResults, intervals, score
from bleedmap.metrics.bootstrap import RESAMPLES, patient_bootstrap, wilson_interval
from bleedmap.metrics.overlap import Counts


def results(random: np.random.Generator, patients: int, slices: int) -> SliceResults:
    """Slices whose quality is the patient's own: neighbours are alike, as in a head CT."""
    quality = np.repeat(random.beta(2, 2, patients), slices)
    lesion = np.where(random.random(patients * slices) < 0.6, 100, 0)
    hit = random.binomial(lesion, quality)
    counts = Counts(hit, random.poisson(3, len(lesion)), lesion - hit, np.full(len(lesion), 10_000))
    who = np.repeat([f"{number:03d}" for number in range(patients)], slices)
    ids = tuple(f"{name}/{index}" for index, name in enumerate(who))
    return SliceResults(ids, who, lesion > 0, random.random(len(lesion)).astype(np.float32), counts, 0.5)


def test_one_slice_a_patient_is_scipys_percentile_bootstrap():
    values = np.random.default_rng(0).gamma(2, size=60)
    ours = patient_bootstrap(
        np.arange(60), lambda rows, who: [float(values[rows].mean())], resamples=4000, seed=1
    )[0]  # fmt: skip
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=2).confidence_interval
    assert ours == pytest.approx([theirs.low, theirs.high], abs=0.03)


def test_wilsons_interval_by_its_formula():
    z = stats.norm.ppf(0.975)
    for reached, cases in ((0, 5), (5, 5), (3, 10)):
        middle = (reached + z**2 / 2) / (cases + z**2)
        reach = z / (cases + z**2) * np.sqrt(reached * (cases - reached) / cases + z**2 / 4)
        assert wilson_interval(reached, cases) == pytest.approx((middle - reach, middle + reach), abs=1e-12)


def test_two_thousand_draws_unless_said_otherwise():
    drawn = []
    patient_bootstrap(np.arange(3), lambda rows, _: drawn.append(rows) or [0.0])
    assert len(drawn) == RESAMPLES == 2000


def test_the_ends_are_the_middle_95_percent_of_the_draws():
    drawn = []
    values = np.random.default_rng(0).random(12)

    def statistic(rows, _):
        drawn.append(values[rows].mean())
        return [drawn[-1], np.nan]

    ends = patient_bootstrap(np.arange(12), statistic, resamples=300)
    assert ends[0] == pytest.approx(np.percentile(drawn, [2.5, 97.5]))
    assert np.isnan(ends[1]).all()  # no draw gave a number
    assert patient_bootstrap(np.arange(12), statistic, resamples=300, seed=0)[0].tolist() == ends[0].tolist()
    assert patient_bootstrap(np.arange(12), statistic, resamples=300, seed=1)[0].tolist() != ends[0].tolist()


def test_alike_slices_of_a_patient_do_not_narrow_the_interval():
    once = np.random.default_rng(0).random(20)
    often, who = np.repeat(once, 30), np.repeat(np.arange(20), 30)
    single = patient_bootstrap(np.arange(20), lambda rows, _: [float(once[rows].mean())], resamples=500, seed=3)
    repeated = patient_bootstrap(who, lambda rows, _: [float(often[rows].mean())], resamples=500, seed=3)
    assert repeated == pytest.approx(single)


def test_a_patient_drawn_twice_counts_twice():
    seen = []
    patients = np.array(["a", "b", "b"])

    def statistic(rows, who):
        seen.append((len(np.unique(patients[rows])), len(np.unique(who))))
        return [0.0]

    patient_bootstrap(patients, statistic, resamples=50, seed=0)
    assert {drawn for _, drawn in seen} == {2}
    assert {different for different, _ in seen} == {1, 2}


def test_intervals_hold_the_measure_and_come_again_with_the_seed():
    measured = results(np.random.default_rng(0), patients=25, slices=8)
    whole, first = score(measured), intervals(measured, resamples=200, seed=4)
    assert first == intervals(measured, resamples=200, seed=4)
    for group in ("thesis_pooled", "thesis_per_slice", "strict", "detection"):
        for name, (low, high) in first[group].items():
            assert low < high
            assert low - 0.02 <= whole[group][name] <= high + 0.02
    assert "pixel_roc_auc" not in first["detection"]


def test_measures_of_one_patient_have_no_interval():
    """Its draws are all alike: an interval without width would claim to be sure."""
    measured = results(np.random.default_rng(0), patients=5, slices=8)
    first = measured.patients == "000"
    lesion = measured.has_lesion & first
    counts = measured.counts
    counts = replace(
        counts, true_positive=np.where(lesion, counts.true_positive, 0),
        false_negative=np.where(lesion, counts.false_negative, 0),
    )  # fmt: skip
    found = intervals(replace(measured, has_lesion=lesion, counts=counts), resamples=50)
    assert found["strict"].keys() == {"pooled_precision", "pooled_recall", "lesion_free_slices_marked"}
    assert "dice" in found["thesis_pooled"]
    alone = measured.resampled(np.flatnonzero(first), measured.patients[first])
    assert intervals(alone, resamples=50).keys() == {"convention"}


@pytest.mark.exhaustive
def test_nominal_coverage_with_many_patients():
    """Of 60 studies of 40 patients, about 95 % of the intervals hold the true mean Dice of a patient."""
    truth = score(results(np.random.default_rng(99), patients=4000, slices=6))["strict"]["patient_mean_dice"]
    held = 0
    for seed in range(60):
        low, high = intervals(results(np.random.default_rng(seed), 40, 6), resamples=120)["strict"]["patient_mean_dice"]
        held += low <= truth <= high
    assert held >= 51  # 85 %: below it by chance less than once in a thousand
