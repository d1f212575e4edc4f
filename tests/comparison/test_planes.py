"""Both studies on common planes: each on its own side, each plane with the slice that lies there."""

from dataclasses import replace

import numpy as np

from bleedmap.comparison.compare import compare_examinations
from bleedmap.comparison.examination import Examination, Identity
from bleedmap.comparison.planes import lay_out


def test_each_study_is_shown_on_its_own_side(examined: Examination, with_mask) -> None:
    first = replace(examined, identity=Identity("first"))
    empty = replace(with_mask(examined, np.zeros_like(examined.mask.array)), identity=Identity("second"))
    marked = np.flatnonzero(examined.mask.array.any(axis=(1, 2))).tolist()
    for one, other, bleeds, clean in ((first, empty, "first", "second"), (empty, first, "second", "first")):
        planes = lay_out(compare_examinations(one, other)).planes
        shown = [half.slice for half in (getattr(plane, bleeds) for plane in planes) if half.lesions]
        assert shown == marked
        assert not any(getattr(plane, clean).lesions or getattr(plane, clean).probability.any() for plane in planes)
