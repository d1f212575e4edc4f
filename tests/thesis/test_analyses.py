"""The report's statistics on made-up results whose answer is known, and on cases small enough to count by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy import stats

from bleedmap.metrics.bootstrap import patient_bootstrap
from bleedmap.metrics.overlap import Counts
from bleedmap.metrics.roc import roc_auc
from bleedmap.page.table import DOES_NOT_APPLY
from bleedmap_thesis.analyses import (
    comparison,
    factors,
    gap,
    grid,
    lesion_free,
    paired_slices,
    trained_conventions,
)
from bleedmap_thesis.analyses.conventions import TABLE_1
from bleedmap_thesis.plan import FACTORS, SCALES, Cell, name_method
from bleedmap_thesis.record import CellResult, Evaluation
from bleedmap_thesis.tables import NOT_APPLICABLE, Estimate, tabulate
from synthetic_cells import GAP, synthetic_cells

SMALL = SCALES["small"]
SECTIONS = (gap, factors, grid, trained_conventions, lesion_free, comparison)


# Columns that one seed leaves without a number.
UNKNOWN = {"anova-assumptions": {"Shapiro–Wilk p", "Levene p", "ε"}}


@pytest.fixture(scope="module")
def results() -> list[CellResult]:
    return synthetic_cells()


def marked(ids: tuple[str, ...], hit, false, missed, epoch: int = 20) -> Evaluation:
    """Slices of 100 pixels with these counts."""
    columns = [np.array(column, np.int64) for column in (hit, false, missed)]
    counts = Counts(*columns, 100 - sum(columns))
    score = (counts.predicted / 100).astype(np.float32)
    return Evaluation(epoch, ids, score, counts, counts.true_positive * 1.0, counts.predicted * 1.0)


def result(kind, fold: int, evaluation: Evaluation, label: str = "model-2-b32", seed: int = 0) -> CellResult:
    cell = Cell("folds", "small", "u-net", label, kind, seed, fold, None)
    return CellResult(cell, {}, None, [], (evaluation,), None, {})


def table(section, key):
    return next(one for one in section.tables if one.key == key)


def column(of, name):
    return [row[of.columns.index(name)] for row in of.rows]


@pytest.mark.parametrize("module", SECTIONS, ids=lambda module: module.__name__.split(".")[-1])
def test_every_section_is_whole(module, results):
    section = module.section(results, SMALL)
    assert section.title.endswith("?")
    assert section.words == (module.CONVENTION,)
    json.dumps(section.data, allow_nan=False)
    for one in section.tables:
        for row in one.rows:
            assert len(row) == len(one.columns)
            assert not any(isinstance(value, float) and not np.isfinite(value) for value in row)
            assert all(value is None or type(value) in (str, int, float) for value in row), (one.key, row)
        known = [name for place, name in enumerate(one.columns) if any(row[place] is not None for row in one.rows)]
        assert set(one.columns) - set(known) <= UNKNOWN.get(one.key, set()), one.key
    for picture in section.pictures:
        figure = picture.draw()
        assert isinstance(figure, Figure)
        plt.close(figure)


@pytest.mark.parametrize("module", SECTIONS, ids=lambda module: module.__name__.split(".")[-1])
def test_scales_are_kept_apart_and_nothing_is_no_section(module, results):
    assert module.section([], SMALL) is None
    assert module.section(results, SCALES["full"]) is None


@pytest.mark.parametrize("module", SECTIONS, ids=lambda module: module.__name__.split(".")[-1])
def test_half_done_results_are_used_as_they_are(module, results):
    for few in (results[:1], results[:9], results[::3], [one for one in results if one.cell.kind == "slice"]):
        section = module.section(few, SMALL)
        assert section is None or (section.words and all(len(one.columns) for one in section.tables))
        for picture in section.pictures if section else ():
            plt.close(picture.draw())


def of_main(made):
    return [one for one in made if one.cell.label == paired_slices.MAIN]


def test_gap_counted_by_hand():
    """Patient a: Dice 1 and 0.5 by slice, 0.5 and 0 by patient. Patient b: 0.8, then nothing marked."""
    ids = ("a/1", "a/2", "b/1", "b/2")
    by_slice = marked(ids, [10, 5, 8, 0], [0, 5, 2, 0], [0, 5, 2, 0])
    by_patient = marked(ids[::-1], [0, 0, 0, 5], [3, 0, 10, 5], [0, 10, 10, 5])
    section = gap.section([result("slice", 1, by_slice), result("patient", 1, by_patient)], SMALL)
    row = dict(zip(table(section, "gap").columns, table(section, "gap").rows[0], strict=True))
    assert (row["lesion slices"], row["bleeding patients"], row["seeds"]) == (3, 2, 1)
    assert row["Dice by slice"] == pytest.approx((1 + 0.5 + 0.8) / 3)
    assert row["Dice by patient"] == pytest.approx(0.5 / 3)
    assert row["gap"] == pytest.approx((0.5 + 0.5 + 0.8) / 3)
    assert row["patient gap"] == pytest.approx((0.5 + 0.8) / 2)
    assert (row["gap low"], row["gap high"]) == pytest.approx((0.5, 0.8))  # one patient drawn twice
    measures = {one[0]: one for one in table(section, "gap-measures").rows}
    assert measures["lesion-free slices with any marked pixel"][3] == 0
    assert measures["lesion-free slices with any marked pixel"][6] == 1
    assert measures["pooled Dice"][3] == pytest.approx(46 / (46 + 7 + 7))
    assert measures["pooled accuracy"][3] == pytest.approx(1 - 14 / 400)


@pytest.mark.parametrize("truth", [GAP, 0.0])
def test_the_known_gap_lies_in_the_interval(truth):
    section = gap.section(of_main(synthetic_cells(parts=("folds",), gap=truth)), SMALL)
    row = dict(zip(table(section, "gap").columns, table(section, "gap").rows[0], strict=True))
    # Dice is cut off at 0.99 and made of whole pixels: that moves the truth by a few thousandths.
    assert row["gap low"] - 0.005 <= truth <= row["gap high"] + 0.005
    assert (row["p"] < 0.001) == (truth > 0)
    assert row["lesion slices"] == 318


def test_gap_over_the_schedule_by_hand():
    """Two patients, two epochs: the gap goes from 0 and 0.2 to 0.4 and 0.2."""
    ids = ("a/1", "b/1")
    made = []
    for kind, hits in (("slice", ([2, 4], [8, 6])), ("patient", ([2, 2], [4, 4]))):
        kept = [marked(ids, hit, 10 - np.array(hit), 10 - np.array(hit), epoch)
                for epoch, hit in zip((4, 20), hits, strict=True)]  # fmt: skip
        made.append(replace(result(kind, 1, kept[0]), evaluations=tuple(kept)))
    section = gap.section(made, SMALL)
    schedule = table(section, "gap-schedule")
    assert column(schedule, "epochs") == ["200", "1,000", "mean from 600 on", "1,000 less 200"]
    assert column(schedule, "Dice by slice")[:2] == pytest.approx([0.3, 0.7])
    assert column(schedule, "gap") == pytest.approx([0.1, 0.3, 0.3, 0.2])
    assert (schedule.rows[-1][-2], schedule.rows[-1][-1]) == pytest.approx((0.0, 0.4))


def test_whether_a_gap_grows_with_training_stands_in_the_last_row(results):
    made = [one for one in of_main(results) if one.cell.part == "folds"]
    growth = table(gap.section(made, SMALL), "gap-schedule").rows[-1]
    assert growth[-2] <= 0 <= growth[-1]
    without = {one.cell.key: one for one in synthetic_cells(parts=("folds",), gap=0.0)}
    grown = [replace(one, evaluations=(without[one.cell.key].evaluations[0], one.last)) for one in made]
    growth = table(gap.section(grown, SMALL), "gap-schedule").rows[-1]
    assert growth[-3] == pytest.approx(GAP, abs=0.05)
    assert growth[-2] > 0


def test_names_of_methods_and_what_a_batch_is_at_a_scale():
    assert name_method("model-2-b32-clahe") == "Model 2, batch 32, CLAHE"
    assert name_method("model-1-b16-alone-600") == "Model 1, batch 16, trained alone for 600 epochs"
    assert name_method("run-010101") == "run-010101"
    assert "'batch 32' is 8 slices here" in SMALL.describe()
    assert "batch 32" not in SCALES["full"].describe()


def test_an_estimate_takes_three_columns():
    rows = [{"patients": np.int64(3), "F": np.nan, "gap": Estimate(1.0, 0.5, np.nan)},
            {"patients": 4, "F": 0.25, "gap": NOT_APPLICABLE}]  # fmt: skip
    made = tabulate("k", "t", "n", rows, {"F": 2})
    assert made.columns == ("patients", "F", "gap", "gap low", "gap high")
    assert made.rows == ((3, None, 1.0, 0.5, None), (4, 0.25, "–", None, None))
    assert made.digits == {"F": 2}
    assert type(made.rows[0][0]) is int


def test_no_label_is_printed(results):
    keys = {one.cell.label for one in results if one.cell.part != "factors"}
    for module in SECTIONS:
        section = module.section(results, SMALL)
        printed = [*section.words, *(value for one in section.tables for row in one.rows for value in row)]
        printed += [text for one in section.tables for text in (one.title, one.note)]
        assert not keys & set(printed), module
        assert not any("-b32" in text or "-b16" in text for text in printed if isinstance(text, str)), module
        assert not {"low", "high"} & {name for one in section.tables for name in one.columns}, module


def test_several_seeds_give_an_interval_of_seeds():
    section = gap.section(of_main(synthetic_cells(seeds=3, parts=("folds",))), SMALL)
    seeds = table(section, "gap-seeds")
    each = column(seeds, "gap")[:3]
    ends = stats.t.interval(0.95, 2, np.mean(each), stats.sem(each))
    assert seeds.rows[-1][1:] == pytest.approx((np.mean(each), *ends))
    assert column(table(section, "gap"), "lesion slices") == [318]


def test_distance_that_explains_dice_is_found():
    random = np.random.default_rng(0)
    made = []
    for kind, least in (("slice", 0.0), ("patient", 0.3)):
        ids = tuple(f"{patient}/{index}" for patient in range(12) for index in range(6))
        distance = least + 0.3 * random.random(len(ids))
        hit = np.round(40 * (1 - distance)).astype(int)
        made.append(result(kind, 1, marked(ids, hit, 40 - hit, 40 - hit)))
        extra = {"nearest": list(ids), "distance": distance.tolist(), "same_patient": [kind == "slice"] * len(ids)}
        copied = replace(marked(ids, hit // 2, 40 - hit // 2, 40 - hit // 2), extra=extra)
        made.append(result(kind, 1, copied, "copy-nearest"))
    section = gap.section(made, SMALL)
    control = table(section, "gap-control")
    assert column(control, "same patient") == [1.0, 0.0, DOES_NOT_APPLY]
    assert column(control, "Spearman")[0] < -0.95
    assert column(control, "Spearman")[2] > 0.9
    assert column(table(section, "gap-terciles"), "rows") == [24] * 6
    dice = column(table(section, "gap-terciles"), "Dice")
    assert dice[:3] == sorted(dice[:3], reverse=True)
    copied_dice = control.rows[0][control.columns.index("copied Dice")]
    assert copied_dice == pytest.approx(dice[0] / 3 / 2 + dice[1] / 3 / 2 + dice[2] / 3 / 2, abs=0.02)


def test_fast_bootstrap_draws_what_the_plain_one_draws():
    random = np.random.default_rng(5)
    patients, values = np.repeat(np.arange(15), random.integers(1, 8, 15)), random.random
    dice = values(len(patients))
    plain = patient_bootstrap(
        patients, lambda rows, _: [float(dice[rows].mean())], resamples=paired_slices.RESAMPLES, seed=0
    )
    fast = paired_slices.estimate_mean(patients, dice)
    assert (fast.low, fast.high) == pytest.approx(tuple(plain[0]))
    assert fast.value == pytest.approx(dice.mean())


def test_auc_and_its_draws_are_those_of_every_fold(results):
    cells = paired_slices.select(results, SMALL, "folds", "sift", "slice")
    of = paired_slices.gather(cells, paired_slices.find_lesions(results, SMALL))
    names = np.unique(of.patients)
    value, draws = paired_slices.draw_auc(of, names)
    folds = [roc_auc(one.lesion, one.score) for one in (of.rows(of.folds == fold) for fold in range(1, 6))]
    assert value == pytest.approx(np.mean(folds))
    weights = paired_slices.draw_patients(len(names))[7].astype(int)
    again = []
    for fold in range(1, 6):
        rows = np.flatnonzero(of.folds == fold)
        rows = np.repeat(rows, weights[np.searchsorted(names, of.patients[rows])])
        again.append(roc_auc(of.lesion[rows], of.score[rows]))
    assert draws[7] == pytest.approx(np.mean(again))


def test_sign_flips_of_few_patients_are_counted():
    """Three patients, all of one sign: 2 of the 8 flips are as far from 0."""
    p = paired_slices.compute_sign_flip_p(np.array(["a", "b", "c"]), np.array([1.0, 2.0, 3.0]))
    assert p == pytest.approx(2 / 8, abs=0.01)


def test_known_effect_of_dropout_and_none_of_batch():
    section = grid.section(synthetic_cells(seeds=2, parts=("grid", "folds")), SMALL)
    dropout = table(section, "dropout")
    for row in dropout.rows[:2]:
        assert row[6] - 0.002 <= 0.03 <= row[7] + 0.002  # METHOD["model-1"] is -0.03
    assert dropout.rows[2][6] - 0.002 <= 0 <= dropout.rows[2][7] + 0.002
    for row in table(section, "batch").rows:
        assert row[6] - 0.01 <= 0 <= row[7] + 0.01
        assert row[8] == pytest.approx(max(abs(row[6]), abs(row[7])))
    variance = {row[1]: row for row in table(section, "anova-grid").rows}
    assert variance["model"][5] < 0.01
    assert variance["batch"][5] > 0.01
    assert variance["epochs"][6] < 0.001


def test_design_is_balanced_and_of_resolution_four(results):
    runs = [one for one in results if one.cell.part == "factors"]
    design = factors.code_levels([dict(one.cell.levels) for one in runs])
    columns = np.column_stack(list(design.values()))
    assert columns.T @ columns == pytest.approx(16 * np.eye(6))  # balanced and uncorrelated
    groups = factors.find_aliases(design)
    assert len(groups) == 15
    assert sorted(len(word) for group in groups for word in group if len(word) == 1) == [1] * 6
    for group in groups:
        sizes = [len(word) for word in group]
        assert not (1 in sizes and 2 in sizes), group  # no factor with an interaction of two
        assert sizes.count(1) <= 1
    pairs = {frozenset(word for word in group if len(word) == 2) for group in groups}
    assert frozenset({("dropout", "split"), ("filters", "optimiser"), ("kernel", "stride")}) in pairs


def test_factors_effects_are_differences_of_means(results):
    section = factors.section(results, SMALL)
    effects, runs = table(section, "factors"), table(section, "factors-runs")
    dice = np.array(column(runs, "Dice"))
    for row in effects.rows:
        second = np.array([level == FACTORS[row[0]][1] for level in column(runs, row[0])])
        assert row[2] == pytest.approx(dice[second].mean() - dice[~second].mean())
        assert row[3] < row[2] < row[4]
        t = row[2] / ((row[4] - row[2]) / stats.t.ppf(0.975, 9))
        assert t**2 == pytest.approx(row[5])
    known = {row[0]: row for row in effects.rows}
    assert known["optimiser"][2] == pytest.approx(-0.08, abs=0.02)
    assert known["stride"][3] <= 0 <= known["stride"][4]
    assert table(section, "factors-contrasts").rows[0][0] == "split"


def test_lenths_margin_by_hand():
    effects = np.array([0.1, -0.2, 0.3, -0.4, 10.0])
    # 1.5·median 0.3 = 0.45; below 2.5·0.45: 0.1 to 0.4, whose median is 0.25; PSE 0.375; t with 5/3 degrees.
    assert factors.compute_lenth_margin(effects) == pytest.approx(0.375 * stats.t.ppf(0.975, 5 / 3))


def test_scores_of_the_comparison_by_hand():
    scores = trained_conventions.score_as_compared(marked(("a/1", "b/1", "c/1"), [5, 0, 0], [5, 0, 7], [5, 10, 0]))
    assert scores == {
        "dice": pytest.approx(0.25),
        "iou": pytest.approx(1 / 6),
        "mean_iou": pytest.approx((1 / 3 + 85 / 95 + 0 + 90 / 100) / 4),
        "accuracy": pytest.approx(1 - 27 / 300),
    }
    assert trained_conventions.score_as_compared(Evaluation(0, ("a/1",), np.zeros(1, np.float32), None))["dice"] is None


def test_conventions_by_hand():
    one = marked(("a/1", "b/1", "c/1"), [5, 0, 0], [5, 0, 7], [5, 0, 0])
    found = {name: score(trained_conventions.compute_masses(one, soft)) for name, (soft, score) in
             trained_conventions.CONVENTIONS.items()}  # fmt: skip
    assert found["pooled, lesion"] == pytest.approx((10 / 27, 5 / 22))
    assert found["lesion slices, lesion"] == pytest.approx((0.5, 1 / 3))
    assert found["lesion slices, mean"] == pytest.approx((0.5, (1 / 3 + 85 / 95) / 2))
    assert found["all slices, empty 1, lesion"] == pytest.approx((1.5 / 3, (1 / 3 + 1) / 3))
    assert found["all slices, empty 0, lesion"] == pytest.approx((0.5 / 3, 1 / 9))
    assert found["all slices, empty left out, lesion"] == pytest.approx((0.25, 1 / 6))
    assert found["all slices, empty Dice 1 and IoU 0, lesion"] == pytest.approx((0.5, 1 / 9))
    two = {name: score(trained_conventions.compute_masses(one, soft, 2)) for name, (soft, score) in
           trained_conventions.CONVENTIONS.items()}  # fmt: skip
    # a and b are one batch, c with its marks of nothing the next: Dice 10/20 and 0.
    assert two["batches, lesion"] == pytest.approx((0.25, 1 / 6))
    assert two["batches, mean"] == pytest.approx((0.25, (1 / 3 + 185 / 195 + 0 + 93 / 100) / 4))
    assert found["batches, lesion"] == found["pooled, lesion"]  # three slices are less than a batch
    assert found["soft, pooled, lesion"] == found["pooled, lesion"]  # probabilities of 0 and 1


def test_place_is_0_for_like_slices_and_1_for_all_or_nothing():
    assert trained_conventions.place(0.6, 0.6 / 1.4) == pytest.approx(0)
    assert trained_conventions.place(0.6, 0.6) == pytest.approx(1)
    low, high = trained_conventions.place_table_1()
    assert all(low < trained_conventions.place(row.dice, row.mean_iou) < high for row in TABLE_1)


def test_share_of_marked_slices_and_wilsons_interval():
    patients = np.array([f"{index}" for index in range(20)])
    none = lesion_free.estimate_share(patients, np.zeros(20, np.bool_))
    z2 = stats.norm.ppf(0.975) ** 2
    assert (none.value, none.low, none.high) == pytest.approx((0, 0, z2 / (20 + z2)))
    some = lesion_free.estimate_share(patients, np.arange(20) < 5)
    assert some.low < 0.25 < some.high


def test_false_marks_are_counted(results):
    section = lesion_free.section(results, SMALL)
    rows = {row[:4]: row for row in table(section, "lesion-free").rows}
    cells = paired_slices.select(results, SMALL, "folds", "model-2-b32", "patient")
    marks = np.concatenate([one.rest.counts.false_positive for one in cells])
    row = rows["folds", "Model 2, batch 32", "by patient", "never drawn"]
    assert (row[6], row[8]) == (len(marks), (marks > 0).sum())
    assert row[12] == pytest.approx(np.median(marks[marks > 0]))


def test_clahe_is_compared_first_and_classifiers_have_no_dice(results):
    section = comparison.section(results, SMALL)
    differences = table(section, "comparison-paired")
    assert differences.rows[0][0] == differences.rows[1][0] == "Model 2, batch 32, CLAHE"
    assert "SIFT + classifier" not in column(table(section, "comparison-dice"), "method")
    detection = {row[:2]: row for row in table(section, "comparison-detection").rows}
    assert detection["SIFT + classifier", "by patient"][8] == DOES_NOT_APPLY
    assert 0.5 < detection["SIFT + classifier", "by patient"][6] < detection["SIFT + classifier", "by patient"][7] < 1


def of_folds(results, label, count=10):
    """The first `count` cells of a method's folds."""
    return [one for one in results if (one.cell.part, one.cell.label) == ("folds", label)][:count]


