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
from bleedmap_thesis.analyses import (
    batch_and_dropout,
    comparison,
    factors,
    gap,
    gap_schedule,
    lesion_free,
    paired_slices,
    trained_conventions,
)
from bleedmap_thesis.analyses.conventions import TABLE_1
from bleedmap_thesis.plan import FACTORS, SCALES, Cell
from bleedmap_thesis.record import CellResult, Evaluation
from bleedmap_thesis.titles import at_scale, title
from synthetic_cells import GAP, synthetic_cells

SMALL = SCALES["small"]
SECTIONS = (gap, factors, batch_and_dropout, trained_conventions, lesion_free, comparison)


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
    json.dumps(section.data, allow_nan=False)
    for one in section.tables:
        assert SMALL.text in one.note
        for row in one.rows:
            assert len(row) == len(one.columns)
            assert not any(isinstance(value, float) and not np.isfinite(value) for value in row)
            assert all(value is None or type(value) in (str, int, float) for value in row), (one.key, row)
    for picture in section.pictures:
        figure = picture.draw()
        assert isinstance(figure, Figure)
        plt.close(figure)
    assert not any("nan" in words for words in section.words)


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
    course = gap_schedule.schedule(made, SMALL, paired_slices.pairs(made, SMALL, frozenset(ids))[0], frozenset(ids))
    assert "cannot be told, for the interval holds 0" in gap_schedule.words(course)


def test_a_gap_that_grows_with_training_is_told_and_one_that_does_not_is_not(results):
    made, told = [one for one in of_main(results) if one.cell.part == "folds"], "larger at the end"
    assert not any(told in words for words in gap.section(made, SMALL).words)
    without = {one.cell.key: one for one in synthetic_cells(parts=("folds",), gap=0.0)}
    grown = [replace(one, evaluations=(without[one.cell.key].evaluations[0], one.last)) for one in made]
    assert any(told in words for words in gap.section(grown, SMALL).words)


def test_titles_and_what_a_batch_is_at_a_scale():
    assert title("model-2-b32-clahe") == "Model 2, batch 32, CLAHE"
    assert title("model-1-b16-alone-600") == "Model 1, batch 16, trained alone for 600 epochs"
    assert title("run-010101") == "run-010101"
    assert "'batch 32' is 8 slices here" in at_scale(SMALL)
    assert "batch 32" not in at_scale(SCALES["full"])


def test_no_label_is_printed(results):
    keys = {one.cell.label for one in results if one.cell.part != "factors"}
    for module in SECTIONS:
        section = module.section(results, SMALL)
        printed = [*section.words, *(value for one in section.tables for row in one.rows for value in row)]
        printed += [text for one in section.tables for text in (one.title, one.note)]
        assert not keys & set(printed), module
        assert not any("-b32" in text or "-b16" in text for text in printed if isinstance(text, str)), module
        assert not {"low", "high"} & {name for one in section.tables for name in one.columns}, module


def test_one_seed_says_what_it_cannot_tell(results):
    assert any("With one seed" in words and "cannot be told" in words
               for words in batch_and_dropout.section(results, SMALL).words)  # fmt: skip
    two = batch_and_dropout.section(synthetic_cells(seeds=2, parts=("grid",)), SMALL)
    assert not any("With one seed" in words or "trained once" in words for words in two.words)


def test_conventions_that_allow_table_1_are_counted(monkeypatch):
    assert "2 can ('lesion slices, lesion', 'batches, lesion'): they give all 20" in trained_conventions.possible()
    monkeypatch.setattr(trained_conventions, "POSSIBLE", trained_conventions.POSSIBLE[:2])
    assert "Of 2 conventions worked out from Table 1, none can give all 20" in trained_conventions.possible()


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
    assert column(control, "same patient") == [1.0, 0.0, paired_slices.NOT_APPLICABLE]
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
    fast = paired_slices.mean(patients, dice)
    assert (fast.low, fast.high) == pytest.approx(tuple(plain[0]))
    assert fast.value == pytest.approx(dice.mean())


def test_auc_and_its_draws_are_those_of_every_fold(results):
    cells = paired_slices.select(results, SMALL, "folds", "sift", "slice")
    of = paired_slices.gathered(cells, paired_slices.lesion_ids(results, SMALL))
    names = np.unique(of.patients)
    value, draws = paired_slices.auc_with_draws(of, names)
    folds = [roc_auc(one.lesion, one.score) for one in (of.rows(of.folds == fold) for fold in range(1, 6))]
    assert value == pytest.approx(np.mean(folds))
    weights = paired_slices.patient_weights(len(names))[7].astype(int)
    again = []
    for fold in range(1, 6):
        rows = np.flatnonzero(of.folds == fold)
        rows = np.repeat(rows, weights[np.searchsorted(names, of.patients[rows])])
        again.append(roc_auc(of.lesion[rows], of.score[rows]))
    assert draws[7] == pytest.approx(np.mean(again))


