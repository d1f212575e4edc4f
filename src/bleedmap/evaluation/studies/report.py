"""The report of an external validation: JSON for programs, tables as CSV, and one HTML page that stands alone."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bleedmap import RESEARCH_ONLY, __version__
from bleedmap.evaluation.studies.find import Cases
from bleedmap.evaluation.studies.patients import Patients
from bleedmap.evaluation.studies.run import ExternalOptions, ExternalStudy, read_choices
from bleedmap.evaluation.studies.scores import ExternalScores, external_scores, to_records
from bleedmap.io.files import write_json
from bleedmap.metrics import overlap
from bleedmap.page.section import Section, estimate_or_dash, or_dash, tabulate
from bleedmap.page.writer import write_csv, write_page
from bleedmap.study.segment import Segmenter

REPORT_JSON, REPORT_HTML, RECORDS = "report.json", "report.html", "records.json"
_FORMAT = "bleedmap external validation 2"
_EXAMPLES = 5
_NUMBER = re.compile(r"\d+(\.\d+)?")
_PLOT = (520, 260)  # of the agreement plot, in units of its own


@dataclass(frozen=True, eq=False)
class ExternalReport:
    """What is written: `content` as JSON holds it, and the scores."""

    content: dict[str, Any]
    scores: ExternalScores | None


def write_report(
    out: Path, found: Cases, studies: Sequence[ExternalStudy], patients: Patients, segmenter: Segmenter,
    options: ExternalOptions,
) -> ExternalReport:  # fmt: skip
    """Score the studies and write all files of the report into the folder of `run_external`; each is written whole.

    Raises:
        OutputError: the folder cannot be written.
    """
    about = _describe(found, segmenter, options)
    records = to_records(studies, patients, segmenter.weights.name, read_choices(segmenter), about)
    scores = external_scores(records, studies, patients) if records.studies else None
    rows, lesions = tuple(_study_rows(studies, patients)), tuple(_lesion_rows(studies))
    content = {
        "format": _FORMAT, "research_only": RESEARCH_ONLY, "program": {"name": "bleedmap", "version": __version__},
        **about, "counts": _counts(found, studies, patients, rows), "patients_told": patients.told,
        "left_out": _group((one.reason, one.what) for one in found.left_out),
        "refused": [{"study": one.name, "error": one.error} for one in studies if one.status == "refused"],
        "notes": _notes(studies),
        "scores": None if scores is None else scores.to_dict(), "studies": rows,
    }  # fmt: skip
    write_json(out / REPORT_JSON, content)
    records.write(out / RECORDS)
    _write_rows(out / "studies.csv", rows)
    if scores is not None:
        _write_rows(out / "measures.csv", [asdict(one) for one in scores.measures])
    if lesions:
        _write_rows(out / "lesions.csv", lesions)
    sections = [] if scores is None else [_measures(scores), *_volumes(scores), *_lesions_and_surfaces(scores)]
    write_page(
        out / REPORT_HTML, "external.html", content=content, plot=_plot(rows, scores),
        sections=[*sections, _each_study(rows)],
    )  # fmt: skip
    return ExternalReport(content, scores)


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    write_csv(path, rows[0], [list(row.values()) for row in rows])


def _describe(found: Cases, segmenter: Segmenter, options: ExternalOptions) -> dict[str, Any]:
    weights, backend = segmenter.weights, segmenter.backend.record
    return {
        "weights": {"name": weights.name, "sha256": weights.sha256, "trained_on": weights.trained_on},
        "backend": asdict(backend), "threshold": segmenter.threshold, "folder": str(found.folder),
        "no_mask_means": options.no_mask, "accept": sorted(options.accept), "window": asdict(options.window),
        "understood": list(found.notes),
    }  # fmt: skip


def _counts(
    found: Cases, studies: Sequence[ExternalStudy], patients: Patients, rows: Sequence[dict[str, Any]]
) -> dict[str, int | None]:
    measured = [one for one in rows if one["status"] == "measured"]
    return {
        "studies_with_reference": len(found.cases),
        "measured": len(measured),
        "refused": sum(one.status == "refused" for one in studies),
        "left_out": len(found.left_out),
        "patients": len({patients.of[one["study"]] for one in measured}),
        "bleeding_studies": sum(one["bleeds"] for one in measured),
        "slices": sum(one["slices"] for one in measured),
        "lesion_slices": None
        if any(one["lesion_slices"] is None for one in measured)  # labels of studies alone
        else sum(one["lesion_slices"] for one in measured),
    }


def _notes(studies: Sequence[ExternalStudy]) -> list[dict[str, Any]]:
    """What reading had to decide, and why there is no verdict: without numbers, so that it is told once."""
    why = ((one.name, words) for one in studies if one.record for words in one.record.verdict.abstained)
    silent = ((f"No verdict: {_NUMBER.sub('…', words)}", name) for name, words in why)
    return _group([*((note, one.name) for one in studies for note in one.notes), *silent])


def _group(pairs: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """(reason, what) -> each reason with its count and some examples, most frequent first."""
    held: dict[str, list[str]] = {}
    for reason, what in pairs:
        held.setdefault(reason, []).append(what)
    by_count = sorted(held.items(), key=lambda one: -len(one[1]))
    return [{"reason": reason, "count": len(what), "examples": what[:_EXAMPLES]} for reason, what in by_count]


def _study_rows(studies: Sequence[ExternalStudy], patients: Patients) -> Iterable[dict[str, Any]]:
    numbers = patients.numbers()
    for one in studies:
        record, size, surface = one.record, one.size, one.size.surface if one.size is not None else None
        whole = None if record is None else record.counts.pooled()
        outlined = whole is not None and record is not None and record.known == "outlines"
        yield {
            "study": one.name, "patient": numbers[one.name], "status": one.status,
            "slices": None if record is None else len(record.numbers),
            "bleeds": None if whole is None else bool(whole.reference[0]),
            "lesion_slices": None if record is None or record.known == "study"
            else int((record.counts.reference > 0).sum()),
            "reference_pixels": int(whole.reference[0]) if whole is not None and outlined else None,
            "marked_pixels": None if whole is None else int(whole.predicted[0]),
            "shared_pixels": int(whole.true_positive[0]) if whole is not None and outlined else None,
            "dice": _dice(one),
            "highest_probability": None if record is None else float(record.highest.max()),
            "study_probability": None if record is None else record.verdict.study,
            "reference_ml": None if size is None else size.reference_ml,
            "marked_ml": None if size is None else size.marked_ml,
            "hd95_mm": None if surface is None else surface.hd95_mm,
            "mean_surface_mm": None if surface is None else surface.mean_mm,
            "seconds": one.seconds, "error": one.error,
        }  # fmt: skip


def _dice(one: ExternalStudy) -> float | None:
    """Dice of the whole study; None without a lesion, as in the protocol."""
    if one.record is None or one.record.known != "outlines" or not one.record.counts.reference.any():
        return None
    return round(float(overlap.dice(one.record.counts.pooled(), empty=np.nan)[0]), 6)


def _lesion_rows(studies: Sequence[ExternalStudy]) -> Iterable[dict[str, Any]]:
    """The reference's lesions, largest first in each study."""
    for one in studies:
        if one.record is None or one.record.known != "outlines":
            continue
        pieces = one.record.lesions
        for row, voxels in enumerate(pieces.voxels.tolist()):
            yield {
                "study": one.name, "lesion": row + 1, "voxels": voxels,
                "volume_ml": None if one.size is None else one.size.lesions_ml[row],
                "shared_voxels": int(pieces.shared[row]), "best_iou": float(pieces.best_iou[row]),
                "touched": bool(pieces.touched[row]), "overlapped": bool(pieces.overlapped[row]),
            }  # fmt: skip


