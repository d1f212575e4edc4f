"""What every baseline keeps to."""

import pytest

from baseline_heads import heads, run
from bleedmap.errors import SplitError
from bleedmap_thesis.baselines import BASELINES
from bleedmap_thesis.plan import BASELINES as PLANNED


def test_there_is_one_for_every_planned_name():
    assert tuple(BASELINES) == PLANNED


@pytest.mark.parametrize("name", ["sift", "cnn-13"])
def test_one_sided_training_is_refused(name):
    side = heads(4, 0)
    bleeding = side.select([one for one, bleeds in zip(side.ids, side.has_lesion, strict=True) if bleeds])
    with pytest.raises(SplitError, match="4 of 4"):
        run(name, bleeding, side)
