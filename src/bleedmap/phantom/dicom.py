"""Write a volume as a DICOM CT series, classic or enhanced, with a scout: a study to test reading with."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydicom import Dataset
from pydicom.uid import CTImageStorage

from bleedmap.geometry import PlaneTurn, StoredPlanes
from bleedmap.io.files import folder_written_whole
from bleedmap.phantom.dicom_enhanced import enhanced_ct
from bleedmap.phantom.dicom_instance import (
    AS_VIEWED,
    PLAIN,
    TRANSFER_SYNTAXES,
    CtOptions,
    add_pixels,
    encode,
    format_decimal,
    locate_planes,
    new_instance,
    stored_values,
)
from bleedmap.volume import Volume

__all__ = ["TRANSFER_SYNTAXES", "CtOptions", "ct_instances", "enhanced_ct", "scout", "write_series"]

_AIR_HU = -1000


def ct_instances(volume: Volume, *, turn: PlaneTurn = AS_VIEWED, options: CtOptions = PLAIN) -> list[Dataset]:
    """Make CT Image Storage instances, one a slice, in the order of the slices (PS3.3 A.3).

    Args:
        volume: in the standard view, on any grid with rows at right angles to columns.
        turn: from the stored rows and columns to that view; here it is undone.
        options: everything else.

    Raises:
        SettingsError: rows and columns that are not at right angles, or an unknown transfer syntax.
    """
    planes = locate_planes(volume, turn)
    stored = turn.undo(stored_values(volume.hu, options))
    count = len(stored)
    instances = []
    for index, plane in enumerate(stored):
        one = new_instance(options, CTImageStorage, options.uid("instance", options.series_number, index))
        one.InstanceNumber = count - index if options.reverse_numbers else index + 1
        _add_ct_image(one, options)
        _add_place(one, planes, index, volume)
        add_pixels(one, np.ascontiguousarray(plane), options)
        encode(one, options.transfer_syntax)
        instances.append(one)
    return instances


def _add_ct_image(header: Dataset, options: CtOptions) -> None:
    """Add the CT image, VOI LUT and contrast modules: PS3.3 C.8.2.1, C.11.2, C.7.6.4."""
    header.ImageType = list(options.image_type)
    header.AcquisitionNumber, header.AcquisitionDate, header.AcquisitionTime = 1, header.StudyDate, header.StudyTime
    header.ScanOptions, header.KVP = "AXIAL MODE", format_decimal(options.kvp)
    header.ConvolutionKernel = options.kernel
    header.ExposureTime, header.XRayTubeCurrent, header.Exposure = 1000, 250, 250
    header.RescaleIntercept, header.RescaleSlope = format_decimal(options.intercept), format_decimal(options.slope)
    header.RescaleType = "HU"
    header.WindowCenter, header.WindowWidth = "40", "80"
    if options.contrast is not None:
        header.ContrastBolusAgent = options.contrast


def _add_place(header: Dataset, planes: StoredPlanes, index: int, volume: Volume) -> None:
    """Add the image plane module, and the tilt as a scanner states it: PS3.3 C.7.6.2."""
    header.ImagePositionPatient = [format_decimal(one) for one in planes.positions_mm[index]]
    header.ImageOrientationPatient = [format_decimal(one) for one in planes.orientation]
    header.PixelSpacing = [format_decimal(one) for one in planes.pixel_mm]
    header.SliceThickness = format_decimal(volume.grid.thickness_mm)
    header.SliceLocation = format_decimal(planes.positions_mm[index, 2])
    header.GantryDetectorTilt = format_decimal(round(volume.grid.gantry_tilt_deg, 3) + 0.0)


def scout(volume: Volume, *, options: CtOptions = PLAIN) -> Dataset:
    """Make a localizer from the front, one square image, head up: the mean along the rays through an axial volume.

    It is a series of its own, number 1 of the same study as `ct_instances` of the same options.

    Args:
        volume: in the standard view, axial or tilted by a few degrees.
        options: as for the series that it belongs to; number, description, image type and padding are the scout's.
    """
    settings = replace(
        options, series_number=1, series_description="Scout", image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"),
        padding=None,
    )  # fmt: skip
    grid, (_, rows, columns) = volume.grid, volume.hu.shape
    step_mm = grid.spacing_mm[2]
    from_middle_mm = (np.arange(columns) - (columns - 1) / 2) * step_mm
    heights_mm = grid.heights_mm - grid.heights_mm[-1] / 2
    rays = volume.hu.mean(axis=1)
    seen = [np.interp(-from_middle_mm, heights_mm, ray, left=_AIR_HU, right=_AIR_HU) for ray in rays.T]
    one = new_instance(settings, CTImageStorage, settings.uid("instance", settings.series_number, 0))
    one.InstanceNumber = 1
    _add_ct_image(one, settings)
    one.RescaleType = "US"  # unspecified: a localizer's values are no HU
    first = grid.to_mm(np.array([(len(grid) - 1) / 2, (rows - 1) / 2, 0.0]))
    first[2] -= from_middle_mm[0]
    one.ImagePositionPatient = [format_decimal(value) for value in first]
    one.ImageOrientationPatient = ["1", "0", "0", "0", "0", "-1"]
    one.PixelSpacing = [format_decimal(step_mm)] * 2
    one.SliceThickness = ""
    add_pixels(one, stored_values(np.stack(seen, axis=1), settings), settings)
    encode(one, settings.transfer_syntax)
    return one


def write_series(
    folder: Path, instances: Sequence[Dataset], *, names: Literal["number", "uid"] = "number", overwrite: bool = False
) -> list[Path]:
    """Write instances as DICOM files into a new folder, whole or not at all; return their paths.

    Args:
        folder: new or empty.
        instances: of one series or of several.
        names: 'number': 0001.dcm, in the order given; 'uid': the instance's UID, without a suffix, as a PACS does.
        overwrite: replace an earlier series here.

    Raises:
        OutputError: the folder holds something else, or cannot be written.
    """
    with folder_written_whole(folder, overwrite=overwrite) as temporary:
        files = [
            f"{number:04d}.dcm" if names == "number" else str(one.SOPInstanceUID)
            for number, one in enumerate(instances, start=1)
        ]
        for name, one in zip(files, instances, strict=True):
            one.save_as(temporary / name, enforce_file_format=True)
    return [folder / name for name in files]
