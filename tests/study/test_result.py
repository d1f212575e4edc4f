"""Findings of a volume and of pictures, and their JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bleedmap import RESEARCH_ONLY
from bleedmap.geometry import SliceGrid, axial_affine
from bleedmap.inference.backends import BackendRecord
from bleedmap.inference.weights import WeightsFile
from bleedmap.study.result import summarise_pictures, summarise_volume, to_json
from bleedmap.volume import Mask, ProbabilityMap, Volume

RAN = BackendRecord("openvino", "cpu", "fp32")


def blocks() -> tuple[ProbabilityMap, Mask, Volume]:
    probability = np.zeros((4, 10, 12), np.float32)
    probability[1:3, 2:4, 3:6] = 0.9  # 12 voxels on two slices
    probability[3, 8, 8] = 0.6
    grid = SliceGrid.from_affine(axial_affine((5.0, 0.5, 0.4), (4, 10, 12)), 4)
    return ProbabilityMap(probability, grid), Mask(probability >= 0.5, grid), Volume(60 + 10 * probability, grid)


def test_a_volumes_findings() -> None:
    findings = summarise_volume(*blocks())
    assert findings.found
    assert (findings.lesion_pixels, findings.slices_with_lesion) == (13, (1, 2, 3))
    assert findings.volume_ml == pytest.approx(13 * 5 * 0.5 * 0.4 / 1000)
    first, second = findings.lesion_rows()
    assert (first["pixels"], first["first_slice"], first["last_slice"]) == (12, 2, 3)
    assert first["volume_ml"] == pytest.approx(0.012)
    assert first["extent_mm"] == pytest.approx([10, 1, 1.2])
    assert first["mean_hu"] == pytest.approx(69)
    assert first["centroid_lps_mm"] == pytest.approx([(4 - 5.5) * 0.4, (2.5 - 4.5) * 0.5, 0.0])
    assert second["highest_probability"] == pytest.approx(0.6)


def test_pictures_findings_have_no_volume_and_join_nothing() -> None:
    probability, mask, _ = blocks()
    findings = summarise_pictures(zip(probability.array, mask.array, strict=True))
    assert findings.volume_ml is None
    assert [(one.voxels, one.first[0], one.last[0]) for one in findings.lesions] == [
        (6, 1, 1),
        (6, 2, 2),
        (1, 3, 3),
    ]
    assert findings.lesion_rows()[0]["centroid_row"] == 2.5


def test_the_json_says_what_made_it(tiny: WeightsFile) -> None:
    content = to_json(summarise_volume(*blocks()), tiny, RAN, 0.5, ["a note"])
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["research_only"] == RESEARCH_ONLY
    assert content["weights"]["sha256"] == tiny.sha256
    assert content["backend"] == {"name": "openvino", "device": "cpu", "precision": "fp32"}
    assert content["slices_with_lesion"] == [2, 3, 4]
    assert content["volume_note"] is None


def test_nothing_found_is_a_result(tiny: WeightsFile) -> None:
    probability, _, volume = blocks()
    empty = summarise_volume(
        replace(probability, array=probability.array * 0), Mask(probability.array > 1, probability.grid), volume
    )
    content = to_json(empty, tiny, RAN, 0.5, [])
    assert (content["hemorrhage_found"], content["volume_ml"], content["lesions"]) == (False, 0.0, [])
    none = summarise_pictures([(np.zeros((4, 4), np.float32), np.zeros((4, 4), bool))])
    assert to_json(none, tiny, RAN, 0.5, [])["volume_note"] == "pictures carry no pixel spacing"
