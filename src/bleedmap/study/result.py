"""What segmenting one study gives: arrays, findings, checks, all that a report states about them, and their JSON."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bleedmap import RESEARCH_ONLY, __version__
from bleedmap.arrays import BoolArray, FloatArray
from bleedmap.geometry import SliceGrid
from bleedmap.inference.backends import BackendRecord
from bleedmap.inference.certainty import Certainty
from bleedmap.inference.slabs import Slabs
from bleedmap.inference.weights import WeightsFile
from bleedmap.io.dicom.acquisition import Acquisition
from bleedmap.io.dicom.series import DicomSeries
from bleedmap.io.nifti import NiftiGrid, to_image
from bleedmap.postprocess import Lesion, lesions
from bleedmap.study.gate.check import Check
from bleedmap.study.measures import measure_lesions
from bleedmap.study.sources import to_simpleitk
from bleedmap.volume import Mask, ProbabilityMap, Volume

NO_SPACING = "pictures carry no pixel spacing"


@dataclass(frozen=True)
class SliceFinding:
    """One slice: its lesion pixels, and its highest probability anywhere, lesion or not."""

    lesion_pixels: int
    highest_probability: float


@dataclass(frozen=True, eq=False)
class Findings:
    """What was found in one study; an empty one is a result too."""

    slices: tuple[SliceFinding, ...]  # of every slice; in a volume, feet to head
    lesions: tuple[Lesion, ...]  # connected lesions; across slices in a volume, within a slice for pictures
    grid: SliceGrid | None  # the volume's; None for pictures, whose pixels have no size

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
        if self.grid is None:
            return None
        return round(float(np.array([one.lesion_pixels for one in self.slices]) @ self.grid.voxel_ml), 4)

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
                "volume_ml": self.lesion_ml(lesion),
                "first_slice": lesion.first[0] + 1,
                "last_slice": lesion.last[0] + 1,
                **self._place(lesion),
                "mean_hu": None if lesion.mean_hu is None else round(lesion.mean_hu, 1),
                "highest_probability": round(lesion.highest_probability, 6),
                "mean_probability": round(lesion.mean_probability, 6),
            }
            for number, lesion in enumerate(self.lesions, 1)
        ]

    def lesion_ml(self, lesion: Lesion) -> float | None:
        """One lesion's volume; each slice counts with what it stands for. None where pixels have no size."""
        if self.grid is None:
            return None
        voxel_ml = self.grid.voxel_ml[lesion.first[0] : lesion.last[0] + 1]
        return round(float(np.array(lesion.voxels_by_slice) @ voxel_ml), 4)

    def _place(self, lesion: Lesion) -> dict[str, Any]:
        """In mm where the voxels have a place, which outlives any reordering of axes; else in pixels.

        The extent is the box's: along the slices' normal, along the rows' and along the columns' direction.
        """
        _, row, column = lesion.centroid
        if self.grid is None:
            return {"centroid_row": round(row, 1), "centroid_column": round(column, 1)}
        place = self.grid.to_mm(np.array(lesion.centroid))
        counts = np.array(lesion.last) - np.array(lesion.first) + 1
        _, row_mm, column_mm = self.grid.spacing_mm
        along = float(self.grid.extents_mm[lesion.first[0] : lesion.last[0] + 1].sum())
        extent = (along, counts[1] * row_mm, counts[2] * column_mm)
        return {
            "centroid_lps_mm": [round(float(axis), 1) for axis in place],
            "extent_mm": [round(float(axis), 1) for axis in extent],
        }


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """One segmented study. An empty mask is a result too.

    Attributes:
        name: begins the names of its files; the input's file or folder name, made fit for a file's.
        source: the input's path as given; 'volume' for one in memory.
        volume: in HU, in the standard view: slices feet to head, rows front to back, columns right to left.
        mask: on the same grid.
        probability: on the same grid.
        findings: lesions, volumes, slices.
        checks: of the input gate, in a fixed order.
        acquisition: how the scan was made, where known.
        dicom: the series that was read; None for other inputs.
        nifti: the file's own grid; None for other inputs.
        weights: the network's file.
        backend: what computed.
        threshold: lesion from this probability on.
        notes: sentences for the reader: what reading and segmenting had to decide.
        certainty: how sure the program is; None for weights that do not say.
        slabs: what the network was shown in place of thin slices; None where it was shown the slices.
    """

    name: str
    source: str
    volume: Volume
    mask: Mask
    probability: ProbabilityMap
    findings: Findings
    checks: tuple[Check, ...]
    acquisition: Acquisition
    dicom: DicomSeries | None
    nifti: NiftiGrid | None
    weights: WeightsFile
    backend: BackendRecord
    threshold: float
    notes: tuple[str, ...]
    certainty: Certainty | None = None
    slabs: Slabs | None = None

    @property
    def found(self) -> bool:
        """Whether any voxel is marked."""
        return self.findings.found

    @property
    def lesions(self) -> tuple[Lesion, ...]:
        """The connected lesions, largest first, each with its `measures`."""
        return self.findings.lesions

    @property
    def volume_ml(self) -> float:
        """Volume of all lesions, in mL."""
        return self.mask.volume_ml

    @property
    def warnings(self) -> tuple[Check, ...]:
        """The checks that did not pass, and those whose refusal was overruled."""
        return tuple(one for one in self.checks if one.verdict in ("warning", "refusal"))

    def mask_image(self, library: Literal["nibabel", "SimpleITK"] = "nibabel") -> Any:
        """Return the mask as an image of nibabel (uint8) or SimpleITK, in the order and on the grid of the input.

        DICOM and `Volume` come as (column, row, slice); uneven slices as in the NIfTI file that `save` writes.

        Raises:
            InputError: SimpleITK is not installed, or cannot hold a sheared grid.
        """
        image = to_image(self.mask, self.nifti)
        return to_simpleitk(image) if library == "SimpleITK" else image

    # What follows stands on this module, so it is imported late and by name.

    def save(
        self, folder: str | Path, *, overwrite: bool = False, dicom: bool = True, fractional: bool = False,
        made_at: datetime | None = None, new_uid: Callable[[], str] | None = None, predecessor: Path | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Write all result files into a new folder: `bleedmap.results.save.save`."""
        home = import_module("bleedmap.results.save")
        chosen = {"overwrite": overwrite, "dicom": dicom, "fractional": fractional, "predecessor": predecessor}
        return dict(home.save(self, folder, **chosen, made_at=made_at, new_uid=new_uid))

    def to_dict(self) -> dict[str, Any]:
        """Return what `summary.json` holds, with no files."""
        return dict(import_module("bleedmap.results.tables").summary(self, {}))

    def __repr__(self) -> str:
        words = import_module("bleedmap.study.words")
        return f"Result({self.name!r}: {words.headline(self.findings, self.certainty)})"

    def _repr_html_(self) -> str:
        """The overview picture under its headline, for a notebook."""
        return str(import_module("bleedmap.results.pictures").show_in_notebook(self))


def summarise_volume(probability: ProbabilityMap, mask: Mask, volume: Volume, *, sides_known: bool = True) -> Findings:
    """A volume's findings: lesions 26-connected across slices, volumes in mL from each slice's own extent."""
    found = lesions(mask.array, probability.array, volume.hu)
    measured = measure_lesions(mask, volume, sides_known=sides_known)
    return Findings(
        slices=_slices(probability.array, mask.array),
        lesions=tuple(replace(one, measures=its) for one, its in zip(found, measured, strict=True)),
        grid=mask.grid,
    )


def summarise_pictures(slices: Iterable[tuple[FloatArray, BoolArray]]) -> Findings:
    """Findings of single slices, taken one at a time: (probability, mask), each (row, column), sizes may differ."""
    found: list[SliceFinding] = []
    connected: list[Lesion] = []
    for index, (probability, mask) in enumerate(slices):
        found += _slices(probability[None], mask[None])
        for lesion in lesions(mask[None], probability[None]):
            _, row, column = lesion.centroid
            first, last = (index, *lesion.first[1:]), (index, *lesion.last[1:])
            connected.append(replace(lesion, first=first, last=last, centroid=(float(index), row, column)))
    return Findings(tuple(found), tuple(sorted(connected, key=lambda lesion: -lesion.voxels)), None)


def _slices(probability: FloatArray, mask: BoolArray) -> tuple[SliceFinding, ...]:
    return tuple(
        SliceFinding(int(np.count_nonzero(marked)), round(float(one.max()), 6))
        for one, marked in zip(probability, mask, strict=True)
    )


def to_json(
    findings: Findings, weights: WeightsFile, backend: BackendRecord, threshold: float, notes: list[str],
    certainty: Certainty | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The summary as JSON can hold it; slices and lesions count from 1, feet to head in a volume."""
    each_slice = [None] * len(findings.slices) if certainty is None else [round(one, 6) for one in certainty.slices]
    return {
        "research_only": RESEARCH_ONLY,
        "program": {"name": "bleedmap", "version": __version__},
        "weights": {"name": weights.name, "sha256": weights.sha256, "trained_on": weights.trained_on},
        "backend": {"name": backend.name, "device": backend.device, "precision": backend.precision},
        "threshold": threshold,
        "hemorrhage_found": findings.found,
        "lesion_pixels": findings.lesion_pixels,
        "volume_ml": findings.volume_ml,
        "volume_note": NO_SPACING if findings.grid is None else None,
        "highest_probability": findings.highest_probability,
        "certainty": None if certainty is None else _certainty_json(certainty),
        "slice_count": len(findings.slices),
        "slices_with_lesion": [index + 1 for index in findings.slices_with_lesion],
        "slices": [
            {
                "slice": index + 1,
                "lesion_pixels": one.lesion_pixels,
                "highest_probability": one.highest_probability,
                "slice_probability": bleeds,
            }
            for index, (one, bleeds) in enumerate(zip(findings.slices, each_slice, strict=True))
        ],
        "lesions": findings.lesion_rows(),
        "notes": notes,
    }


def _certainty_json(certainty: Certainty) -> dict[str, Any]:
    """Of the study; what it says of slices stands in their rows."""
    return {
        "study_probability": round(certainty.study, 6),
        "types": {name: round(probability, 6) for name, probability in certainty.types},
        "volume_ml": None if certainty.volume_ml is None else [round(end, 4) for end in certainty.volume_ml],
        "coverage": certainty.coverage,
        "abstained": list(certainty.abstained),
    }
