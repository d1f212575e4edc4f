"""Written results against the scan that they are of, read by nibabel, pydicom and highdicom alone."""

import json
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
from pydicom import Dataset
from scipy.spatial import cKDTree

from bleedmap.arrays import AnyArray, DoubleArray
from bleedmap.phantom.scan import PhantomScan

SAME_PLACE_MM = 0.01  # of one voxel in two files: decimal strings hold 16 characters, affines float32
VOLUME_WITHIN, ARITHMETIC_WITHIN = 0.02, 0.001
_STORED_BLOOD = 3000 + 1024


@dataclass(frozen=True)
class Deviation:
    """How far the results of a scan are off.

    Attributes:
        volume_ml: in summary.json.
        volume_share: of the phantom's true volume, above or below it.
        nifti_mm: distance of the NIfTI mask's centroid from that of the phantom's blood.
        nifti_voxel_mm: the largest distance of a voxel in that mask from its voxel in the scan; of an uneven stack,
            which is written on even slices, that of the scan's blood from the mask's nearest voxel.
        seg_mm: the largest distance of a voxel in the segmentation from its voxel in the scan.
        limited: why the volume may be off by more than 2 %, as any reading of these slices would be; or ''.
        wrong: what is not as it must be.
    """

    volume_ml: float
    volume_share: float
    nifti_mm: float
    nifti_voxel_mm: float
    seg_mm: float
    limited: str
    wrong: tuple[str, ...]


def deviation_of(source: Path, results: Path, made: PhantomScan, limited: str) -> Deviation:
    """Of one study.

    Args:
        source: the folder of CT files.
        results: as `bleedmap.results.save.save` wrote them.
        made: what was written to `source`.
        limited: why its slices hold the volume less well than within 2 %; '' where they must.
    """
    summary = json.loads((results / "summary.json").read_text("utf-8"))
    true_mm, slices_ml, gaps = _truth(made)
    wrong: list[str] = []
    share = summary["volume_ml"] / made.true_volume_ml - 1
    if abs(share) > VOLUME_WITHIN and not limited:
        wrong.append(f"volume {share:+.1%} of the phantom's")
    if abs(summary["volume_ml"] / slices_ml - 1) > ARITHMETIC_WITHIN:
        wrong.append(f"volume {summary['volume_ml']:.3f} mL, by plain arithmetic {slices_ml:.3f} mL")
    nifti_mm, nifti_voxel_mm = _check_nifti(next(results.glob("*_dseg.nii.gz")), made, true_mm, gaps, wrong)
    seg_mm = _check_segmentation(results / "dicom/segmentation.dcm", source, true_mm, wrong)
    return Deviation(summary["volume_ml"], share, nifti_mm, nifti_voxel_mm, seg_mm, limited, tuple(wrong))


def _truth(made: PhantomScan) -> tuple[DoubleArray, float, DoubleArray]:
    """(voxel, 3) places of the scan's blood in LPS mm; its volume by the trapezoid rule; gaps along the normal."""
    grid = made.mask.grid
    index = np.argwhere(made.mask.array)
    places = grid.origins_mm[index[:, 0]] + index[:, 1:] @ np.stack([grid.row_step_mm, grid.column_step_mm])
    across = np.cross(grid.row_step_mm, grid.column_step_mm)
    area_mm2 = float(np.linalg.norm(across))
    heights = np.sort(grid.origins_mm @ across / area_mm2)
    counts = made.mask.array.sum(axis=(1, 2))
    counts = counts if (grid.origins_mm[-1] - grid.origins_mm[0]) @ across > 0 else counts[::-1]
    return places, float(np.trapezoid(counts * area_mm2, heights)) / 1000, np.diff(heights)