def test_sign_flips_of_few_patients_are_counted():
    """Three patients, all of one sign: 2 of the 8 flips are as far from 0."""
    p = paired_slices.sign_flip_p(np.array(["a", "b", "c"]), np.array([1.0, 2.0, 3.0]))
    assert p == pytest.approx(2 / 8, abs=0.01)


def test_known_effect_of_dropout_and_none_of_batch():
    section = batch_and_dropout.section(synthetic_cells(seeds=2, parts=("grid", "folds")), SMALL)
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
    design = factors.signs([dict(one.cell.levels) for one in runs])
    columns = np.column_stack(list(design.values()))
    assert columns.T @ columns == pytest.approx(16 * np.eye(6))  # balanced and uncorrelated
    groups = factors.aliases(design)
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
    assert factors.lenth_margin(effects) == pytest.approx(0.375 * stats.t.ppf(0.975, 5 / 3))


def test_thesis_scores_by_hand():
    scores = trained_conventions.thesis_scores(marked(("a/1", "b/1", "c/1"), [5, 0, 0], [5, 0, 7], [5, 10, 0]))
    assert scores == {
        "dice": pytest.approx(0.25),
        "iou": pytest.approx(1 / 6),
        "mean_iou": pytest.approx((1 / 3 + 85 / 95 + 0 + 90 / 100) / 4),
        "accuracy": pytest.approx(1 - 27 / 300),
    }
    assert trained_conventions.thesis_scores(Evaluation(0, ("a/1",), np.zeros(1, np.float32), None))["dice"] is None


def test_conventions_by_hand():
    one = marked(("a/1", "b/1", "c/1"), [5, 0, 0], [5, 0, 7], [5, 0, 0])
    found = {name: score(trained_conventions.masses(one, soft)) for name, (soft, score) in
             trained_conventions.CONVENTIONS.items()}  # fmt: skip
    assert found["pooled, lesion"] == pytest.approx((10 / 27, 5 / 22))
    assert found["lesion slices, lesion"] == pytest.approx((0.5, 1 / 3))
    assert found["lesion slices, mean"] == pytest.approx((0.5, (1 / 3 + 85 / 95) / 2))
    assert found["all slices, empty 1, lesion"] == pytest.approx((1.5 / 3, (1 / 3 + 1) / 3))
    assert found["all slices, empty 0, lesion"] == pytest.approx((0.5 / 3, 1 / 9))
    assert found["all slices, empty left out, lesion"] == pytest.approx((0.25, 1 / 6))
    assert found["all slices, empty Dice 1 and IoU 0, lesion"] == pytest.approx((0.5, 1 / 9))
    two = {name: score(trained_conventions.masses(one, soft, 2)) for name, (soft, score) in
           trained_conventions.CONVENTIONS.items()}  # fmt: skip
    # a and b are one batch, c with its marks of nothing the next: Dice 10/20 and 0.
    assert two["batches, lesion"] == pytest.approx((0.25, 1 / 6))
    assert two["batches, mean"] == pytest.approx((0.25, (1 / 3 + 185 / 195 + 0 + 93 / 100) / 4))
    assert found["batches, lesion"] == found["pooled, lesion"]  # three slices are less than a batch
    assert found["soft, pooled, lesion"] == found["pooled, lesion"]  # probabilities of 0 and 1


def test_place_is_0_for_like_slices_and_1_for_all_or_nothing():
    assert trained_conventions.place(0.6, 0.6 / 1.4) == pytest.approx(0)
    assert trained_conventions.place(0.6, 0.6) == pytest.approx(1)
    low, high = trained_conventions.thesis_places()
    assert all(low < trained_conventions.place(row.dice, row.mean_iou) < high for row in TABLE_1)


def test_share_of_marked_slices_and_wilsons_interval():
    patients = np.array([f"{index}" for index in range(20)])
    none = lesion_free.share(patients, np.zeros(20, np.bool_))
    z2 = stats.norm.ppf(0.975) ** 2
    assert (none.value, none.low, none.high) == pytest.approx((0, 0, z2 / (20 + z2)))
    some = lesion_free.share(patients, np.arange(20) < 5)
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
    assert detection["SIFT + classifier", "by patient"][8] == paired_slices.NOT_APPLICABLE
    assert 0.5 < detection["SIFT + classifier", "by patient"][6] < detection["SIFT + classifier", "by patient"][7] < 1


def of_folds(results, label, count=10):
    """The first `count` cells of a method's folds."""
    return [one for one in results if (one.cell.part, one.cell.label) == ("folds", label)][:count]


VERDICTS = (
    "difference is shown",
    "ifference of Dice",
    "p = ",
    "p < ",
    "highest",
    "farther goes",
    "larger at",
    "smaller at",
)


