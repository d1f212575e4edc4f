"""What was found in a study, and how it is told: a frozen result and its JSON."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from bleedmap import __version__
from bleedmap.arrays import BoolArray, DoubleArray, FloatArray
from bleedmap.geometry import voxel_volume_ml
from bleedmap.inference.backends import BackendRecord
from bleedmap.models.weights import WeightsFile
from bleedmap.postprocess import Lesion, lesions
from bleedmap.volume import Mask, ProbabilityMap

RESEARCH_ONLY = "Research software, not a medical device: no result may be used to diagnose or treat a patient."
NO_SPACING = "pictures carry no pixel spacing"


@dataclass(frozen=True)
class SliceFinding:
    """One slice: its lesion pixels, and its highest probability anywhere, lesion or not."""

    lesion_pixels: int
    highest_probability: float


@dataclass(frozen=True, eq=False)
class Findings:
    """What was found in one study; an empty one is a result too.

    Attributes:
        slices: of every slice; in a volume, feet to head.
        lesions: connected lesions; across slices in a volume, within a slice for pictures.
        affine: the volume's, index (slice, row, column) to LPS mm; None for pictures, whose pixels have no size.
    """

    slices: tuple[SliceFinding, ...]
    lesions: tuple[Lesion, ...]
    affine: DoubleArray | None

    @property
    def found(self) -> bool:
        """Whether any pixel is lesion."""
        return self.lesion_pixels > 0

    @property
    def lesion_pixels(self) -> int:
        """Lesion pixels of all slices."""
        return sum(one.lesion_pixels for one in self.slices)

    @property
    def slices_with_lesion(self) -> tuple[int, ...]:
        """Their indices, from 0."""
        return tuple(index for index, one in enumerate(self.slices) if one.lesion_pixels)

    @property
    def volume_ml(self) -> float | None:
        """Of all lesions; None where pixels have no size."""
        return self._volume_ml(self.lesion_pixels)

    @property
    def highest_probability(self) -> float:
        """Of the whole study."""
        return max(one.highest_probability for one in self.slices)

    def lesion_rows(self) -> list[dict[str, Any]]:
        """The lesions as JSON can hold them, largest first; lesions and slices count from 1."""
        return [
            {
                "lesion": number,
                "pixels": lesion.voxels,
                "volume_ml": self._volume_ml(lesion.voxels),
                "first_slice": lesion.first_slice + 1,
                "last_slice": lesion.last_slice + 1,
                **self._centroid(lesion),
                "highest_probability": round(lesion.highest_probability, 6),
            }
            for number, lesion in enumerate(self.lesions, 1)
        ]

    def _volume_ml(self, pixels: int) -> float | None:
        return None if self.affine is None else round(pixels * voxel_volume_ml(self.affine), 4)

    def _centroid(self, lesion: Lesion) -> dict[str, Any]:
        """In mm where the grid has an affine, which outlives any reordering of axes; else in pixels."""
        _, row, column = lesion.centroid
        if self.affine is None:
            return {"centroid_row": round(row, 1), "centroid_column": round(column, 1)}
        place = self.affine @ [*lesion.centroid, 1]
        return {"centroid_lps_mm": [round(float(axis), 1) for axis in place[:3]]}


def summarise_volume(probability: ProbabilityMap, mask: Mask) -> Findings:
    """A volume's findings: lesions 26-connected across slices, volumes in mL from the affine."""
    return Findings(
        slices=_slices(probability.array, mask.array),
        lesions=tuple(lesions(mask.array, probability.array)),
        affine=mask.affine,
    )


def summarise_pictures(slices: Iterable[tuple[FloatArray, BoolArray]]) -> Findings:
    """Findings of single slices, taken one at a time: (probability, mask), each (row, column), sizes may differ."""
    found: list[SliceFinding] = []
    connected: list[Lesion] = []
    for index, (probability, mask) in enumerate(slices):
        found += _slices(probability[None], mask[None])
        for lesion in lesions(mask[None], probability[None]):
            _, row, column = lesion.centroid
            connected.append(replace(lesion, first_slice=index, last_slice=index, centroid=(float(index), row, column)))
    return Findings(tuple(found), tuple(sorted(connected, key=lambda lesion: -lesion.voxels)), None)


def _slices(probability: FloatArray, mask: BoolArray) -> tuple[SliceFinding, ...]:
    return tuple(
        SliceFinding(int(marked.sum()), round(float(one.max()), 6))
        for one, marked in zip(probability, mask, strict=True)
    )


def to_json(
    findings: Findings, weights: WeightsFile, backend: BackendRecord, threshold: float, notes: list[str]
) -> dict[str, Any]:
    """The summary as JSON can hold it; slices and lesions count from 1, feet to head in a volume."""
    return {
        "research_only": RESEARCH_ONLY,
        "program": {"name": "bleedmap", "version": __version__},
        "weights": {"name": weights.name, "sha256": weights.sha256, "trained_on": weights.trained_on},
        "backend": {"name": backend.name, "device": backend.device, "precision": backend.precision},
        "threshold": threshold,
        "hemorrhage_found": findings.found,
        "lesion_pixels": findings.lesion_pixels,
        "volume_ml": findings.volume_ml,
        "volume_note": NO_SPACING if findings.affine is None else None,
        "highest_probability": findings.highest_probability,
        "slice_count": len(findings.slices),
        "slices_with_lesion": [index + 1 for index in findings.slices_with_lesion],
        "slices": [
            {
                "slice": index + 1,
                "lesion_pixels": one.lesion_pixels,
                "highest_probability": one.highest_probability,
            }
            for index, one in enumerate(findings.slices)
        ],
        "lesions": findings.lesion_rows(),
        "notes": notes,
    }