def test_tables_of_incomplete_folds_say_so(results):
    main, copied = of_folds(results, "model-2-b32"), of_folds(results, "copy-nearest")
    few = [*main[:7], *of_folds(results, "model-1-b32"), *of_folds(results, "model-2-b32-clahe", 7), *copied]
    for module in (gap, grid, comparison, lesion_free):
        for one in module.section(few, SMALL).tables:
            assert one.note.startswith("Incomplete: "), one.key
            assert "Model 2, batch 32, 7 of 10 cells done" in one.note
    whole = [*main, *copied]
    for module in (gap, comparison, lesion_free):
        assert not any("Incomplete" in one.note for one in module.section(whole, SMALL).tables)


def test_a_seed_only_begun_does_not_move_the_tables():
    two = synthetic_cells(seeds=2, parts=("folds",))
    one = [result for result in of_main(two) if result.cell.seed == 0]
    begun = [result for result in of_main(two) if result.cell.seed == 1][:3]
    alone, more = gap.section(one, SMALL), gap.section([*one, *begun], SMALL)
    assert [made.rows for made in alone.tables] == [made.rows for made in more.tables]
    assert "seed 1, 3 of 10 cells done and left out" in table(more, "gap").note


@pytest.mark.parametrize("copy_dice", [1.0, 0.0])
def test_the_network_is_compared_with_copying(results, copy_dice):
    main = of_folds(results, "model-2-b32")
    copied = []
    for one in main:
        last, counts = one.last, one.last.counts
        hit = counts.reference if copy_dice else 0 * counts.reference
        other = Counts(hit, 0 * hit, counts.reference - hit, counts.true_negative + counts.false_positive)
        extra = {"distance": np.linspace(0, 1, len(last.ids)).tolist(), "same_patient": [True] * len(last.ids)}
        cell = replace(one.cell, label="copy-nearest", method="copy-nearest")
        copied.append(replace(one, cell=cell, evaluations=(replace(last, counts=other, extra=extra),)))
    section = gap.section([*main, *copied], SMALL)
    made = table(section, "gap-copied")
    network, gaps = column(made, "network Dice"), table(section, "gap")
    assert network == pytest.approx([column(gaps, "Dice by slice")[0], column(gaps, "Dice by patient")[0]])
    assert column(made, "copied Dice") == [copy_dice, copy_dice]
    assert column(made, "difference") == pytest.approx([dice - copy_dice for dice in network])
    assert all((high < 0) == (copy_dice == 1) for high in column(made, "difference high"))


def test_the_claim_of_empty_masks_is_measured_where_table_1_ends(results):
    one = next(one for one in results if one.cell.key == "small/grid/model-2-b32/slice-seed0")
    clean = [replace(kept, counts=replace(kept.counts, false_positive=np.where(kept.counts.reference > 0, 1, 0)))
             if kept.epoch == SMALL.epochs(1000) else kept for kept in one.evaluations]  # fmt: skip
    section = lesion_free.section([*results[7:], replace(one, evaluations=tuple(clean))], SMALL)
    first = table(section, "lesion-free").rows[0]
    assert first[:6] == ("grid", "Model 2, batch 32", "by slice", "test side", 1000, 20)
    assert first[8] == 0
    claim = table(section, "lesion-free-claim")
    assert claim.rows[0] == first
    assert column(claim, "epochs, thesis") == [1000, 200, 400, 600, 800, 1200, 1400]
    assert set(column(table(section, "lesion-free-epochs"), "epochs, thesis")) == {200, 400, 600, 800, 1200, 1400}
