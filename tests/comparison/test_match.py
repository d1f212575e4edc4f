"""Which lesions of two studies are one, on a head that has moved by a known motion."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from alignments import move_places
from bleedmap.comparison.examination import Examination
from bleedmap.comparison.match import Group, match_lesions
from bleedmap.registration import Alignment
from bleedmap.volume import Volume

from .conftest import SHIFT, TURN

Balls = list[tuple[tuple[float, float, float], float]]


def true_motion() -> Alignment:
    matrix = np.eye(4)
    matrix[:3, 3] = move_places(np.zeros(3), TURN, SHIFT)
    matrix[:3, :3] = (move_places(np.eye(3), TURN, SHIFT) - matrix[:3, 3]).T
    return Alignment(matrix, 1.0, 1.0, 1.0, 100.0)


@pytest.fixture
def compare_balls(
    examined: Examination, with_mask: Callable[..., Examination], moved: Callable[[Examination], Examination]
) -> Callable[..., tuple[Group, ...]]:
    """Groups of two studies in which balls are marked: (place in LPS mm, radius in mm)."""
    index = np.stack(np.meshgrid(*map(np.arange, examined.volume.hu.shape), indexing="ij"), axis=-1)
    places = examined.volume.grid.to_mm(index)

    def mask(balls: Balls) -> np.ndarray:
        marked = np.zeros(places.shape[:3], np.bool_)
        for at, radius in balls:
            marked |= np.linalg.norm(places - at, axis=-1) < radius
        return marked

    def end_below(study: Examination, cut: int) -> Examination:
        """The study without that many of its highest slices."""
        grid = replace(study.volume.grid, origins_mm=study.volume.grid.origins_mm[:-cut])
        volume = Volume(study.volume.hu[:-cut], grid)
        return with_mask(replace(study, volume=volume), study.mask.array[:-cut])

    def compare(first: Balls, second: Balls, cut: int = 0, cut_first: int = 0) -> tuple[Group, ...]:
        one, other = (with_mask(examined, mask(balls)) for balls in (first, second))
        other = end_below(other, cut) if cut else other
        one = end_below(one, cut_first) if cut_first else one
        return match_lesions(one, moved(other), true_motion())

    return compare


LEFT, RIGHT, HIGH = (30.0, 0.0, 0.0), (-30.0, 0.0, 0.0), (0.0, 0.0, 55.0)
NEAR = (30.0, 22.0, 0.0)


def test_a_lesion_that_grew_is_matched_and_another_is_new(compare_balls) -> None:
    big, small = compare_balls([(LEFT, 10)], [(LEFT, 14), (RIGHT, 8)])
    assert (big.kind, big.first, big.second) == ("matched", (1,), (1,))
    assert big.growth_ml == pytest.approx(big.second_ml - big.first_ml)
    assert big.growth_percent == pytest.approx(100 * (14**3 / 10**3 - 1), rel=0.15)
    assert (small.kind, small.first, small.second) == ("new", (), (2,))
    assert small.growth_ml == small.second_ml
    assert small.growth_percent is None


def test_a_lesion_that_is_gone_has_shrunk_by_all(compare_balls) -> None:
    (gone,) = compare_balls([(LEFT, 10)], [])
    assert (gone.kind, gone.growth_ml, gone.growth_percent) == ("gone", -gone.first_ml, -100)


def test_two_that_grow_together_are_merged_and_one_that_parts_is_split(compare_balls) -> None:
    apart: Balls = [(LEFT, 9), (NEAR, 9)]
    joined: Balls = [*apart, ((30.0, 11.0, 0.0), 8)]
    (merged,) = compare_balls(apart, joined)
    assert (merged.kind, merged.first, merged.second) == ("merged", (1, 2), (1,))
    (split,) = compare_balls(joined, apart)
    assert (split.kind, split.first, split.second) == ("split", (1,), (1, 2))


def test_a_rim_that_only_touches_is_no_match(compare_balls) -> None:
    kinds = [one.kind for one in compare_balls([(LEFT, 12)], [(LEFT, 12), ((30.0, 23.0, 0.0), 9)])]
    assert kinds == ["matched", "new"]


def test_what_the_other_study_does_not_show_is_neither_gone_nor_new(compare_balls) -> None:
    (outside,) = compare_balls([(HIGH, 9)], [], cut=8)
    assert (outside.kind, outside.growth_ml, outside.compared) == ("outside", None, False)
    (cut,) = compare_balls([((0.0, 0.0, 28.0), 12)], [((0.0, 0.0, 28.0), 12)], cut=8)
    assert (cut.kind, cut.growth_ml) == ("cut", None)


def test_what_is_in_the_second_study_alone_is_new_as_far_as_the_first_one_reaches(compare_balls) -> None:
    """The first study ends 27 mm above the middle."""
    for height_mm, kind in ((12.0, "new"), (55.0, "outside")):
        (group,) = compare_balls([], [((20.0, 0.0, height_mm), 8)], cut_first=8)
        assert (group.kind, group.first, group.second) == (kind, (), (1,))


def test_nothing_marked_gives_no_group(compare_balls) -> None:
    assert compare_balls([], []) == ()
