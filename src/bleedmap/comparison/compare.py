"""Compare two studies of one patient: order, alignment, lesions, growth, and whether growth can be claimed at all."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from bleedmap.arrays import ignore
from bleedmap.comparison.examination import Examination, Identity, examine, identify, open_source
from bleedmap.comparison.growth import Growth
from bleedmap.comparison.match import Group, match_lesions
from bleedmap.errors import InputError
from bleedmap.inference.backends import Precision
from bleedmap.registration import Alignment, align
from bleedmap.study.gate.gate import read_accepted
from bleedmap.study.segment import Segmenter
from bleedmap.study.sources import Source
from bleedmap.study.words import counted

EDITED_MASK = "its mask was changed since bleedmap wrote it, and is taken as it is. It has no interval and no verdict."
PATIENT, ORDER = "patient", "order"  # names that `accept` takes beside those of the input checks
NOTHING_SHOWN_BY_BOTH = (
    "All that is marked lies where one of the studies does not show the head, or not all of it: how much it has grown "
    "cannot be told."
)
NOT_ALIGNED = (
    "The two heads could not be laid upon each other: the skulls do not fit. They may be of two patients, or one study "
    "shows too little of the skull. Lesions are not compared one by one, and the pictures do not show the same places."
)


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Two studies of one patient, compared.

    Attributes:
        first, second: the studies.
        alignment: how the second head lies against the first.
        groups: lesions that belong together, the largest first; None where the heads could not be aligned.
        growth: of all lesions that both studies show; None where none may be claimed.
        reasons: why no growth is claimed, in sentences.
        notes: what else the reader must know, in sentences.
    """

    first: Examination
    second: Examination
    alignment: Alignment
    groups: tuple[Group, ...] | None
    growth: Growth | None
    reasons: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def hours(self) -> float | None:
        """From the first scan to the second one; None where a time is not known to the hour."""
        first, second = self.first.identity, self.second.identity
        if first.taken is None or second.taken is None or not (first.exact and second.exact):
            return None
        return (second.taken - first.taken) / timedelta(hours=1)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> dict[str, Any]:
        """Write page, picture, table and JSON into a new folder: `bleedmap.comparison.save.save`."""
        return dict(import_module("bleedmap.comparison.save").save(self, folder, overwrite=overwrite))

    def to_dict(self) -> dict[str, Any]:
        """Return what `compare.json` holds, without files."""
        return dict(import_module("bleedmap.comparison.tables").to_json(self, {}))

    def __repr__(self) -> str:
        said = import_module("bleedmap.comparison.words").headline(self)
        return f"Comparison({self.first.name!r}, {self.second.name!r}: {said})"


def compare(
    first: Source,
    second: Source,
    *,
    weights: str | Path | None = None,
    threshold: float | None = None,
    precision: Precision = "auto",
    accept: Iterable[str] = (),
) -> Comparison:
    """Compare two studies of one patient: growth in mL and per cent, lesion by lesion.

    Args:
        first, second: each a study as `bleedmap.read_study` takes it, a `Result`, or a folder of results that bleedmap
            wrote, whose mask is taken.
        weights, threshold, precision: as `bleedmap.segment`, for studies that are segmented now.
        accept: names of checks whose refusal is overruled: those of the input, 'patient' (two patient IDs) and 'order'
            (the first study is later than the second).

    Raises:
        InputError: a study cannot be used, the patient IDs differ, or the first is later.
    """
    load = cache(lambda: Segmenter.load(weights, threshold=threshold, precision=precision))
    wanted, of_inputs = split_accept(accept)
    return compare_examinations(*examine_pair(first, second, load, wanted, of_inputs), accept=wanted)


def examine_pair(
    first: Source, second: Source, load: Callable[[], Segmenter], accept: tuple[str, ...], of_inputs: tuple[str, ...],
    *, by_date: bool = False, report: Callable[[int, str], None] = ignore,
) -> tuple[Examination, Examination]:  # fmt: skip
    """Read both studies, make sure of patient and order, then segment them.

    Args:
        first, second: as `compare`.
        load: gives the network, when it is needed.
        accept, of_inputs: of `split_accept`.
        by_date: the dates decide which is first, where both are known.
        report: called with steps done, of four, and what comes next.

    Raises:
        InputError: as `compare`.
    """
    report(0, "reading")
    opened = [open_source(one) for one in (first, second)]
    if by_date and _is_later(*map(identify, opened)):
        opened.reverse()
    one, other = map(identify, opened)
    check_pair(one, other, accept)
    report(1, "first study")
    earlier = examine(opened[0], load, of_inputs)
    report(2, "second study")
    return earlier, examine(opened[1], load, of_inputs)