def _measures(scores: ExternalScores) -> Section:
    tables = []
    for group in dict.fromkeys(one.group for one in scores.measures):
        rows = [
            {"measure": one.title, "of": one.over, "value": estimate_or_dash(one.value, one.low, one.high),
             "cases": one.cases, "patients": one.patients, "how it counts": one.convention}
            for one in scores.measures if one.group == group
        ]  # fmt: skip
        tables.append(tabulate(group.replace(" ", "-"), group.capitalize(), "", rows))
    words = (
        "As in the cross-validation protocol (docs/protocol.md), where its measures apply to one network and a folder "
        "of studies: a lesion of which nothing is marked scores 0; lesion-free slices and studies lend no Dice, and "
        "false alarms on them are counted. In brackets 95 % intervals, which draw patients with all their studies: "
        f"percentile bootstrap, {scores.table.resamples:,} draws; a share of 0 or 1 has Wilson's, of one patient too. "
        "They hold the network fixed, and with few patients they are too narrow. A figure that cannot be had is a dash."
    )
    return Section("measures", "Measures", (words,), tuple(tables))


def _volumes(scores: ExternalScores) -> Iterator[Section]:
    if not scores.volumes:
        return
    rows = [
        {"studies": group, "number": one.studies,
         "bias": estimate_or_dash(one.bias, *(one.bias_interval or (None, None))),
         "lower limit of agreement": or_dash(one.low), "upper limit of agreement": or_dash(one.high),
         "mean absolute difference": one.mean_absolute, "median absolute difference": one.median_absolute}
        for group, one in scores.volumes.items()
    ]  # fmt: skip
    words = (
        "Marked minus reference, in mL, of all lesions of a study: bias with its interval over patients, and limits of "
        "agreement (bias ± 1.96 standard deviations; Bland and Altman 1986): where 95 % of single differences lie, if "
        "they are spread normally. Bleed-free studies narrow the limits of all studies: read the bleeding ones."
    )
    table = tabulate("volumes", "Agreement of volumes, mL", "", rows, dict.fromkeys(rows[0], 2))
    yield Section("volumes", "Volumes", (words,), (table,))


