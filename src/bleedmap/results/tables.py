"""A study's results for programs: the lesion table as CSV, and everything as JSON."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bleedmap.geometry import SliceGrid
from bleedmap.page.writer import write_csv
from bleedmap.postprocess import Lesion
from bleedmap.study.gate.check import Check
from bleedmap.study.result import Result, to_json
from bleedmap.study.words import verdict

FORMAT = "bleedmap study 1"  # of `summary`, described in study.schema.json
# Column of the lesions' table -> unit and meaning.
COLUMNS = {
    "lesion": ("", "number of the lesion in its study, the largest is 1"),
    "volume_ml": ("mL", "each slice counts with what it stands for"),
    "side": ("", "left, right, both or midline of the head; empty where that is not known"),
    "longest_axial_diameter_mm": ("mm", "largest distance between two corners of its pixels within one axial slice"),
    "perpendicular_diameter_mm": (
        "mm",
        "on that slice the longest line at right angles to it, between two points of it",
    ),
    "height_mm": ("mm", "from its lowest axial slice to its highest"),
    "abc2_ml": ("mL", "A × B × C / 2 (Kothari 1996): for parenchymal bleeds"),
    "abc2_a_mm": ("mm", "A: longest diameter on the axial slice where its area is largest"),
    "abc2_b_mm": ("mm", "B: at right angles to A on that slice"),
    "abc2_c_mm": ("mm", "C: its slices' thicknesses; half, or not at all, where the area is far from the largest"),
    "skull_distance_mm": ("mm", "smallest distance to the inner table of the skull; empty where none was found"),
    "extent_slices_mm": ("mm", "extent of its box across the slices"),
    "extent_rows_mm": ("mm", "extent of its box from the first row to the last"),
    "extent_columns_mm": ("mm", "extent of its box from the first column to the last"),
    "centroid_l_mm": ("mm", "its centre, towards the patient's left"),
    "centroid_p_mm": ("mm", "its centre, towards the patient's back"),
    "centroid_s_mm": ("mm", "its centre, towards the patient's head"),
    "mean_hu": ("HU", "mean density of its voxels"),
    "first_slice": ("", "its lowest slice, counted from the feet, from 1"),
    "last_slice": ("", "its highest slice"),
    "slice_count": ("", "number of slices from its lowest to its highest"),
    "pixels": ("", "number of its pixels on all slices"),
    "highest_probability": ("0 to 1", "highest probability of a pixel"),
    "mean_probability": ("0 to 1", "mean probability of its pixels"),
}
_SPREAD = [
    name for name in COLUMNS if name.startswith(("abc2_", "extent_", "centroid_")) and name != "abc2_ml"
]  # what one list of the JSON holds


def lesion_rows(result: Result) -> list[dict[str, Any]]:
    """The lesions as JSON can hold them, largest first, none for a negative study; slices count from 1, feet to head.

    `findings.lesion_rows` with `slice_count` and the clinical measures of `postprocess.Measures`.
    """
    return [
        row | {"slice_count": len(lesion.voxels_by_slice)} | _measures(lesion)
        for row, lesion in zip(result.findings.lesion_rows(), result.findings.lesions, strict=True)
    ]


def _measures(lesion: Lesion) -> dict[str, Any]:
    measures = lesion.measures
    assert measures is not None  # a study's pixels have a size
    abc2 = measures.abc2
    return {
        "side": measures.side,
        "longest_axial_diameter_mm": round(measures.longest_mm, 1),
        "perpendicular_diameter_mm": round(measures.perpendicular_mm, 1),
        "height_mm": round(measures.height_mm, 1),
        "abc2_ml": round(abc2.ml, 4),
        "abc2_mm": [round(one, 1) for one in (abc2.a_mm, abc2.b_mm, abc2.c_mm)],
        "skull_distance_mm": None if measures.skull_mm is None else round(measures.skull_mm, 1),
    }


def write_lesions_csv(path: Path, result: Result) -> None:
    """Write a line for each lesion under a line of names (`COLUMNS`); the names alone for a negative study.

    Raises:
        OutputError: the file cannot be written.
    """
    write_csv(path, COLUMNS, lesion_table(result))


def lesion_table(result: Result) -> list[list[Any]]:
    """The lesions as rows of `COLUMNS`, largest first."""
    rows = []
    for row in lesion_rows(result):
        spread = dict(zip(_SPREAD, (*row["abc2_mm"], *row["extent_mm"], *row["centroid_lps_mm"]), strict=True))
        rows.append([(row | spread)[name] for name in COLUMNS])
    return rows


def summary(result: Result, files: Mapping[str, str]) -> dict[str, Any]:
    """The study's JSON, as study.schema.json describes it: what was found, checked and decided.

    It holds no name, number or date of a patient.

    Args:
        files: what each written file is -> its name, relative to the folder of results.
    """
    shared = to_json(
        result.findings, result.weights, result.backend, result.threshold, list(result.notes), result.certainty
    )
    grid = result.mask.grid
    for row, voxel_ml in zip(shared["slices"], grid.voxel_ml, strict=True):
        row["volume_ml"] = round(row["lesion_pixels"] * float(voxel_ml), 4)
    chosen = None if result.dicom is None else [asdict(one) for one in result.dicom.choice]
    return (
        {"format": FORMAT}
        | shared
        | {
            "name": result.name,
            "source": result.source,
            "verdict": verdict(result.findings, result.certainty),
            "lesions": lesion_rows(result),
            "geometry": geometry(result.volume.hu.shape, grid),
            "slabs": None if result.slabs is None else geometry(result.slabs.volume.hu.shape, result.slabs.volume.grid),
            "checks": list_checks(result.checks),
            "acquisition": asdict(result.acquisition) | {"image_type": list(result.acquisition.image_type)},
            "series": chosen,
            "files": dict(files),
        }
    )


def list_checks(checks: Iterable[Check]) -> list[dict[str, Any]]:
    """The input checks for JSON; a refusal among them was overruled."""
    return [asdict(one) | {"overruled": one.verdict == "refusal"} for one in checks]


def geometry(shape: tuple[int, ...], grid: SliceGrid) -> dict[str, Any]:
    """How the slices lie, for JSON: `spacing_mm` across slices (median, along their normal), rows, columns."""
    gaps = np.diff(grid.heights_mm) if len(grid) > 1 else np.array([grid.thickness_mm])
    return {
        "shape": list(shape),
        "spacing_mm": [round(one, 4) for one in grid.spacing_mm],
        "slice_distance_mm": [round(float(gaps.min()), 4), round(float(gaps.max()), 4)],
        "even": grid.is_even,
        "gantry_tilt_deg": round(grid.shear_deg, 2),
        "tilt_to_axial_deg": round(grid.tilt_to_axial_deg, 2),
    }
