"""What every analysis keeps to: whole tables, scales apart, no labels in print, incomplete folds named."""

import json

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from analysis_tables import SMALL, of_folds
from bleedmap_thesis.analyses import (
    comparison,
    factors,
    gap,
    grid,
    lesion_free,
    trained_conventions,
)
from bleedmap_thesis.plan import SCALES

SECTIONS = (gap, factors, grid, trained_conventions, lesion_free, comparison)
# Columns that one seed leaves without a number.
UNKNOWN = {"anova-assumptions": {"Shapiro–Wilk p", "Levene p", "ε"}}


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
    made = 0
    for few in (results[:1], results[:9], results[::3], [one for one in results if one.cell.kind == "slice"]):
        section = module.section(few, SMALL)
        if section is None:  # none of these cells is among what it compares
            continue
        assert section.words == (module.CONVENTION,)
        assert section.tables
        assert all(len(row) == len(one.columns) for one in section.tables for row in one.rows)
        for picture in section.pictures:
            plt.close(picture.draw())
        made += any(one.rows for one in section.tables)
    assert made


def test_no_label_is_printed(results):
    keys = {one.cell.label for one in results if one.cell.part != "factors"}
    for module in SECTIONS:
        section = module.section(results, SMALL)
        printed = [*section.words, *(value for one in section.tables for row in one.rows for value in row)]
        printed += [text for one in section.tables for text in (one.title, one.note)]
        assert not keys & set(printed), module
        assert not any("-b32" in text or "-b16" in text for text in printed if isinstance(text, str)), module
        assert not {"low", "high"} & {name for one in section.tables for name in one.columns}, module


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