def split_accept(accept: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split names of checks into those of the pair and those of the inputs.

    Raises:
        SettingsError: a name that no check has.
    """
    names = (accept,) if isinstance(accept, str) else tuple(accept)
    pair = tuple(one for one in (name.strip().lower() for name in names) if one in (PATIENT, ORDER))
    rest = tuple(one for one in names if one.strip().lower() not in (PATIENT, ORDER))
    read_accepted(rest)
    return pair, rest


def compare_examinations(first: Examination, second: Examination, *, accept: tuple[str, ...] = ()) -> Comparison:
    """`compare` of two studies that are segmented.

    Raises:
        InputError: the patient IDs differ, or the first is later.
    """
    notes = check_pair(first.identity, second.identity, accept)
    notes += [f"The {name} study: {EDITED_MASK}" for name, one in _named(first, second) if one.edited]
    alignment = align(first.volume, second.volume)
    groups = match_lesions(first, second, alignment) if alignment.fits else None
    if groups is None:
        notes.append(NOT_ALIGNED)
    reasons = _list_reasons(first, second)
    apart = [one for one in groups or () if not one.compared]
    kept = [one for one in groups or () if one.compared]
    if apart and not kept:
        reasons += (NOTHING_SHOWN_BY_BOTH,)
    growth = None
    if not reasons and not apart:
        spans = [None if one.certainty is None else one.certainty.volume_ml for one in (first, second)]
        coverage = first.certainty.coverage if first.certainty is not None and None not in spans else None
        growth = Growth(first.volume_ml, second.volume_ml, spans[0], spans[1], coverage)
    elif not reasons:
        growth = Growth(sum(one.first_ml for one in kept), sum(one.second_ml for one in kept), left_out=True)
        left = [sum(getattr(one, side) for one in apart) for side in ("first_ml", "second_ml")]
        notes.append(
            "Some lesions lie where one of the studies does not show the head. They are left out of the growth: "
            f"{left[0]:.1f} mL of the first study, {left[1]:.1f} mL of the second. What is left has no interval."
        )
    return Comparison(first, second, alignment, groups, growth, reasons, tuple(notes))


def _named(first: Examination, second: Examination) -> tuple[tuple[str, Examination], ...]:
    return ("first", first), ("second", second)


def check_pair(first: Identity, second: Identity, accept: tuple[str, ...] = ()) -> list[str]:
    """Make sure of one patient and the right order; return what the reader must know of both, in sentences.

    Raises:
        InputError: the patient IDs differ, or the first is later, and `accept` does not name it.
    """
    notes = [*_check_patient(first, second, accept), *_check_order(first, second, accept)]
    same = first.series is not None and first.series == second.series
    return [*notes, "Both inputs are the same series."] if same else notes


def _check_patient(first: Identity, second: Identity, accept: tuple[str, ...]) -> list[str]:
    """Refuse two patients; the IDs themselves are told nowhere."""
    if first.patient is None or second.patient is None:
        return ["Whether both studies are of one patient is not known: not both carry a Patient ID."]
    if first.patient == second.patient:
        return []
    if PATIENT not in accept:
        raise InputError(
            second.source, found=f"its Patient ID differs from that of {first.source}",
            needed="two studies of one patient",
            remedy="check the two; if it is one patient under two IDs, go on with --accept patient",
        )  # fmt: skip
    return ["The Patient IDs of the two studies differ; the comparison was asked for all the same."]


def _is_later(first: Identity, second: Identity) -> bool:
    """Whether the first is known to be later: by date and time where both are known, else by date."""
    if first.taken is None or second.taken is None:
        return False
    if first.exact and second.exact:
        return first.taken > second.taken
    return first.taken.date() > second.taken.date()


def _check_order(first: Identity, second: Identity, accept: tuple[str, ...]) -> list[str]:
    if first.taken is None or second.taken is None:
        return ["Which study is the earlier one is not known: not both carry a date. The order given was taken."]
    if not _is_later(first, second):
        if _is_later(second, first):
            return []
        if first.exact and second.exact:
            return ["Both studies carry the same date and time. The order given was taken."]
        return ["Both studies are of one day, and not both tell the time. The order given was taken."]
    gap = describe_gap(first, second)
    if ORDER not in accept:
        raise InputError(
            first.source, found=f"it was scanned {gap} later than {second.source}", needed="the earlier study first",
            remedy="give the two in the other order; if the dates are wrong, go on with --accept order",
        )  # fmt: skip
    return [f"By its date the first study is {gap} later; the order given was taken."]


def describe_gap(one: Identity, other: Identity) -> str:
    """Say how far two studies are apart: '26.5 hours', '12 days'."""
    assert one.taken is not None
    assert other.taken is not None
    gap = abs(one.taken - other.taken)
    if one.exact and other.exact and gap < timedelta(days=3):
        return f"{gap / timedelta(hours=1):.1f} hours"
    return counted(abs((one.taken.date() - other.taken.date()).days), "day")


def _list_reasons(first: Examination, second: Examination) -> tuple[str, ...]:
    """Why no growth may be claimed, in sentences; none where it may."""
    reasons = [
        f"The program gives no verdict on the {name} study: {' '.join(one.certainty.abstained)}"
        for name, one in _named(first, second)
        if one.certainty is not None and one.certainty.abstained
    ]
    made = [(one.weights_sha256, one.threshold) for one in (first, second) if not one.edited]
    if len(set(made)) > 1:
        reasons.append(
            "The two studies were segmented with different weights or thresholds: a difference may come from these. "
            "Segment both again with the same."
        )
    return tuple(reasons)
