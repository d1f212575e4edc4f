"""What `bleedmap segment` writes: masks, probabilities, overlays and their summary."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bleedmap.arrays import BoolArray, ByteArray, FloatArray
from bleedmap.figures.overlay import SliceView, draw_sheet
from bleedmap.inference.backends import Backend
from bleedmap.inference.inputs import Ignored, Picture
from bleedmap.inference.results import RESEARCH_ONLY, Findings, summarise_pictures, summarise_volume, to_json
from bleedmap.inference.segment import preprocessing_of, segment_slices
from bleedmap.io import images, nifti
from bleedmap.models.weights import WeightsFile
from bleedmap.postprocess import to_mask
from bleedmap.volume import Mask, ProbabilityMap, Volume
from bleedmap.window import Window

PROBABILITY_STEPS = 65535  # the 16-bit PNG's value of probability 1
SHEET_SLICES = 24  # at most, on a contact sheet
NEGATIVE_SLICES = 8  # evenly spaced, where nothing was found
_AIR_HU = -200  # a head in HU has air around it, far below


@dataclass(frozen=True, eq=False)
class Job:
    """A loaded network, where to write, and whom to tell about progress."""

    weights: WeightsFile
    backend: Backend
    threshold: float
    folder: Path
    advance: Callable[[int], None]

    def segment(self, hu: FloatArray) -> tuple[FloatArray, BoolArray]:
        """(slice, row, column) in HU -> probability and mask of the same shape."""
        probability = segment_slices(hu, preprocessing_of(self.weights), self.backend, self.advance)
        return probability, to_mask(probability, self.threshold)

    def summary(self, findings: Findings, notes: list[str], ignored: tuple[Ignored, ...]) -> dict[str, Any]:
        """The JSON that both kinds of input share."""
        shared = to_json(findings, self.weights, self.backend.record, self.threshold, notes)
        return shared | {"ignored": [{"file": str(one.path), "reason": one.reason} for one in ignored]}

    def draw(self, name: str, views: list[SliceView], title: str) -> None:
        """Write `<name>_overlay.png`."""
        sheet = draw_sheet(views, title=title, footer=RESEARCH_ONLY, threshold=self.threshold)
        images.write_png(self.folder / f"{name}_overlay.png", sheet)


def segment_pictures(
    job: Job, pictures: tuple[Picture, ...], window: Window, ignored: tuple[Ignored, ...]
) -> dict[str, Any]:
    """Segment and write one picture at a time; returns the summary."""
    summary = job.summary(summarise_pictures(_each_picture(job, pictures, window)), [], ignored)
    for row, picture in zip(summary["slices"], pictures, strict=True):
        endings = {"mask": "mask", "probability": "prob", "overlay": "overlay"}
        row |= {"name": picture.name, "source": str(picture.path)}
        row["files"] = {key: f"{picture.name}_{ending}.png" for key, ending in endings.items()}
    return summary


def _each_picture(job: Job, pictures: tuple[Picture, ...], window: Window) -> Iterator[tuple[FloatArray, BoolArray]]:
    for picture in pictures:
        grey = images.read_grey(picture.path)
        probability, mask = (one[0] for one in job.segment(window.to_hu(grey)[None]))
        images.write_png(job.folder / f"{picture.name}_mask.png", mask)
        stored = np.rint(probability * PROBABILITY_STEPS).astype(np.uint16)
        images.write_png(job.folder / f"{picture.name}_prob.png", stored)
        pixels = int(mask.sum())
        verdict = f"hemorrhage found, {pixels:,} pixels" if pixels else "no hemorrhage found"
        view = SliceView(grey, probability, f"highest probability {probability.max():.2f}")
        job.draw(picture.name, [view], f"{picture.name}: {verdict}")
        yield probability, mask


def segment_volume(
    job: Job, path: Path, volume: Volume, grid: nifti.NiftiGrid, ignored: tuple[Ignored, ...]
) -> dict[str, Any]:
    """Segment and write a volume on its file's own grid; returns the summary."""
    array, marked = job.segment(volume.hu)
    probability, mask = ProbabilityMap(array, volume.grid), Mask(marked, volume.grid)
    stem = path.name[: path.name.lower().rindex(".nii")]
    nifti.write(job.folder / f"{stem}_dseg.nii.gz", mask, grid)
    nifti.write(job.folder / f"{stem}_probseg.nii.gz", probability, grid)
    findings = summarise_volume(probability, mask, volume.hu)
    chosen = _shown(findings)
    views = [_view(job, volume, probability, findings, index) for index in chosen]
    job.draw(stem, views, f"{stem}: {_verdict(findings, len(chosen))}")
    notes = []
    if volume.hu.min() > _AIR_HU:
        notes.append(
            f"no voxel is below {_AIR_HU} HU, so there is no air around the head: check that the file is in HU"
        )
    endings = {"mask": "dseg.nii.gz", "probability": "probseg.nii.gz", "overlay": "overlay.png"}
    files = {key: f"{stem}_{ending}" for key, ending in endings.items()}
    return job.summary(findings, notes, ignored) | {"source": str(path), "files": files}


def _shown(findings: Findings) -> list[int]:
    """The slices of the contact sheet: those with lesions, or a few where there are none; evenly spaced."""
    indices = np.array(findings.slices_with_lesion if findings.found else range(len(findings.slices)))
    count = min(len(indices), SHEET_SLICES if findings.found else NEGATIVE_SLICES)
    if not findings.found:  # the middles of equal parts: the ends of a scan show little brain
        return [int(indices[int((part + 0.5) * len(indices) / count)]) for part in range(count)]
    return [int(index) for index in indices[np.linspace(0, len(indices) - 1, count).round().astype(int)]]


def _verdict(findings: Findings, shown: int) -> str:
    if not findings.found:
        return "no hemorrhage found"
    count = len(findings.slices_with_lesion)
    part = f" ({shown} shown)" if shown < count else ""
    return f"hemorrhage found, {findings.volume_ml:,.2f} mL in {count} of {len(findings.slices)} slices{part}"


def _view(job: Job, volume: Volume, probability: ProbabilityMap, findings: Findings, index: int) -> SliceView:
    window = preprocessing_of(job.weights).window
    grey: ByteArray = np.rint(window.to_unit(volume.hu[index]) * 255).astype(np.uint8)
    one = findings.slices[index]
    found = f"{one.lesion_pixels:,} pixels, " if one.lesion_pixels else ""
    caption = f"slice {index + 1}: {found}highest {one.highest_probability:.2f}"
    _, row_mm, column_mm = volume.grid.spacing_mm
    return SliceView(grey, probability.array[index], caption, row_mm / column_mm, ("R", "L"))
