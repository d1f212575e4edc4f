"""Segment a study: from what was read to its result, in one call or step by step."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from bleedmap.arrays import BoolArray, FloatArray, ignore
from bleedmap.errors import BleedmapError, InputError, SettingsError
from bleedmap.geometry import AxialTurn, SliceGrid
from bleedmap.inference.backends import Backend, BackendRecord, Precision
from bleedmap.inference.certainty import Certainty
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.outline import Outline, outline_slices
from bleedmap.inference.slabs import Slabs, make_slabs
from bleedmap.inference.weights import MeasuredOn, WeightsFile, locate
from bleedmap.postprocess import to_mask
from bleedmap.study.gate.check import Check
from bleedmap.study.gate.gate import check_input, find_refusal
from bleedmap.study.read import Advance, Study, read_study
from bleedmap.study.result import Result, summarise_volume
from bleedmap.study.sources import Source
from bleedmap.volume import Mask, ProbabilityMap, Volume

# Their warnings alone are no reason to give no verdict: the entry is often wrong; children are among the patients that
# the network was trained and measured on.
_NO_DOUBT = ("body part", "age")


def segment(
    source: Source,
    *,
    affine: object = None,
    name: str | None = None,
    weights: str | Path | None = None,
    threshold: float | None = None,
    precision: Precision = "auto",
    accept: tuple[str, ...] = (),
    study: str | None = None,
    series: int | None = None,
) -> Result:
    """Find and outline hemorrhage in one head CT, on the CPU.

    Args:
        source, affine, name: as `bleedmap.read_study`.
        weights: installed weights by name, or an .onnx file; None: the installed ones.
        threshold: lesion from this probability on; None: the weights' own.
        precision: as `bleedmap.inference.openvino_backend.OpenVinoBackend`.
        accept: names of input checks whose refusal is overruled, on the caller's responsibility.
        study: Study Instance UID, where the folder holds several.
        series: series number, in place of the one that would be chosen.

    Returns:
        The result; an empty mask where nothing was found. `result.save(folder)` writes it.

    Raises:
        InputError: unreadable, or refused by an input check.
        WeightsError: weights that are missing or damaged.
    """
    return Segmenter.load(weights, threshold=threshold, precision=precision).segment(
        read_study(source, affine=affine, name=name, study=study, series=series), accept=accept
    )


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one of many studies: `result`, or the `error` that refused it."""

    source: Source
    result: Result | None
    error: BleedmapError | None


def segment_many(
    sources: Iterable[Source],
    *,
    weights: str | Path | None = None,
    threshold: float | None = None,
    precision: Precision = "auto",
    accept: tuple[str, ...] = (),
) -> Iterator[Outcome]:
    """Segment many studies with one loaded network, one after the other; a study that is refused stops nothing.

    Args:
        sources: each as `bleedmap.read_study` takes it without an affine.
        weights, threshold, precision, accept: as `segment`.

    Yields:
        An outcome for each source, in their order.

    Raises:
        WeightsError: weights that are missing or damaged.
    """
    segmenter = Segmenter.load(weights, threshold=threshold, precision=precision)
    for source in sources:
        try:
            yield Outcome(source, segmenter.segment(read_study(source), accept=accept), None)
        except InputError as error:
            yield Outcome(source, None, error)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A study as a network is shown it, in use and in training."""

    axial: Study  # the study with axial slices, cut from coronal or sagittal ones where they were not
    turn: AxialTurn | None  # how they were cut; None where they were axial
    slabs: Slabs | None  # what is shown in place of thin slices; None where none are thin
    checks: tuple[Check, ...]  # of its input

    @property
    def volume(self) -> Volume:
        """The slices that the network is shown."""
        return self.axial.volume if self.slabs is None else self.slabs.volume

    def share(self, mask: BoolArray) -> FloatArray:
        """A mask on the study's own slices -> its share, 0 to 1, of each pixel of `volume`."""
        axial = mask if self.turn is None else self.turn.apply(mask)
        return np.asarray(axial, np.float32) if self.slabs is None else self.slabs.average(axial)


def prepare(study: Study, measured: MeasuredOn, accept: tuple[str, ...] = ()) -> Prepared:
    """Turn, check and average a study for a network that knows slices as `measured` has them.

    Raises:
        InputError: an input check refuses it, and is not among `accept`.
    """
    turn = AxialTurn.find(study.volume.grid)
    axial = study if turn is None else _cut_axial(study, turn)
    slabs = make_slabs(axial.volume, measured)
    return Prepared(axial, turn, slabs, check_study(axial, accept, slabs))


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
        backend = OpenVinoBackend(chosen, precision, threads, one_by_one)
        return cls(chosen, backend, chosen.threshold if threshold is None else threshold)

    def segment(self, study: Study, *, accept: tuple[str, ...] = (), advance: Advance = ignore) -> Result:
        """Check the study, then segment it; of thin slices the network is shown slabs.

        Args:
            study: as `read_study` gives it.
            accept: names of input checks whose refusal is overruled.
            advance: called with the number of slices finished since the last call.

        Raises:
            InputError: an input check refuses it.
        """
        prepared = prepare(study, self.weights.measured_on, accept)
        turn, slabs, checks, shown = prepared.turn, prepared.slabs, prepared.checks, prepared.volume
        doubts = [f"The input check '{one.name}' did not pass: {one.found}." for one in find_doubtful(checks)]
        doubts += _doubt_spacing(shown.grid, self.weights.measured_on)
        outline = outline_slices(
            shown.hu, self.weights, self.backend, grid=shown.grid, threshold=self.threshold, slabs=slabs,
            doubts=tuple(doubts), advance=advance if slabs is None else _count_slices(advance, slabs),
        )  # fmt: skip
        if turn is not None:
            study, outline = replace(study, notes=prepared.axial.notes), _turn_back(outline, turn)
        return conclude(
            study, checks, outline.probability, self.weights, self.backend.record, self.threshold, outline.certainty,
            slabs,
        )  # fmt: skip


