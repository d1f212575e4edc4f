"""A study in, its result out: the whole way in one call, or in its steps."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bleedmap.arrays import FloatArray
from bleedmap.errors import InputError, SettingsError
from bleedmap.geometry import SliceGrid
from bleedmap.inference.backends import Backend, BackendRecord, Precision
from bleedmap.inference.certainty import Certainty, certainty_of, opened, settings_of
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.predict import preprocessing_of, segment_slices
from bleedmap.inference.weights import WeightsFile, locate
from bleedmap.io.dicom.acquisition import Acquisition
from bleedmap.io.dicom.read import read_series, scan
from bleedmap.io.dicom.series import DicomSeries
from bleedmap.io.nifti import NiftiGrid, is_nifti, read_volume
from bleedmap.postprocess import clear_small, to_mask
from bleedmap.study.findings import summarise_volume
from bleedmap.study.gate.check import Check
from bleedmap.study.gate.gate import check_input, refused
from bleedmap.study.result import Result
from bleedmap.volume import Mask, ProbabilityMap, Volume

_NO_ORIENTATION = (
    "The NIfTI file does not say where its axes point (sform and qform code 0): right and left, front and back, "
    "and the order of slices are guesses."
)
# Their warnings alone are no reason to give no verdict: the entry is often wrong; children are among the patients that
# the network was trained and measured on.
_NO_DOUBT = ("body part", "age")
MEASURED_SPACING_MM = (3.5, 7.5)  # CT-ICH's slices are 5 mm thick; nothing else was measured
_MEMORY = "volume"  # the source and name of a volume that came from no file
Advance = Callable[[int], None]


def _silent(slices: int) -> None:
    pass


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


def segment(
    source: str | Path | Volume,
    *,
    weights: str | Path | None = None,
    threshold: float | None = None,
    precision: Precision = "auto",
    accept: tuple[str, ...] = (),
    study: str | None = None,
    series: int | None = None,
) -> Result:
    """Find and outline hemorrhage in one head CT, on the CPU.

    Args:
        source: a folder, zip or file of DICOM, a NIfTI file in HU, or a `Volume`.
        weights: installed weights by name, or an .onnx file; None: the installed ones.
        threshold: lesion from this probability on; None: the weights' own.
        precision: as `bleedmap.inference.openvino_backend.OpenVinoBackend`.
        accept: names of input checks whose refusal is overruled, on the caller's responsibility.
        study: Study Instance UID, where the folder holds several.
        series: series number, in place of the one that would be chosen.

    Returns:
        The result; an empty mask where nothing was found. `bleedmap.results.save.save(result, folder)` writes it.

    Raises:
        InputError: unreadable, or refused by an input check.
        WeightsError: weights that are missing or damaged.
    """
    return Segmenter.load(weights, threshold=threshold, precision=precision).segment(
        read_study(source, study=study, series=series), accept=accept
    )


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A loaded network, ready for many studies.

    Raises:
        SettingsError: a threshold that is not above 0 and at most 1.
    """

    weights: WeightsFile
    backend: Backend
    threshold: float

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:  # false for NaN too
            raise SettingsError(
                "threshold", found=f"{self.threshold}", needed="a probability above 0, at most 1",
                remedy="leave it out for the weights' own",
            )  # fmt: skip

    @classmethod
    def load(
        cls,
        weights: str | Path | None = None,
        *,
        threshold: float | None = None,
        precision: Precision = "auto",
        threads: int | None = None,
        one_by_one: bool = False,
    ) -> "Segmenter":
        """Load weights into OpenVINO.

        Args:
            weights, threshold, precision: as `segment`.
            threads, one_by_one: of the network, as `OpenVinoBackend`.

        Raises:
            SettingsError: more threads than there are.
            WeightsError: weights that are missing or damaged.
        """
        chosen = locate(weights)
        settings_of(chosen)
        preprocessing_of(chosen)  # unusable settings are refused before the network is compiled
        backend = OpenVinoBackend(chosen, precision, threads, one_by_one)
        return cls(chosen, backend, chosen.threshold if threshold is None else threshold)

    def segment(self, study: Study, *, accept: tuple[str, ...] = (), advance: Advance = _silent) -> Result:
        """Check the study, then segment it.

        Args:
            study: as `read_study` gives it.
            accept: names of input checks whose refusal is overruled.
            advance: called with the number of slices finished since the last call.

        Raises:
            InputError: an input check refuses it.
        """
        checks = checked(study, accept)
        _, row_mm, column_mm = study.volume.grid.spacing_mm
        settings, told = settings_of(self.weights), None
        segmented = segment_slices(
            study.volume.hu, preprocessing_of(self.weights), self.backend, advance, (row_mm, column_mm),
            None if settings is None else partial(opened, settings=settings),
        )  # fmt: skip
        probability = segmented.probability
        if settings is not None:
            clear_small(probability, self.threshold, study.volume.grid.voxel_ml, settings.smallest_ml)
            mask = Mask(to_mask(probability, self.threshold), study.volume.grid)
            fitted = self.threshold == self.weights.threshold
            doubts = (*doubtful(checks), *_unlike_trained_slices(study.volume.grid))
            volume_ml = mask.volume_ml if fitted else None
            told = certainty_of(segmented, volume_ml, bool(mask.array.any()), settings, doubts)
        return conclude(study, checks, probability, self.weights, self.backend.record, self.threshold, told)