def _lesions_and_surfaces(scores: ExternalScores) -> Iterator[Section]:
    words, tables = [], []
    if scores.lesions:
        note = "26-connected pieces of 10 voxels or more."
        tables.append(tabulate("lesions-by-size", "Lesions found, by size", note, [
            {"lesions of the reference": one.size, "number": one.lesions, "touched by a mark": one.touched,
             "overlapped (IoU ≥ 0.1)": one.overlapped}
            for one in scores.lesions
        ]))  # fmt: skip
    if (of := scores.surfaces) is not None:
        words.append(
            f"Surfaces of the two masks, in the {of.studies} studies where both mark something on an even, upright "
            f"grid: HD95 {of.hd95_median_mm:.1f} mm (median; quartiles {of.hd95_quartiles_mm[0]:.1f} and "
            f"{of.hd95_quartiles_mm[1]:.1f} mm), mean surface distance {of.mean_median_mm:.1f} mm (median). Studies of "
            "which all was missed have no distance: read them beside the sensitivity."
        )
    if words or tables:
        yield Section("lesions", "Lesions and surfaces", tuple(words), tuple(tables))


def _each_study(rows: Sequence[dict[str, Any]]) -> Section:
    columns = {
        "study": "study", "patient": "patient", "status": "status", "bleeds": "bleeds",
        "probability": "study_probability",
        "slices": "slices", "with lesion": "lesion_slices", "reference, pixels": "reference_pixels",
        "marked, pixels": "marked_pixels", "Dice": "dice", "reference, mL": "reference_ml", "marked, mL": "marked_ml",
        "HD95, mm": "hd95_mm",
    }  # fmt: skip
    columns = {head: name for head, name in columns.items() if any(row[name] is not None for row in rows)}
    digits = {"probability": 2, "reference, mL": 2, "marked, mL": 2, "HD95, mm": 1}
    words = {True: "yes", False: "no"}
    shown = [
        {
            head: words[row[name]]
            if isinstance(row[name], bool)
            else str(row[name])
            if name == "patient"  # a number that is a name
            else or_dash(row[name])
            for head, name in columns.items()
        }
        for row in rows
    ]
    about = "Bleeds: by the reference. Probability: of the study, that it bleeds, by the program."
    return Section("studies", "Studies", (), (tabulate("each-study", "Each study", about, shown, digits),))


def _plot(rows: Sequence[dict[str, Any]], scores: ExternalScores | None) -> dict[str, Any] | None:
    """Bland and Altman's picture of the studies whose pixels have a size: means of the two volumes, and differences.

    Returns:
        Points and the three lines in the plot's own units, with the axes' ends in mL.
    """
    if scores is None or "all" not in scores.volumes:
        return None
    agreed = scores.volumes["all"]
    known = [one for one in rows if one["marked_ml"] is not None]
    sized = [(one["reference_ml"], one["marked_ml"], one["study"]) for one in known]
    means, apart = [(one + two) / 2 for one, two, _ in sized], [two - one for one, two, _ in sized]
    lines = [value for value in (agreed.bias, agreed.low, agreed.high) if value is not None]
    right, reach = max(*means, 1.0), 1.1 * max(*(abs(one) for one in (*apart, *lines)), 0.5)
    width, height = _PLOT

    def down(value: float) -> float:
        return float(round(height / 2 * (1 - value / reach), 1))

    points = [
        {"x": round(width * mean / right, 1), "y": down(gap), "words": f"{study}: {one:.1f} mL, marked {two:.1f} mL"}
        for mean, gap, (one, two, study) in zip(means, apart, sized, strict=True)
    ]
    return {
        "width": width, "height": height, "right": right, "reach": reach, "points": points,
        "lines": [{"y": down(value), "ml": value} for value in lines], "zero": down(0.0),
    }  # fmt: skip
