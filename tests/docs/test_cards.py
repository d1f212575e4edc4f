"""The cards of model and data say what the records and the data say."""

import re
from pathlib import Path

import pytest

from bleedmap.datasets.ct_ich import open_ct_ich
from bleedmap.datasets.ct_ich_summary import summarise
from bleedmap.evaluation.measure_table import measures
from bleedmap.evaluation.records import committed_records, read_out_of_fold
from bleedmap.evaluation.tables import Tables

ROOT = Path(__file__).parents[2]
MODEL_CARD, MODEL, DATA = "src/bleedmap/weights/ct-ich-lite.card.md", "docs/model.md", "docs/data.md"
# In the order of the tables; the docs' own table of all measures is checked against the records by `make check`.
ON_CARD = (
    "authors_dice", "volume_dice", "study_auc", "slice_auc", "bleed_free_patients_slices_marked", "slice_ece",
    "study_sensitivity", "study_specificity", "slice_sensitivity", "slice_specificity", "lesion_sensitivity_touched",
    "volume_interval_coverage",
)  # fmt: skip
IN_WORDS = (
    "study_sensitivity", "study_specificity", "study_auc", "slice_auc", "volume_dice", "authors_dice",
    "lesion_sensitivity_touched_large", "lesion_sensitivity_touched_small", "bleed_free_patients_slices_marked",
    "bleed_free_patients_marked",
)  # fmt: skip


def rows(page, head):
    """The cells of the table whose first column has this head."""
    _, _, table = (ROOT / page).read_text("utf-8").partition(f"\n| {head} |")
    lines = table.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture(scope="module")
def committed():
    """Measure -> the first method's cell in docs/cross-validation.md, 'value (low to high)', and its cases."""
    page = (ROOT / "docs/cross-validation.md").read_text("utf-8").partition("\n## All measures\n")[2]
    found = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) > 6:
            found[cells[0], cells[1], cells[-1]] = cells[2], cells[-3]
    return {one.key: found[one.title, one.over, one.convention] for one in measures()}


def test_the_models_card_holds_the_records_figures(committed):
    table = rows(MODEL_CARD, "measure")
    assert len(table) == len(ON_CARD)
    for key, (_, value, interval, over, *_) in zip(ON_CARD, table, strict=True):
        assert (f"{value} ({interval})", over.split()[0]) == committed[key]


def test_the_page_on_the_model_holds_the_same_in_words(committed):
    table = rows(MODEL, "in plain words")
    assert len(table) == len(IN_WORDS)
    for key, (_, figure, interval) in zip(IN_WORDS, table, strict=True):
        wanted = [float(one) for one in re.findall(r"\d+\.\d+", committed[key][0])]
        percent = 100 if "%" in figure else 1
        for said, number in zip(
            re.findall(r"[\d.]+", figure)[:1] + re.findall(r"[\d.]+", interval), wanted, strict=True
        ):
            digits = len(said.partition(".")[2])
            assert abs(float(said) - percent * number) <= 0.5 * 10**-digits + 0.051 * percent / 100, (key, said, number)


def test_both_pages_count_verdicts_as_the_records_do():
    studies = Tables.of(read_out_of_fold(committed_records()[0])).studies
    told = ~studies.abstained
    bleeding, free = told & studies.bleeds, told & ~studies.bleeds
    missed, called = (bleeding & ~studies.marked).sum(), (free & studies.marked).sum()
    for page in (MODEL, MODEL_CARD):
        text = " ".join((ROOT / page).read_text("utf-8").split())
        found = re.search(
            r"\((\d+) of (?:the )?82 studies\).*?(\w+) of (\d+) bleeding .*?(\w+) of (\d+) bleed-free", text
        )
        assert found is not None, page
        numbers = [{"one": 1, "four": 4}.get(one, one) for one in found.groups()]
        assert [int(one) for one in numbers] == [told.sum(), missed, bleeding.sum(), called, free.sum()]


def test_the_datas_card_counts_what_the_data_holds(ct_ich_root):
    summary = summarise(open_ct_ich(ct_ich_root))
    counts = {name: count for name, count, _ in rows(DATA, "of the data set")}
    assert counts == {
        "patients": str(summary.patients), "with a hemorrhage": str(summary.lesion_patients),
        "with a fracture": str(summary.fracture_patients), "slices": f"{summary.slices:,}",
        "with a bone picture": f"{summary.bone_slices:,}", "with a lesion": str(summary.lesion_slices),
    }  # fmt: skip
    types = [(one.name, str(one.slices), str(one.patients)) for one in summary.types]
    assert [tuple(row) for row in rows(DATA, "type")] == types


def test_the_datas_card_counts_lesions_by_true_size():
    lesions = Tables.of(read_out_of_fold(committed_records()[0])).lesions
    small, large = (lesions.ml < 1).sum(), (lesions.ml >= 10).sum()
    counts = [int(count) for _, count in rows(DATA, "lesions of 10 voxels or more")]
    assert counts == [small, len(lesions.ml) - small - large, large]