def read_study(
    source: str | Path | Volume, *, study: str | None = None, series: int | None = None, advance: Advance = _silent
) -> Study:
    """Read one study.

    Args:
        source, study, series: as `segment`.
        advance: called with the number of slices read since the last call.

    Raises:
        InputError: not a study that can be read, with the reason.
    """
    if not isinstance(source, str | Path | Volume):
        raise InputError(
            "source", found=f"a {type(source).__name__}", needed="a path, or a bleedmap.Volume with its grid",
            remedy="wrap an array of HU: Volume(hu, SliceGrid.from_affine(affine, len(hu)))",
        )  # fmt: skip
    if isinstance(source, Volume):
        return Study(_MEMORY, _MEMORY, source, Acquisition())
    path = Path(source)
    if is_nifti(path):
        if study is not None or series is not None:
            raise InputError(
                path, found="a study or series chosen for a NIfTI volume", needed="DICOM, which holds series",
                remedy="leave the choice out",
            )  # fmt: skip
        volume, grid = read_volume(path)
        unsure = () if grid.states_orientation else (_NO_ORIENTATION,)
        return Study(_name(path), printable(source), volume, Acquisition(), nifti=grid, notes=unsure)
    read = read_series(scan(path), study=study, series=series, advance=advance)
    notes = read.notes if read.volume.grid.is_even else (*read.notes, _uneven(read.volume.grid))
    return Study(_name(path), printable(source), read.volume, read.acquisition, dicom=read, notes=notes)


def _uneven(grid: SliceGrid) -> str:
    even, _ = grid.evenly()
    return (
        f"The slices are uneven. The NIfTI files are on an even grid, {len(even)} slices {even.spacing_mm[0]:.2f} mm "
        "apart, each the nearest of the original ones; the volumes stated here are exact, theirs are near."
    )


def printable(path: str | Path) -> str:
    """A path as text that can be printed and stored, whatever bytes it has."""
    return os.fsencode(path).decode("utf-8", "replace")


def _name(path: Path) -> str:
    """The path's last part without its ending, in characters that every disk takes."""
    name = Path(os.path.abspath(path)).name  # noqa: PTH100 - a link keeps its own name, not its target's
    for ending in (".nii.gz", ".nii", ".zip", ".dcm"):
        name = name[: -len(ending)] if name.lower().endswith(ending) else name
    return re.sub(r"[^\w.+-]+", "_", name).strip("._")[:80] or "study"


def checked(study: Study, accept: tuple[str, ...] = ()) -> tuple[Check, ...]:
    """The input checks of a study.

    Raises:
        InputError: one refuses it, and is not among `accept`.
        SettingsError: `accept` names no check.
    """
    checks = check_input(study.volume, study.acquisition)
    refusal = refused(study.source, checks, accept)
    if refusal is not None:
        raise refusal
    return checks


def doubtful(checks: tuple[Check, ...]) -> tuple[str, ...]:
    """Sentences that say which checks leave the network on ground where it was not measured."""
    return tuple(
        f"The input check '{one.name}' did not pass: {one.found}."
        for one in checks
        if one.verdict == "refusal" or (one.verdict == "warning" and one.name not in _NO_DOUBT)
    )


def _unlike_trained_slices(grid: SliceGrid) -> tuple[str, ...]:
    """Neighbours much nearer or farther than in training are other anatomy, and more slices are more chances to err."""
    low, high = MEASURED_SPACING_MM
    apart = grid.spacing_mm[0]
    if len(grid) < 2 or low <= apart <= high:
        return ()
    return (f"The slices are {apart:.1f} mm apart; the network was trained and measured on slices of 5 mm.",)


def conclude(
    study: Study,
    checks: tuple[Check, ...],
    probability: FloatArray,
    weights: WeightsFile,
    backend: BackendRecord,
    threshold: float,
    certainty: Certainty | None = None,
) -> Result:
    """Probability -> mask, lesions and their measures.

    Args:
        study: what was read.
        checks: of its input.
        probability: (slice, row, column) float32 in 0 to 1, on the study's grid.
        weights, backend, threshold: what made it, for the record.
        certainty: how sure the program is, where the weights say.
    """
    grid = study.volume.grid
    found = ProbabilityMap(probability, grid)
    mask = Mask(to_mask(probability, threshold), grid)
    return Result(
        name=study.name,
        source=study.source,
        volume=study.volume,
        mask=mask,
        probability=found,
        findings=summarise_volume(found, mask, study.volume.hu),
        checks=checks,
        acquisition=study.acquisition,
        dicom=study.dicom,
        nifti=study.nifti,
        weights=weights,
        backend=backend,
        threshold=threshold,
        notes=study.notes,
        certainty=certainty,
    )
