"""The intervals that each convention allows, held against scores counted on random slices."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bleedmap.cli.main import main
from bleedmap.metrics import overlap
from bleedmap_thesis.analyses.conventions import CONVENTIONS, TABLE_1, TableRow, give_example, judge_conventions

BY_KEY = {one.key: one for one in CONVENTIONS}


def slices(seed: int, quality: float, false_alarms: float) -> overlap.Counts:
    """Counts of 20 slices, half without a lesion; lesions under 5 % of the slice, as in CT-ICH."""
    random = np.random.default_rng(seed)
    lesion = np.where(np.arange(20) % 2, random.integers(20, 400, 20), 0)
    hit = random.binomial(lesion, np.clip(random.normal(quality, 0.2, 20), 0, 1))
    alarm = np.where(lesion > 0, random.binomial(lesion, 0.2), (random.random(20) < false_alarms) * 15)
    return overlap.Counts(hit, alarm, lesion - hit, 10_000 - lesion - alarm)


def scored(key: str, counts: overlap.Counts) -> tuple[float, float]:
    """Dice and IoU of the slices by the convention's words, from the metrics themselves."""
    lesion = counts.rows(counts.reference > 0)
    batches = counts.grouped(np.arange(20) // 4)
    kinds = {"pooled": counts.pooled(), "lesion slices": lesion, "batches": batches}
    measured = kinds.get(key.split(",", maxsplit=1)[0], counts)
    empty = 0.0 if key.startswith("empty 0") else 1.0
    iou_empty = 0.0 if key.startswith(("empty 0", "Dice 1")) else 1.0
    ious = overlap.iou(measured, empty=iou_empty)
    if key.endswith("mean"):
        ious = (ious + overlap.iou(measured.background(), empty=1.0)) / 2
    return float(overlap.dice(measured, empty=empty).mean()), float(ious.mean())


@pytest.mark.parametrize("key", BY_KEY)
@given(seed=st.integers(0, 10_000), quality=st.floats(0.1, 0.95))
@settings(max_examples=60, deadline=None)
def test_scores_counted_by_a_convention_lie_in_its_interval(key, seed, quality):
    false_alarms = 0.5 if key.startswith(("empty 1 or 0", "batches")) else 0.0
    counts = slices(seed, quality, false_alarms)
    if not counts.predicted.any():
        return
    dice, iou = scored(key, counts)
    if key == "empty 0, lesion":  # lesion-free slices score 0 whatever is marked on them
        assert dice <= 0.5
    accuracy = float(overlap.accuracy(counts.pooled())[0])
    low, high = BY_KEY[key].interval(dice, accuracy)
    assert low - 1e-3 <= iou <= high + 1e-3


def test_a_false_pair_is_forbidden_everywhere():
    """IoU cannot pass Dice on a lesion, and the mean with the background cannot be that low."""
    assert not any(one.allows(TableRow(1, 1, 1, 0.30, 0.89, 0.9991)) for one in CONVENTIONS)


def test_means_of_the_lesion_iou_over_lesion_slices_or_batches_alone_allow_all_of_table_1():
    full = {one.key for one in CONVENTIONS if all(one.allows(row) for row in TABLE_1)}
    assert full == {"lesion slices, lesion", "batches, lesion"}
    assert not any(BY_KEY["pooled, mean"].allows(row) for row in TABLE_1)


def test_the_formula_of_the_text_fits_few_of_its_own_pairs():
    """Six averagings of the mean with the background: five fit nothing, one 3 of 20."""
    counts = sorted(sum(map(one.allows, TABLE_1)) for one in CONVENTIONS if one.key.endswith(", mean"))
    assert counts == [0, 0, 0, 0, 0, 3]


def test_judgements_name_what_they_forbid():
    found = judge_conventions()
    assert [one["convention"] for one in found] == [one.text for one in CONVENTIONS]
    for one in found:
        assert one["allows"] + len(one["forbids"]) == one["cells"] == len(TABLE_1)
        assert bool(give_example(one)) == (one["allows"] < len(TABLE_1))


def test_table_1_is_that_of_the_thesis():
    best = max(TABLE_1, key=lambda row: row.dice)
    assert (best.model, best.epochs, best.batch, best.mean_iou, best.accuracy) == (2, 1000, 32, 0.85, 0.9991)
    assert len(TABLE_1) == 20


def test_the_verb_says_it(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", "conventions", "--json"])
    assert ended.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["allows"] for one in found].count(20) == 2
    with pytest.raises(SystemExit):
        main(["reproduce", "conventions"])
    assert "20 of 20" in capsys.readouterr().out