def _check_nifti(
    path: Path, made: PhantomScan, true_mm: DoubleArray, gaps: DoubleArray, wrong: list[str]
) -> tuple[float, float]:  # fmt: skip
    """How far the centroid is off the phantom's, of which half a pixel and half a slice are allowed; and a voxel."""
    image = nib.load(path)
    voxels = np.argwhere(np.asarray(image.dataobj) > 0)
    places = (voxels @ image.affine[:3, :3].T + image.affine[:3, 3]) * [-1, -1, 1]  # RAS -> LPS
    grid = made.mask.grid
    away = places.mean(axis=0) - made.true_centroid_mm
    for name, step in (("rows", grid.row_step_mm), ("columns", grid.column_step_mm)):
        length = np.linalg.norm(step)
        if abs(away @ step / length) > length / 2 and np.ptp(gaps) < 0.01:
            wrong.append(f"NIfTI centroid {away @ step / length:+.2f} mm off along {name}")
    normal = np.cross(grid.row_step_mm, grid.column_step_mm)
    if abs(away @ normal / np.linalg.norm(normal)) > max(gaps) / 2:
        wrong.append(f"NIfTI centroid {away @ normal / np.linalg.norm(normal):+.2f} mm off along the normal")
    if np.ptp(gaps) < 0.01:  # an even stack goes to NIfTI as it is
        off, limit_mm = _farthest(places, true_mm), SAME_PLACE_MM
    else:
        off, limit_mm = float(cKDTree(places).query(true_mm)[0].max()), float(gaps.max()) + SAME_PLACE_MM
    if off > limit_mm:
        wrong.append(f"blood {off:.3f} mm from the NIfTI mask's voxels")
    return float(np.linalg.norm(away)), off


def _check_segmentation(path: Path, source: Path, true_mm: DoubleArray, wrong: list[str]) -> float:
    """Every frame against the pixels of the instance that it refers to; the farthest that a voxel is off."""
    opened = hd.seg.segread(path)
    header = pydicom.dcmread(path)
    sources = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, source.iterdir())}
    pixels = {uid: _stored(one) for uid, one in sources.items()}
    frames = opened.pixel_array.reshape(-1, header.Rows, header.Columns) > 0
    drawn: dict[tuple[str, int], AnyArray] = {}
    places = []
    for frame, groups in zip(frames, header.PerFrameFunctionalGroupsSequence, strict=True):
        reference = groups.DerivationImageSequence[0].SourceImageSequence[0]
        key = str(reference.ReferencedSOPInstanceUID), int(reference.get("ReferencedFrameNumber", 1)) - 1
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        if np.abs(position - _position(sources[key[0]], key[1])).max() > SAME_PLACE_MM:
            wrong.append(f"a segmentation's frame at {position}, its source elsewhere")
        drawn[key] = drawn.get(key, np.zeros_like(frame)) | frame
        places.append(position + _in_plane_mm(header, groups, np.argwhere(frame)))
    for (uid, frame_index), marked in drawn.items():
        if not np.array_equal(marked, pixels[uid][frame_index] == _STORED_BLOOD):
            wrong.append("a segmentation's frame that is not the blood on its source's pixels")
    listed = {str(study_uid_series_uid[2]) for study_uid_series_uid in opened.get_source_image_uids()}
    if not {uid for uid, _ in drawn} <= listed or not listed <= set(sources):
        wrong.append("highdicom names other source images than the frames")
    off = _farthest(np.concatenate(places), true_mm)
    if off > SAME_PLACE_MM:
        wrong.append(f"segmentation's voxels up to {off:.3f} mm off")
    return off


def _stored(one: Dataset) -> AnyArray:
    """(frame, row, column) stored values."""
    return one.pixel_array.reshape(-1, one.Rows, one.Columns)


def _position(one: Dataset, frame: int) -> DoubleArray:
    item = one.PerFrameFunctionalGroupsSequence[frame].PlanePositionSequence[0] if "NumberOfFrames" in one else one
    return np.array(item.ImagePositionPatient, float)


def _in_plane_mm(header: Dataset, groups: Dataset, index: AnyArray) -> DoubleArray:
    """(pixel, 3) way from the frame's first pixel: PS3.3 C.7.6.2.1.1."""
    shared = header.SharedFunctionalGroupsSequence[0]
    group = groups if "PlaneOrientationSequence" in groups else shared
    along, down = np.reshape(group.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    group = groups if "PixelMeasuresSequence" in groups else shared
    row_mm, column_mm = map(float, group.PixelMeasuresSequence[0].PixelSpacing)
    return np.asarray(index[:, :1] * row_mm * down + index[:, 1:] * column_mm * along)


def _farthest(places: DoubleArray, true_mm: DoubleArray) -> float:
    """The largest distance of a place from its true one; infinite where they are not equally many."""
    if len(places) != len(true_mm):
        return float("inf")
    there, back = cKDTree(true_mm).query(places)[0], cKDTree(places).query(true_mm)[0]
    return float(max(there.max(), back.max()))
