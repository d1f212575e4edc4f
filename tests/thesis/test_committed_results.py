"""The results that come with the repository are of the cells as they are planned, on the splits as they are made."""

from pathlib import Path

import pytest

from bleedmap.datasets.ct_ich import open_ct_ich
from bleedmap_thesis.plan import FOLDS, SCALES, cells, split_pair, split_pairs
from bleedmap_thesis.record import CellResult
from bleedmap_thesis.runner import read_results, result_file

FOLDER = Path(__file__).parents[2] / "thesis"
SEEDS = 10


@pytest.fixture(scope="module")
def results() -> list[CellResult]:
    found = read_results(FOLDER)
    assert found, "results come with the repository"
    return found


def test_every_result_is_of_a_cell_as_planned(results):
    planned = {
        cell.key: cell
        for scale in SCALES.values()
        for alone in (False, True)
        for cell in cells(scale, seeds=SEEDS, alone=alone)
    }
    for result in results:
        assert result.cell == planned[result.cell.key]
        assert result_file(FOLDER, result.cell).exists()
        assert result.cell.scale != "trial", "a trial's figures say nothing"


def test_every_result_was_counted_on_its_split(results, ct_ich_root):
    data = open_ct_ich(ct_ich_root)
    made = {}
    for result in results:
        cell = result.cell
        if (place := (cell.seed, cell.fold is None)) not in made:
            made[place] = [split_pair(data, cell.seed)] if cell.fold is None else split_pairs(data, cell.seed, FOLDS)
        pair = made[place][0 if cell.fold is None else cell.fold - 1]
        split = pair.of(cell.kind)
        assert result.split["data_sha256"] == split.data_sha256
        assert all(one.ids == split.test for one in result.evaluations)
        assert result.rest is None or result.rest.ids == pair.rest


def test_every_result_counts_all_pixels(results):
    for result in results:
        pixels = SCALES[result.cell.scale].size ** 2
        for one in (*result.evaluations, *([result.rest] if result.rest else [])):
            if one.counts is not None:
                assert (one.counts.reference + one.counts.false_positive + one.counts.true_negative == pixels).all()
