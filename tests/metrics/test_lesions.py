"""Lesion by lesion: worked by hand, and against masks compared one by one."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from bleedmap.metrics.lesions import FOUND_IOU, Pieces, compare
from bleedmap.postprocess import label_lesions

masks = hnp.arrays(bool, (3, 5, 6))


class TestLesions:
    def test_worked_by_hand(self):
        """Lesion A of 10 marked in 4 of 6 (IoU 4/12), B of 20 touched in 1 of 9 (1/28), C missed; one region alone."""
        reference, marked = np.zeros((2, 1, 60), np.int32)
        reference[0, :10], reference[0, 20:40], reference[0, 50:53] = 1, 2, 3
        marked[0, 6:12], marked[0, 39:48], marked[0, 55] = 1, 2, 3
        lesions, regions = compare(reference, marked)
        assert lesions.voxels.tolist() == [10, 20, 3]
        assert lesions.shared.tolist() == [4, 1, 0]
        assert lesions.best_iou == pytest.approx([4 / 12, 1 / 28, 0])
        assert lesions.touched.tolist() == [True, True, False]
        assert lesions.overlapped.tolist() == [True, False, False]
        assert regions.voxels.tolist() == [6, 9, 1]
        assert regions.shared.tolist() == [4, 1, 0]
        assert regions.touched.tolist() == [True, True, False]
        assert regions.overlapped.tolist() == [True, False, False]

    def test_a_region_over_two_lesions_finds_both_and_parts_of_one_find_it_once(self):
        reference, marked = np.zeros((2, 1, 30), np.int32)
        reference[0, :10], reference[0, 12:22] = 1, 2
        marked[0, :22] = 1
        lesions, regions = compare(reference, marked)
        assert lesions.overlapped.all()
        assert len(regions) == 1
        assert regions.best_iou[0] == pytest.approx(10 / 22)
        parts, whole = compare(marked, reference)
        assert len(parts) == 1
        assert parts.overlapped.all()
        assert whole.overlapped.all()

    def test_the_threshold_is_reached_at_a_tenth(self):
        reference, marked = np.zeros((2, 20), np.int32)
        reference[:10], marked[9] = 1, 1
        assert compare(reference, marked)[0].best_iou[0] == FOUND_IOU
        assert compare(reference, marked)[0].overlapped.all()

    def test_nothing_against_nothing_and_false_alarms_alone(self):
        nothing, marked = np.zeros((2, 2, 4, 4), np.int32)
        marked[0, 0, 0] = 1
        assert [len(pieces) for pieces in compare(nothing, nothing)] == [0, 0]
        lesions, regions = compare(nothing, marked)
        assert len(lesions) == 0
        assert not regions.touched.any()
        assert not regions.overlapped.any()

        for shape in ((0, 4, 4), (0,)):
            assert [len(pieces) for pieces in compare(np.zeros(shape, int), np.zeros(shape, int))] == [0, 0]

    def test_pieces_come_back_from_json(self):
        stored = Pieces(np.array([10, 3]), np.array([4, 0]), np.array([0.25, 0.0])).to_dict()
        assert stored == {"voxels": [10, 3], "shared": [4, 0], "best_iou": [0.25, 0.0]}
        again = Pieces.from_dict(json.loads(json.dumps(stored)) | {"study": "a"})
        assert again.to_dict() == stored
        for empty in (Pieces.from_dict({"voxels": [], "shared": [], "best_iou": one}) for one in ([], [1])):
            assert [one.dtype for one in vars(empty).values()] == [np.int64, np.int64, np.float64]

    def test_pieces_that_touch_at_a_corner_between_slices_are_one_lesion(self):
        mask = np.zeros((2, 3, 3), bool)
        mask[0, 0, 0] = mask[1, 1, 1] = True
        assert compare(label_lesions(mask), label_lesions(mask))[0].voxels.tolist() == [2]

    @given(masks, masks)
    @settings(max_examples=60, deadline=None)
    def test_agrees_with_masks_compared_one_by_one(self, reference, prediction):
        labels, marks = label_lesions(reference), label_lesions(prediction)
        lesions, regions = compare(labels, marks)
        assert lesions.voxels.sum() == reference.sum()
        assert lesions.shared.sum() == regions.shared.sum() == (reference & prediction).sum()
        for number in range(1, len(lesions) + 1):
            one = labels == number
            ious = [(one & (marks == k)).sum() / (one | (marks == k)).sum() for k in range(1, len(regions) + 1)]
            assert lesions.best_iou[number - 1] == pytest.approx(max(ious, default=0))
            assert lesions.touched[number - 1] == (one & prediction).any()
        assert not (lesions.overlapped & ~lesions.touched).any()
        assert not (regions.overlapped & ~regions.touched).any()

    @given(masks, masks)
    @settings(max_examples=30, deadline=None)
    def test_swapping_the_masks_swaps_the_answers(self, reference, prediction):
        one, other = compare(label_lesions(reference), label_lesions(prediction))
        also_other, also_one = compare(label_lesions(prediction), label_lesions(reference))
        for pieces, again in ((one, also_one), (other, also_other)):
            assert np.array_equal(pieces.shared, again.shared)
            assert np.array_equal(pieces.best_iou, again.best_iou)

    def test_shapes_that_differ_are_refused(self):
        with pytest.raises(ValueError, match="differ in shape"):
            compare(np.zeros((1, 2), int), np.zeros((2, 1), int))
