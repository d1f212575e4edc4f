"""The reader of studies: every door of the program reads DICOM, NIfTI and arrays here, and notes the same things."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydicom import Dataset

from bleedmap.arrays import ignore
from bleedmap.errors import InputError, spell
from bleedmap.io.dicom.acquisition import Acquisition
from bleedmap.io.dicom.files import DicomFound, scan
from bleedmap.io.dicom.read import read_series
from bleedmap.io.dicom.series import DicomSeries
from bleedmap.io.names import fit_name, stem
from bleedmap.io.nifti import NiftiGrid, is_nifti, read_image, read_volume
from bleedmap.study.sources import KINDS, Source, find_image, gather_dicom, is_array
from bleedmap.study.words import spans
from bleedmap.volume import Volume

_NO_ORIENTATION = (
    "The NIfTI file does not say where its axes point (sform and qform code 0): right and left, front and back, "
    "and the order of slices are guesses. No side is told."
)
_NO_CHOICE = "a study or series chosen for a volume", "DICOM, which holds series", "leave the choice out"
_FILLED_HU = -300.0  # a slice of one value above this would count as body
_AIR_HU = -1000.0
_MEMORY = "volume"  # the source and name of a volume that came from no file
Advance = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Study:
    """What was read, before anything is segmented; the fields are those of `Result`."""

    name: str
    source: str
    volume: Volume
    acquisition: Acquisition
    dicom: DicomSeries | None = None
    nifti: NiftiGrid | None = None
    notes: tuple[str, ...] = ()


def read_study(
    source: Source,
    *,
    affine: object = None,
    name: str | None = None,
    study: str | None = None,
    series: int | None = None,
    advance: Advance = ignore,
) -> Study:
    """Read one study.

    Args:
        source: a folder, zip or file of DICOM; a list of such files or folders; a pydicom data set with its pixels, or
            a list of them; a NIfTI file in HU; an image of nibabel or SimpleITK in HU; an array of HU with `affine`; a
            `Volume`; or DICOM files whose headers are read already (`bleedmap.io.dicom.files.scan`).
        affine: of an array, 4×4 from its own index to RAS mm, as nibabel has it; its axes may run any way.
        name: begins the names of the result files; None: taken from the path.
        study: Study Instance UID, where the source holds several.
        series: series number, in place of the one that would be chosen.
        advance: called with the number of slices read since the last call.

    Raises:
        InputError: not a study that can be read, with the reason.
    """
    read = _read(source, affine, study, series, advance)
    return read if name is None else replace(read, name=_name(Path(name)))


def _read(source: Source, affine: object, study: str | None, series: int | None, advance: Advance) -> Study:
    if affine is not None and not is_array(source):
        raise InputError(
            "affine", found=f"an affine beside a {type(source).__name__}, which has its own or none",
            needed="an affine for an array only", remedy="leave the affine out, or give the array of the image",
        )  # fmt: skip
    if isinstance(source, list | tuple | Dataset):
        source = gather_dicom(source)
    if isinstance(source, DicomFound):
        return _read_dicom(source, study, series, advance)
    if isinstance(source, str | os.PathLike):
        return _read_path(Path(source), study, series, advance)
    if study is not None or series is not None:
        raise InputError(type(source).__name__, *_NO_CHOICE)
    if isinstance(source, Volume):
        return Study(_MEMORY, _MEMORY, source, Acquisition(), notes=_note_uneven(source))
    image = find_image(source, affine)
    if image is None:
        raise InputError(
            "source", found=f"a {type(source).__name__}", needed=KINDS,
            remedy="wrap an array of HU: Volume(hu, SliceGrid.from_affine(affine, len(hu)))",
        )  # fmt: skip
    return _conclude_nifti(image.get_filename() or _MEMORY, *read_image(image, image.get_filename() or _MEMORY))


def _read_path(path: Path, study: str | None, series: int | None, advance: Advance) -> Study:
    if not is_nifti(path):
        found = scan(path)
        read = _read_dicom(found, study, series, advance)
        if found.path == path:
            return read
        note = (
            f"{spell(path.name)} is a DICOMDIR, a table of contents: the files that it lists were read from its "
            f"folder, {spell(found.path)}."
        )
        return replace(read, notes=(*read.notes, note))
    if study is not None or series is not None:
        raise InputError(path, *_NO_CHOICE)
    return _conclude_nifti(path, *read_volume(path))


def _conclude_nifti(path: Path | str, volume: Volume, grid: NiftiGrid) -> Study:
    volume, filled = _empty_filled_ends(volume)
    notes = (*(() if grid.states_orientation else (_NO_ORIENTATION,)), *grid.notes, *filled)
    return Study(_name(Path(path)), spell(path), volume, Acquisition(), nifti=grid, notes=notes)


def _empty_filled_ends(volume: Volume) -> tuple[Volume, tuple[str, ...]]:
    """Make air of slices at either end that hold one value of the body's, as padding to a size leaves; tell it."""
    tops, bottoms = volume.hu.max(axis=(1, 2)), volume.hu.min(axis=(1, 2))
    one_value = tops == bottoms
    scanned = np.flatnonzero(~one_value)
    if not scanned.size or bottoms.min() > _FILLED_HU:  # a picture of brain alone has no air to tell it from
        return volume, ()
    at_end = np.ones(len(tops), np.bool_)
    at_end[scanned[0] : scanned[-1] + 1] = False
    filled = np.flatnonzero(at_end & (bottoms > _FILLED_HU))
    if not filled.size:
        return volume, ()
    values = ", ".join(f"{one:g}" for one in np.unique(bottoms[filled])[:3])
    hu = volume.hu.copy()
    hu[filled] = _AIR_HU
    where = spans(int(one) + 1 for one in filled)
    note = (
        f"Slice {where} of {len(tops)} (from the feet), at the end of the volume, holds the single value {values} HU: "
        "filled in, not scanned. It was taken for air and is no part of the head."
    )
    return replace(volume, hu=hu), (note,)


def _read_dicom(found: DicomFound, study: str | None, series: int | None, advance: Advance) -> Study:
    read = read_series(found, study=study, series=series, advance=advance)
    notes = (*read.notes, *_note_uneven(read.volume))
    return Study(_name(found.path), spell(found.path), read.volume, read.acquisition, dicom=read, notes=notes)


def _note_uneven(volume: Volume) -> tuple[str, ...]:
    if volume.grid.is_even:
        return ()
    even = volume.grid.evenly(volume.hu[0].size)
    frame = ", in a larger frame that holds the slices at their places to half a pixel" if any(even.margin) else ""
    held = f"within {100 * even.off:.1f} %" if even.off > 0.0005 else "exactly"
    return (
        f"The slices are uneven. The NIfTI files are on an even grid of {len(even.slices)} layers, "
        f"{even.grid.spacing_mm[0]:.3g} mm apart, each a copy of the slice that it belongs to{frame}. "
        f"They hold each slice's volume {held}.",
    )


def _name(path: Path) -> str:
    """The path's last part without its ending, as every disk takes it."""
    return fit_name(stem(Path(os.path.abspath(path)).name))  # noqa: PTH100 - a link keeps its own name, not its target's
