"""The cells of the thesis' experiment: complete, distinct, balanced where they should be."""

from itertools import combinations

import numpy as np
import pytest

from bleedmap.datasets.ct_ich import open_ct_ich
from bleedmap_thesis.plan import BASELINES, FACTORS, FOLDS, SCALES, cells, name_method, split_pair, split_pairs


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_the_grid_passes_through_every_cell_of_table_1(scale):
    grid = [cell for cell in cells(scale, ("grid",)) if cell.kind == "slice"]
    batches = {(cell.config.network, cell.config.batch_size * scale.batch_over) for cell in grid}
    assert batches == {(f"model-{model}", batch) for model in (1, 2) for batch in (16, 32)}
    for cell in grid:
        kept = range(cell.config.keep_every, cell.config.epochs + 1, cell.config.keep_every)
        assert [epoch * scale.epochs_over for epoch in kept] == [200, 400, 600, 800, 1000, 1200, 1400]
    alone = [cell for cell in cells(scale, ("grid",), alone=True) if cell.kind == "slice"]
    assert len(alone) == 4 * 7
    assert all(cell.config.keep_every == cell.config.epochs for cell in alone)


def test_the_full_scale_is_the_thesis_own():
    first = cells(SCALES["full"])[0]
    assert (first.config.network, first.config.batch_size, first.kind, first.seed) == ("model-2", 32, "slice", 0)
    assert (first.config.width, first.config.size, first.config.learning_rate) == (1.0, 256, 1e-4)
    assert (first.config.loss, first.config.frame, first.config.epochs) == ("dice", "whole", 1400)


def test_every_cell_has_a_place_of_its_own():
    for scale in SCALES.values():
        keys = [cell.key for cell in cells(scale, seeds=3)] + [cell.key for cell in cells(scale, ("grid",), alone=True)]
        assert len(set(keys)) >= len(cells(scale, seeds=3)) + 42
        assert {key.split("/")[0] for key in keys} == {scale.name}


def test_folds_meet_every_method_with_both_kinds_of_split():
    folds = cells(SCALES["small"], ("folds",))
    for label in {cell.label for cell in folds}:
        assert {(cell.fold, cell.kind) for cell in folds if cell.label == label} == {
            (fold, kind) for fold in range(1, FOLDS + 1) for kind in ("slice", "patient")
        }
    assert {cell.method for cell in folds} == {"u-net", *BASELINES}


def test_factors_are_balanced_and_no_main_effect_hides_behind_an_interaction_of_two():
    design = np.array(
        [
            [1 if FACTORS[name].index(level) else -1 for name, level in cell.levels]
            for cell in cells(SCALES["small"], ("factors",))
        ]
    )
    assert design.shape == (16, 6)
    assert np.array_equal(design.T @ design, 16 * np.eye(6))
    for main, (one, other) in ((m, pair) for m in range(6) for pair in combinations(range(6), 2) if m not in pair):
        assert design[:, main] @ (design[:, one] * design[:, other]) == 0


def test_a_factor_changes_what_it_says():
    for cell in cells(SCALES["full"], ("factors",)):
        level, config = dict(cell.levels), cell.config
        assert config.dropout == float(level["dropout"])
        assert config.network_settings().filters[0] == (64 if level["filters"] == "all" else 32)
        assert config.optimiser == level["optimiser"]
        assert f"{config.kernel}×{config.kernel}" == level["kernel"]
        assert (config.downsample == "stride") == (level["stride"] == "2")
        assert cell.kind == level["split"]


def test_pairs_differ_in_the_split_alone(ct_ich_root):
    data = open_ct_ich(ct_ich_root)
    lesions = {record.id for record in data.slices if record.has_lesion}
    pairs = split_pairs(data, 0, FOLDS)
    for pair in pairs:
        by_slice, by_patient = pair.by_slice, pair.by_patient
        assert len(by_slice.train) == len(by_patient.train)
        assert len(lesions & set(by_slice.train)) == len(lesions & set(by_patient.train))
        assert not set(by_patient.patients("train")) & set(by_patient.patients("test"))
        assert len(set(by_slice.patients("train")) & set(by_slice.patients("test"))) > 20
        by_slice.check_against(data)
        by_patient.check_against(data)
        assert set(pair.rest).isdisjoint({*by_slice.ids, *by_patient.ids, *lesions})
        assert {name.split("/")[0] for name in pair.rest} <= set(by_patient.patients("test"))
    for kind in ("slice", "patient"):
        tested = [name for pair in pairs for name in pair.of(kind).test]
        assert len(tested) == len(set(tested)) == 636
        assert lesions <= set(tested)
    assert set(pairs[0].by_slice.ids) <= {name for pair in pairs for name in pair.by_patient.test}


def test_the_thesis_own_proportions(ct_ich_root):
    pair = split_pair(open_ct_ich(ct_ich_root), 0)
    assert [len(pair.by_slice.side(side)) for side in ("train", "validation", "test")] == [508, 64, 64]
    assert len(set(pair.by_slice.ids)) == 636


def test_names_of_methods_and_what_a_batch_is_at_a_scale():
    assert name_method("model-2-b32-clahe") == "Model 2, batch 32, CLAHE"
    assert name_method("model-1-b16-alone-600") == "Model 1, batch 16, trained alone for 600 epochs"
    assert name_method("run-010101") == "run-010101"
    assert "'batch 32' is 8 slices here" in SCALES["small"].describe()
    assert "batch 32" not in SCALES["full"].describe()
