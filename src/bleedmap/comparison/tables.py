"""A comparison for programs: JSON, as comparison.schema.json describes it, and the table of lesions."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from bleedmap import RESEARCH_ONLY, __version__
from bleedmap.comparison.compare import Comparison
from bleedmap.comparison.examination import Examination
from bleedmap.comparison.growth import CRITERION, CRITERION_ML, CRITERION_PERCENT, DERIVED_FOR, Growth, Interval

FORMAT = "bleedmap comparison 1"  # of `to_json`, described in comparison.schema.json
# Column of growth.csv -> unit and meaning.
COLUMNS = {
    "kind": ("", "matched, merged, split, regrouped, new, gone, cut (one study shows only a part) or outside (the "
        "other study does not show the place)"),
    "first_lesions": ("", "numbers of the lesions in the first study, the largest is 1"),
    "second_lesions": ("", "numbers of the lesions in the second study"),
    "first_ml": ("mL", "their volume in the first study, on its own slices"),
    "second_ml": ("mL", "their volume in the second study, on its own slices"),
    "growth_ml": ("mL", "second minus first; empty where one study does not show all of it, or no growth is claimed"),
    "growth_percent": ("%", "the same in per cent of the first volume"),
}  # fmt: skip


def lesion_table(comparison: Comparison) -> list[list[Any]]:
    """Rows of `COLUMNS`, the largest first; none where the heads could not be aligned."""
    return [list(row.values()) for row in _group_rows(comparison)]


def _group_rows(comparison: Comparison) -> list[dict[str, Any]]:
    claimed = comparison.growth is not None
    return [
        {
            "kind": one.kind,
            "first_lesions": tuple(map(str, one.first)),
            "second_lesions": tuple(map(str, one.second)),
            "first_ml": round(one.first_ml, 4),
            "second_ml": round(one.second_ml, 4),
            "growth_ml": rounded(one.growth_ml if claimed else None, 4),
            "growth_percent": rounded(one.growth_percent if claimed else None, 2),
        }
        for one in comparison.groups or ()
    ]


def to_json(comparison: Comparison, files: Mapping[str, str]) -> dict[str, Any]:
    """The comparison as JSON can hold it. It has no name, number or date of a patient.

    Args:
        files: what each written file is -> its name, relative to the folder of results.
    """
    alignment = comparison.alignment
    return {
        "format": FORMAT,
        "research_only": RESEARCH_ONLY,
        "program": {"name": "bleedmap", "version": __version__},
        "first": _describe(comparison.first),
        "second": _describe(comparison.second),
        "hours": rounded(comparison.hours, 3),
        "aligned": alignment.fits,
        "alignment": {
            "matrix_lps_mm": [[round(float(one), 6) for one in row] for row in alignment.matrix],
            "skull_overlap": round(alignment.skull_overlap, 4),
            "correlation": round(alignment.correlation, 4),
            "common": round(alignment.common, 4),
            "depth_mm": round(alignment.depth_mm, 1),
            "turn_deg": round(alignment.turn_deg, 2),
        },
        "growth": None if comparison.growth is None else _describe_growth(comparison.growth),
        "no_growth_because": list(comparison.reasons),
        "lesions": None if comparison.groups is None else [
            row | {side: [int(number) for number in row[side]] for side in ("first_lesions", "second_lesions")}
            for row in _group_rows(comparison)
        ],
        "notes": list(comparison.notes),
        "files": dict(files),
    }  # fmt: skip


def _describe(one: Examination) -> dict[str, Any]:
    certainty = one.certainty
    return {
        "name": one.name,
        "source": one.identity.source,
        "verdict": one.verdict,
        "abstained": [] if certainty is None else list(certainty.abstained),
        "volume_ml": one.findings.volume_ml,
        "interval_ml": None if certainty is None or certainty.volume_ml is None else [
            round(end, 4) for end in certainty.volume_ml
        ],
        "lesions": len(one.findings.lesions),
        "slices": len(one.findings.slices),
        "slice_distance_mm": round(one.volume.grid.spacing_mm[0], 4),
        "weights": {"name": one.weights, "sha256": one.weights_sha256},
        "threshold": one.threshold,
        "warnings": list(one.warnings),
        "mask_edited": one.edited,
    }  # fmt: skip


def _describe_growth(growth: Growth) -> dict[str, Any]:
    return asdict(growth) | {
        "first_ml": round(growth.first_ml, 4),
        "second_ml": round(growth.second_ml, 4),
        "first_interval_ml": _ends(growth.first_interval_ml, 4),
        "second_interval_ml": _ends(growth.second_interval_ml, 4),
        "ml": round(growth.ml, 4),
        "percent": rounded(growth.percent, 2),
        "interval_ml": _ends(growth.interval_ml, 4),
        "interval_percent": _ends(growth.interval_percent, 2),
        "criterion": {
            "words": CRITERION, "note": DERIVED_FOR, "ml": CRITERION_ML, "percent": CRITERION_PERCENT,
            "expansion": growth.expansion, "firmness": growth.firmness,
        },
    }  # fmt: skip


def _ends(interval: Interval | None, digits: int) -> list[float | None] | None:
    return None if interval is None else [rounded(end, digits) for end in interval]


def rounded(value: float | None, digits: int = 4) -> float | None:
    """Round, without a negative 0."""
    return None if value is None else round(value, digits) + 0.0