def test_no_verdict_before_all_folds_are_in(results):
    main, copied = of_folds(results, "model-2-b32"), of_folds(results, "copy-nearest")
    few = [*main[:7], *of_folds(results, "model-1-b32"), *of_folds(results, "model-2-b32-clahe"), *copied]
    for module in (gap, batch_and_dropout):
        section = module.section(few, SMALL)
        assert "7 of 10 cells done" in section.words[0]
        assert not any(verdict in words for words in section.words for verdict in VERDICTS), section.words
        for one in section.tables:
            assert "Incomplete: Model 2, batch 32, 7 of 10 cells done" in one.note
            assert "is tested once" not in one.note
    whole = gap.section([*main, *copied], SMALL)
    assert "A difference is shown" in whole.words[0]
    assert "Each balanced lesion slice is tested once under each kind" in table(whole, "gap").note
    assert not any("Incomplete" in one.note for one in whole.tables)


def test_the_highest_is_of_methods_with_all_folds_and_clahe_waits(results):
    main, clahe = of_folds(results, "model-2-b32"), of_folds(results, "model-2-b32-clahe", 7)
    section = comparison.section([*main, *clahe], SMALL)
    assert not any(verdict in words for words in section.words for verdict in VERDICTS if verdict != "highest")
    assert "Of 2 methods begun, 1 have all folds in" in section.words[0]
    assert "Incomplete: Model 2, batch 32, CLAHE, 7 of 10 cells done." in section.words
    section = comparison.section([*main, *clahe, *of_folds(results, "fuzzy-c-means")], SMALL)
    for words in section.words[:2]:
        assert "highest lesion-slice Dice is that of Model 2, batch 32:" in words
    assert all("CLAHE, 7 of 10 cells done" in one.note for one in section.tables)


def test_a_seed_only_begun_does_not_move_a_verdict():
    two = synthetic_cells(seeds=2, parts=("folds",))
    one = [result for result in of_main(two) if result.cell.seed == 0]
    begun = [result for result in of_main(two) if result.cell.seed == 1][:3]
    alone, more = gap.section(one, SMALL), gap.section([*one, *begun], SMALL)
    assert alone.words == more.words
    assert table(alone, "gap").rows == table(more, "gap").rows
    assert "seed 1, 3 of 10 cells done and left out" in table(more, "gap").note


@pytest.mark.parametrize(("copy_dice", "said"), [(60, "does not exploit"), (2, "scores above its neighbours' masks")])
def test_the_gap_stands_beside_what_copying_scores(results, copy_dice, said):
    main = of_folds(results, "model-2-b32")
    copied = []
    for one in main:
        last, counts = one.last, one.last.counts
        hit = counts.reference if copy_dice == 60 else 0 * counts.reference
        other = Counts(hit, 0 * hit, counts.reference - hit, counts.true_negative + counts.false_positive)
        extra = {"distance": np.linspace(0, 1, len(last.ids)).tolist(), "same_patient": [True] * len(last.ids)}
        cell = replace(one.cell, label="copy-nearest", method="copy-nearest")
        copied.append(replace(one, cell=cell, evaluations=(replace(last, counts=other, extra=extra),)))
    answer = gap.section([*main, *copied], SMALL).words[0]
    assert said in answer
    assert f"with nothing learned, scores {float(copy_dice == 60):.3f} by slice" in answer
    assert "nothing learned" not in gap.section([*main, *copied[:9]], SMALL).words[0]


def test_the_claim_of_empty_masks_is_measured_where_table_1_ends(results):
    grid = next(one for one in results if one.cell.key == "small/grid/model-2-b32/slice-seed0")
    clean = [replace(kept, counts=replace(kept.counts, false_positive=np.where(kept.counts.reference > 0, 1, 0)))
             if kept.epoch == SMALL.epochs(1000) else kept for kept in grid.evaluations]  # fmt: skip
    section = lesion_free.section([*results[7:], replace(grid, evaluations=tuple(clean))], SMALL)
    first = table(section, "lesion-free").rows[0]
    assert first[:6] == ("grid", "Model 2, batch 32", "by slice", "test side", 1000, 20)
    assert first[8] == 0
    assert section.words[0].startswith("Model 2, batch 32, 1,000 epochs (here 20), grid, by slice")
    assert "all masks of lesion-free test slices are empty: 0 of " in section.words[0]
    assert " at 1,400" in section.words[0]
    assert set(column(table(section, "lesion-free-epochs"), "epochs, thesis")) == {200, 400, 600, 800, 1200, 1400}


def test_lesion_free_slices_of_incomplete_folds_are_said_to_be(results):
    section = lesion_free.section(of_folds(results, "model-2-b32", 3), SMALL)
    assert section.words[0].endswith("Incomplete: Model 2, batch 32, 3 of 10 cells done.")
    assert "not measured at this scale" in section.words[0]
