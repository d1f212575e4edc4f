"""The pictures' slices are a pure function of the records, by the protocol's rules."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bleedmap.evaluation.gallery import ChosenSlice, cases, false_alarms, misses
from bleedmap.evaluation.records import Choices, OutOfFold
from bleedmap.metrics import overlap
from synthetic_records import SIDE, all_patients, blank, study, three_patients


def places(chosen: tuple[ChosenSlice, ...]) -> list[tuple[int, int]]:
    return [(one.study.patient, one.number) for one in chosen]


def test_by_hand() -> None:
    records = three_patients()
    assert places(misses(records)) == [(1, 2), (1, 1)]  # 20 pixels missed, then 10; patient 70 is found whole
    assert places(false_alarms(records)) == [(2, 2)]  # on patient 1 the false pixels lie on lesion slices
    found = cases(records)
    assert [(one.percentile, one.slices[0].study.patient) for one in found] == [(5, 1), (55, 70)]
    assert [one.dice for one in found] == pytest.approx([1 / 3, 1])
    assert places(found[0].slices) == [(1, 1), (1, 2)]


def random_marks(seed: int, patients: int) -> OutOfFold:
    random = np.random.default_rng(seed)
    studies = []
    for patient in range(patients):
        bleeds = (random.random((4, 1, 1)) < 0.6) & (patient % 3 > 0)
        reference = bleeds & (random.random((4, SIDE, SIDE)) < 0.3)
        marked = random.random(reference.shape) < random.choice([0, 0.05, 0.3], (4, 1, 1))
        studies.append(study(patient, reference, marked, random.random(4).tolist(), 0.5))
    return OutOfFold("random", "", (Choices(1, 1, 0.5, 0.5, 0.5),), tuple(studies))


@given(st.integers(0, 2**31), st.integers(1, 14))
@settings(max_examples=25, deadline=None)
def test_the_worst_are_taken_two_a_patient_in_any_order_of_the_file(seed: int, patients: int) -> None:
    records = random_marks(seed, patients)
    for rule, name, of_lesion in ((misses, "false_negative", True), (false_alarms, "false_positive", False)):
        chosen = rule(records)
        assert places(chosen) == places(rule(replace(records, studies=records.studies[::-1])))
        pixels = [int(getattr(one.study.counts, name)[one.index]) for one in chosen]
        assert pixels == sorted(pixels, reverse=True)
        assert all(pixels)
        assert len(chosen) <= 12
        taken = Counter(one.study.patient for one in chosen)
        assert max(taken.values(), default=0) <= 2
        least = pixels[-1] if len(chosen) == 12 else 0
        for one in records.studies:
            right = (one.counts.reference > 0) == of_lesion
            for index, count in enumerate((getattr(one.counts, name) * right).tolist()):
                left_out = (one.patient, one.numbers[index]) not in places(chosen)
                assert not (left_out and count > least and taken[one.patient] < 2)


def test_ten_cases_stand_at_their_percentiles() -> None:
    records = all_patients("method", 0.6)
    found = cases(records)
    assert [one.percentile for one in found] == list(range(5, 100, 10))
    every = np.sort([
        overlap.dice(one.counts.pooled(), empty=0)[0] for one in records.studies if one.counts.reference.any()
    ])  # fmt: skip
    for one in found:
        assert one.dice == np.percentile(every, one.percentile, method="inverted_cdf")
    assert len({one.slices[0].study.patient for one in found}) == 10


def test_a_case_shows_the_largest_slice_of_each_quarter() -> None:
    reference = np.zeros((9, SIDE, SIDE), bool)
    for index, size in enumerate((0, 1, 5, 2, 2, 7, 3, 4, 6)):
        reference[index, 0, :size] = True
    one = study(1, reference, reference, [0.5] * 9, 0.5)
    (case,) = cases(OutOfFold("x", "", (Choices(1, 1, 0.5, 0.5, 0.5),), (one,)))
    assert [chosen.number for chosen in case.slices] == [3, 4, 6, 9]  # quarters 2-3, 4-5, 6-7, 8-9


def test_nothing_to_show_without_faults_and_lesions() -> None:
    records = OutOfFold("x", "", (Choices(1, 1, 0.5, 0.5, 0.5),), (study(1, blank(), blank(), [0, 0], 0),))
    assert (misses(records), false_alarms(records), cases(records)) == ((), (), ())
