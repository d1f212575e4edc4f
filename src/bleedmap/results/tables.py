"""A study's results for programs: the lesion table as CSV, and everything as JSON."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bleedmap.geometry import SliceGrid
from bleedmap.page.writer import write_csv
from bleedmap.study.gate.check import Check
from bleedmap.study.result import Result, to_json
from bleedmap.study.words import verdict

FORMAT = "bleedmap study 1"  # of `summary`, described in study.schema.json
# Column of the lesions' table -> unit and meaning.
COLUMNS = {
    "lesion": ("", "number of the lesion in its study, the largest is 1"),
    "volume_ml": ("mL", "each slice counts with what it stands for"),
    "longest_axial_diameter_mm": ("mm", "largest distance between two corners of its pixels within one slice"),
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


def lesion_rows(result: Result) -> list[dict[str, Any]]:
    """The lesions as JSON can hold them, largest first, none for a negative study; slices count from 1, feet to head.

    `findings.lesion_rows` with two more: `slice_count`, and `longest_axial_diameter_mm`, the largest distance between
    the outer corners of two of the lesion's pixels within one slice, along the slice's plane.
    """
    rows = []
    for row, lesion in zip(result.findings.lesion_rows(), result.findings.lesions, strict=True):
        assert lesion.longest_axial_mm is not None  # a study's pixels have a size
        longest_mm = round(lesion.longest_axial_mm, 1)
        rows.append(row | {"slice_count": len(lesion.voxels_by_slice), "longest_axial_diameter_mm": longest_mm})
    return rows


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
        along = dict(zip(list(COLUMNS)[3:9], (*row["extent_mm"], *row["centroid_lps_mm"]), strict=True))
        rows.append([(row | along)[name] for name in COLUMNS])
    return rows


def summary(result: Result, files: Mapping[str, str]) -> dict[str, Any]:
    """The study's JSON, as study.schema.json describes it: what was found, checked and decided.

    It holds no name, number or date of a patient.

    Args:
        result: the segmented study.
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
