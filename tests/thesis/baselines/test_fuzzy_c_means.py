"""Fuzzy c-means outlines what is bright inside the skull."""

import numpy as np

from baseline_heads import heads, run
from bleedmap.datasets.ct_ich import open_ct_ich
from bleedmap.metrics.overlap import count, dice
from bleedmap.metrics.roc import roc_auc
from bleedmap.preprocess import Preprocessing
from bleedmap.training.samples import load_side
from bleedmap_thesis.baselines.fuzzy_c_means import intracranial
from tiny_training import make_side


def test_fuzzy_c_means_outlines_the_bright_disc_inside_the_skull():
    side = heads(10, 3, size=128)
    found = run("fuzzy-c-means", side, side)
    counts = count(side.masks[:, 0].numpy() > 0, found.mask)
    assert (dice(counts, empty=1.0)[side.has_lesion] > 0.8).all()
    assert not found.mask[~side.has_lesion].any()
    assert roc_auc(side.has_lesion, found.score) == 1


def test_fuzzy_c_means_marks_nothing_without_a_closed_skull():
    side = make_side(6, 0)  # discs on grey, no bone
    found = run("fuzzy-c-means", side, side)
    assert not found.mask.any()
    assert not found.score.any()


def test_the_brain_is_inside_the_skull_even_where_the_skull_has_a_gap():
    unit = heads(1, 5, size=128).inputs[0, 0].numpy()
    whole = intracranial(unit)
    assert whole[64, 64]
    assert (unit[whole] < 0.7).all()
    unit[62:66, :64] = np.where(unit[62:66, :64] == 1, 0.45, unit[62:66, :64])  # a suture
    assert (intracranial(unit) ^ whole).mean() < 0.02


def test_fuzzy_c_means_on_real_slices(ct_ich_root):
    data = open_ct_ich(ct_ich_root)
    names = [record.id for record in data.slices if record.patient == 88 and record.has_lesion]
    side = load_side(data, names, Preprocessing(size=128))
    counts = count(side.masks[:, 0].numpy() > 0, run("fuzzy-c-means", side, side).mask)
    assert dice(counts.pooled(), empty=1.0)[0] > 0.6  # a dense bleed inside the brain: the easy case
