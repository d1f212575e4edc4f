"""One of two studies to compare: segmented now, or taken from a folder of results with the mask that lies there."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset

from bleedmap.errors import InputError, spell
from bleedmap.inference.certainty import Certainty
from bleedmap.io.dicom.header import text
from bleedmap.io.nifti import read_result
from bleedmap.results.save import read_again, read_summary
from bleedmap.results.tables import FORMAT
from bleedmap.study.inputs import gather
from bleedmap.study.read import Study, read_study
from bleedmap.study.result import Findings, Result, summarise_volume
from bleedmap.study.segment import Segmenter
from bleedmap.study.sources import Source
from bleedmap.study.words import Verdict, verdict
from bleedmap.volume import Mask, ProbabilityMap, Volume

_TIMES = ("Acquisition", "Content", "Series", "Study")  # the nearest to the scan first


@dataclass(frozen=True)
class Identity:
    """Whose study it is and of when, as far as its files say.

    `patient`: Patient ID; None where there is none. It is compared, and never written.
    """

    source: str  # as given
    taken: datetime | None = None  # when it was scanned; None where the files do not say
    exact: bool = False  # whether `taken` holds the time of day too
    patient: str | None = field(default=None, repr=False)
    series: str | None = None  # Series Instance UID; None for other inputs than DICOM


@dataclass(frozen=True, eq=False, repr=False)
class Examination:
    """One study, as the comparison takes it.

    `mask`, `probability`: on the same grid.
    `certainty`: how sure the program is; None for weights that do not say, and for a mask that was changed.
    `threshold`, `weights`, `weights_sha256`: what it was segmented with.
    """

    name: str  # the study's
    identity: Identity  # whose it is and of when
    volume: Volume  # in HU, in the standard view
    mask: Mask
    probability: ProbabilityMap
    findings: Findings  # lesions, volumes, slices
    certainty: Certainty | None
    threshold: float
    weights: str
    weights_sha256: str
    warnings: tuple[str, ...]  # names of the input checks that did not pass
    notes: tuple[str, ...]  # what reading and segmenting had to decide
    edited: bool = False  # whether the mask is not the program's own any more

    @property
    def verdict(self) -> Verdict:
        """What the program says of the study."""
        return verdict(self.findings, self.certainty)

    @property
    def volume_ml(self) -> float:
        """Of all lesions, on the study's own slices."""
        return self.findings.volume_ml or 0.0


Opened = Examination | Result | Study  # what was read, before anything is segmented


def open_source(source: Source | Result | Examination) -> Opened:
    """Read a study: a result as it is, a folder of results with its mask, anything else as `bleedmap.read_study`.

    Raises:
        InputError: unreadable, pictures, or results whose study is not where it was.
    """
    if isinstance(source, Examination | Result):
        return source
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        content = read_summary(path)
        if content is not None and content.get("format") == FORMAT:
            return _from_results(path, content)
        if content is not None or (path.exists() and gather([path]).study is None):
            raise InputError(
                path, found="pictures, whose pixels have no size and whose slices have no place",
                needed="two studies as DICOM or NIfTI in HU, or results of such: growth is a difference of mL",
                remedy="export the studies as DICOM or NIfTI; `bleedmap segment` marks pictures one by one",
            )  # fmt: skip
    return read_study(source)


def identify(opened: Opened) -> Identity:
    """Say whose study it is and of when."""
    if isinstance(opened, Examination):
        return opened.identity
    if opened.dicom is None:
        return Identity(opened.source)
    header = opened.dicom.headers[0]
    return Identity(opened.source, *read_time(header), text(header, "PatientID"), text(header, "SeriesInstanceUID"))


def examine(opened: Opened, load: Callable[[], Segmenter], accept: tuple[str, ...] = ()) -> Examination:
    """Segment what was opened, where it is not segmented yet.

    Args:
        load: gives the network, when it is needed.
        accept: names of input checks whose refusal is overruled.

    Raises:
        InputError: an input check refuses it.
    """
    if isinstance(opened, Examination):
        return opened
    result = opened if isinstance(opened, Result) else load().segment(opened, accept=accept)
    return Examination(
        result.name, identify(result), result.volume, result.mask, result.probability, result.findings,
        result.certainty, result.threshold, result.weights.name, result.weights.sha256,
        tuple(one.name for one in result.warnings), result.notes,
    )  # fmt: skip


def read_time(header: Dataset) -> tuple[datetime | None, bool]:
    """Read when a slice was scanned, and whether the time of day is known: acquisition, content, series, or study."""
    known = [_parse_time(text(header, "AcquisitionDateTime") or "")]
    known += [
        _parse_time((text(header, f"{one}Date") or "") + (text(header, f"{one}Time") or "").replace(":", ""))
        for one in _TIMES
        if text(header, f"{one}Date")
    ]
    exact = next((one for one in known if one[1]), None)
    return exact or next((one for one in known if one[0]), (None, False))


def _parse_time(value: str) -> tuple[datetime | None, bool]:
    """Parse DICOM's YYYYMMDDHHMMSS, from the left as much as there is, the date at least. PS3.5 6.2."""
    digits = value.split(".", maxsplit=1)[0].split("+", maxsplit=1)[0].split("-", maxsplit=1)[0]
    for length, form in ((14, "%Y%m%d%H%M%S"), (12, "%Y%m%d%H%M"), (8, "%Y%m%d")):
        if len(digits) >= length:
            try:
                return datetime.strptime(digits[:length], form), length > 8
            except ValueError:
                continue
    return None, False


def _from_results(place: Path, content: dict[str, Any]) -> Examination:
    study, _ = read_again(place)
    shape = study.volume.hu.shape
    array, found = (
        read_result(place / content["files"][what], study.volume.grid, shape, study.nifti)
        for what in ("mask", "probability")
    )
    mask, probability = Mask(array > 0, study.volume.grid), found.astype(np.float32)
    told = [one["lesion_pixels"] for one in content["slices"]]
    edited = mask.array.sum(axis=(1, 2)).tolist() != told or bool(
        (mask.array != (probability >= content["threshold"])).any()
    )
    shown = ProbabilityMap(mask.array.astype(np.float32) if edited else probability, mask.grid)
    return Examination(
        content["name"], replace(identify(study), source=spell(place)), study.volume, mask, shown,
        summarise_volume(shown, mask, study.volume), None if edited else _read_certainty(content),
        content["threshold"], content["weights"]["name"], content["weights"]["sha256"],
        tuple(one["name"] for one in content["checks"] if one["verdict"] in ("warning", "refusal")),
        tuple(content["notes"]), edited,
    )  # fmt: skip


def _read_certainty(content: dict[str, Any]) -> Certainty | None:
    told = content["certainty"]
    if told is None:
        return None
    return Certainty(
        tuple(one["slice_probability"] for one in content["slices"]), told["study_probability"],
        tuple(told["types"].items()), None if told["volume_ml"] is None else tuple(told["volume_ml"]),
        told["coverage"], tuple(told["abstained"]),
    )  # fmt: skip
