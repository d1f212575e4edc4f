"""A head with two bleeds, segmented once by the tiny network, and the same head after it has moved and bled on."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from alignments import move
from bleedmap.comparison.compare import open_source
from bleedmap.comparison.examination import Examination, examine
from bleedmap.phantom.head import Bleed, PhantomSettings, make_phantom
from bleedmap.study.result import summarise_volume
from bleedmap.study.segment import Segmenter
from bleedmap.volume import Mask, ProbabilityMap, Volume

TURN, SHIFT = (9.0, -6.0, 8.0), (12.0, -7.0, 20.0)
Change = Callable[..., Examination]


@pytest.fixture(scope="session")
def head() -> Volume:
    bleeds = (Bleed("IPH", 30.0, "left"), Bleed("EDH", 25.0, "right"))
    return make_phantom(PhantomSettings(seed=1, spacing_mm=(5.0, 1.8, 1.8), shape=(28, 128, 128), bleeds=bleeds)).volume


@pytest.fixture(scope="session")
def examined(head: Volume, spots: str) -> Examination:
    """Both bleeds are marked, each one lesion."""
    found = examine(open_source(head), lambda: Segmenter.load(spots))
    assert len(found.findings.lesions) >= 2
    return found


@pytest.fixture(scope="session")
def with_mask() -> Callable[[Examination, np.ndarray], Examination]:
    """The same study with another mask."""

    def change(one: Examination, mask: np.ndarray) -> Examination:
        probability = mask.astype(np.float32)
        grid = one.volume.grid
        return replace(
            one, mask=Mask(mask, grid), probability=ProbabilityMap(probability, grid),
            findings=summarise_volume(ProbabilityMap(probability, grid), Mask(mask, grid), one.volume),
        )  # fmt: skip

    return change


@pytest.fixture(scope="session")
def moved() -> Callable[[Examination], Examination]:
    """The same study, after the head has moved by `TURN` and `SHIFT`."""

    def change(one: Examination) -> Examination:
        volume = move(one.volume, TURN, SHIFT)
        return replace(
            one, volume=volume, mask=Mask(one.mask.array, volume.grid),
            probability=ProbabilityMap(one.probability.array, volume.grid),
            findings=replace(one.findings, grid=volume.grid),
        )  # fmt: skip

    return change