def _cut_axial(study: Study, turn: AxialTurn) -> Study:
    """Cut axial slices from coronal or sagittal ones, for the network and the input checks; say so."""
    hu, grid = study.volume.hu, study.volume.grid
    axial = Volume(turn.apply(hu), turn.turn_grid(grid, hu.shape))
    side = "sagittal" if abs(grid.normal[0]) > abs(grid.normal[1]) else "coronal"
    note = (
        f"The slices are {side}. {len(axial.grid):,} axial ones were cut from them, {axial.grid.spacing_mm[0]:.2f} mm "
        f"apart, on which the input checks and the network looked; nothing was resampled. The outline is given on the "
        f"{len(grid):,} {side} slices, each with the highest probability of the axial slices in which it is marked."
    )
    return replace(study, volume=axial, notes=(*study.notes, note))


def _turn_back(outline: Outline, turn: AxialTurn) -> Outline:
    """Give the outline of axial slices on the slices that they were cut from."""
    probability, mask = turn.undo(outline.probability), turn.undo(outline.mask)
    certainty = outline.certainty
    if certainty is not None:
        along = turn.order[0]  # rows or columns: the axis along which the axial slices follow one another
        each = np.array(certainty.slices)[:: -1 if turn.reverse[0] else 1]
        slices = np.where(mask.any(axis=3 - along), each, each.min()).max(axis=1)
        certainty = replace(certainty, slices=tuple(slices.tolist()))
    return Outline(probability, mask, certainty)


def _count_slices(advance: Advance, slabs: Slabs) -> Advance:
    """Report finished slabs as the slices that lie in them."""
    held = iter(np.bincount(slabs.home, minlength=len(slabs.shares)).tolist())
    return lambda done: advance(sum(islice(held, done)))


def check_study(study: Study, accept: tuple[str, ...] = (), slabs: Slabs | None = None) -> tuple[Check, ...]:
    """Make the input checks of a study; of thin slices by the slabs where they speak of what the network is shown.

    Raises:
        InputError: one refuses it, and is not among `accept`.
        SettingsError: `accept` names no check.
    """
    checks = check_input(study.volume, study.acquisition, slabs)
    refusal = find_refusal(study.source, checks, accept)
    if refusal is not None:
        raise refusal
    return checks


def find_doubtful(checks: tuple[Check, ...]) -> tuple[Check, ...]:
    """Return the checks whose outcome leaves the network where it was not measured, so that it gives no verdict."""
    return tuple(
        one for one in checks if one.verdict == "refusal" or (one.verdict == "warning" and one.name not in _NO_DOUBT)
    )


def _doubt_spacing(grid: SliceGrid, measured: MeasuredOn) -> tuple[str, ...]:
    """Say whether slices lie nearer or farther than in training: neighbours show other anatomy then."""
    low, high = measured.spacing_mm
    apart = grid.spacing_mm[0]
    if len(grid) < 2 or low <= apart <= high:
        return ()
    slices = f"slices of {measured.thickness_mm:g} mm"
    return (f"The slices are {apart:.1f} mm apart; the network was trained and measured on {slices}.",)


def conclude(
    study: Study,
    checks: tuple[Check, ...],
    probability: FloatArray,
    weights: WeightsFile,
    backend: BackendRecord,
    threshold: float,
    certainty: Certainty | None = None,
    slabs: Slabs | None = None,
) -> Result:
    """Make a result of a study's probability: mask, lesions and their measures.

    Args:
        probability: (slice, row, column) float32 in 0 to 1, on the study's grid.
        weights, backend, threshold: what made it, for the record.
        certainty: how sure the program is, where the weights say.
        slabs: what the network was shown of thin slices.
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
        findings=summarise_volume(
            found, mask, study.volume, sides_known=study.nifti is None or study.nifti.states_orientation
        ),
        checks=checks,
        acquisition=study.acquisition,
        dicom=study.dicom,
        nifti=study.nifti,
        weights=weights,
        backend=backend,
        threshold=threshold,
        notes=study.notes if slabs is None else (*study.notes, slabs.note),
        certainty=certainty,
        slabs=slabs,
    )
