"""All result files of a study, or of exported slices, in one folder."""

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from bleedmap import RESEARCH_ONLY, __version__
from bleedmap.arrays import BoolArray, FloatArray, ignore
from bleedmap.errors import InputError, spell
from bleedmap.inference.outline import outline_slices
from bleedmap.io import images, nifti
from bleedmap.io.files import folder_written_whole, write_json
from bleedmap.results.overlay import SliceView, draw_sheet
from bleedmap.results.page import write_report
from bleedmap.results.pictures import overview
from bleedmap.results.tables import FORMAT, list_checks, summary, write_lesions_csv
from bleedmap.study.inputs import CheckedPictures, Inputs, Picture
from bleedmap.study.read import Study, read_study
from bleedmap.study.result import Result, summarise_pictures, to_json
from bleedmap.study.segment import Segmenter
from bleedmap.window import Window, picture_to_hu

SUMMARY, REPORT, DICOM = "summary.json", "report.html", "dicom"
PROBABILITY_STEPS = 65535  # the 16-bit PNG's value of probability 1
_PICTURE_FILES = {"mask": "mask", "probability": "prob", "overlay": "overlay"}  # key in the summary -> ending of a name


def save(
    result: Result, folder: str | Path, *, overwrite: bool = False, dicom: bool = True, fractional: bool = False,
    made_at: datetime | None = None, new_uid: Callable[[], str] | None = None, predecessor: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write all results of a study into a new folder, whole or not at all; return what `summary.json` holds.

    Args:
        result: positive or negative; both give the same files.
        folder: new or empty; of earlier results with `overwrite`.
        overwrite: replace earlier results there.
        dicom: for a study that came as DICOM, write DICOM results too, if they can refer to its images.
        fractional: and among them the probability as a FRACTIONAL segmentation.
        made_at: the moment that the DICOM results carry; None: now.
        new_uid: gives each of their UIDs at a call, always in the same order; None: random ones.
        predecessor: file of an earlier report of the same study, which the new one names as its predecessor.

    Raises:
        OutputError: the folder holds something else, or cannot be written.
    """
    with folder_written_whole(Path(folder), overwrite=overwrite) as inside:
        files = {
            "mask": f"{result.name}_dseg.nii.gz",
            "probability": f"{result.name}_probseg.nii.gz",
            "overlay": f"{result.name}_overlay.png",
            "lesions": f"{result.name}_lesions.csv",
            "report": REPORT,
        }
        described = "" if result.slabs is None else f"bleedmap {__version__}: {result.slabs.words}"
        with ThreadPoolExecutor(max_workers=1) as beside:  # most of their time is compression, which lets others run
            written = [
                beside.submit(nifti.write, inside / files["mask"], result.mask, result.nifti, described),
                beside.submit(nifti.write, inside / files["probability"], result.probability, result.nifti, described),
                beside.submit(lambda: images.write_png(inside / files["overlay"], overview(result))),
            ]
            write_lesions_csv(inside / files["lesions"], result)
            if dicom and result.dicom is not None and not result.dicom.unreferable:
                from bleedmap.results.dicom import write_dicom_results  # noqa: PLC0415 - highdicom takes 0.2 s to load

                (inside / DICOM).mkdir()
                made = write_dicom_results(
                    inside / DICOM, result, result.dicom, fractional=fractional, made_at=made_at, new_uid=new_uid,
                    predecessor=predecessor,
                )  # fmt: skip
                files |= {what: f"{DICOM}/{name}" for what, name in made.items()}
            write_report(inside / files["report"], result, files)
            for one in written:
                one.result()
        content = summary(result, files)
        write_json(inside / SUMMARY, content)
        return content


def read_summary(place: Path) -> dict[str, Any] | None:
    """The summary of a folder of results, of a study or of pictures; None where the path is none."""
    try:
        content = json.loads((place / SUMMARY).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and "weights" in content else None


def read_again(place: Path) -> tuple[Study, dict[str, Any]]:
    """Read the study that a folder of results belongs to, and with what it was segmented; another place is the study.

    Returns:
        The study, of the series that was segmented, and weights, threshold and overruled checks by name, as `segment`
        takes them.

    Raises:
        InputError: it cannot be read, is not where it was, or has other slices now.
    """
    content = read_summary(place)
    if content is None or content.get("format") != FORMAT:
        return read_study(place), {}
    source, shape = Path(content["source"]), content["geometry"]["shape"]
    if not source.exists():
        there = "" if source.is_absolute() else "start in the folder where the study was segmented, or "
        raise InputError(
            place, found=f"results of {spell(source)}, which is not there", needed="the study beside its results",
            remedy=f"{there}give the study's place now; it is segmented again then",
        )  # fmt: skip
    study = read_study(source)
    then = _list_chosen(content["series"] or ())
    if study.dicom is not None and then and then != _list_chosen(map(asdict, study.dicom.choice)):
        study = read_study(source, series=then[0][0])
    if list(study.volume.hu.shape) != shape:
        raise InputError(
            place, found=f"results of {spell(source)}, which has other slices now",
            needed="the study as it was segmented", remedy="segment it again",
        )  # fmt: skip
    overruled = tuple(one["name"] for one in content["checks"] if one["overruled"])
    return study, {"weights": content["weights"]["name"], "threshold": content["threshold"], "accept": overruled}


def _list_chosen(series: Iterable[dict[str, Any]]) -> list[tuple[int | None, str, int]]:
    """Number, description and count of files of the series that were read, by which they are known again."""
    return [(one["number"], one["description"], one["instances"]) for one in series if one["chosen"]]


def save_pictures(
    segmenter: Segmenter, inputs: Inputs, checked: CheckedPictures, window: Window, folder: Path, *,
    overwrite: bool = False, advance: Callable[[int], None] = ignore,
) -> dict[str, Any]:  # fmt: skip
    """Segment exported slices one by one into a new folder, whole or not at all; return what `summary.json` holds.

    Args:
        inputs: the pictures, and what was left out beside them.
        checked: of `check_pictures`.
        window: in which they were exported.
        folder, overwrite: as in `save`.
        advance: called with the number of slices finished since the last call.

    Raises:
        OutputError: the folder holds something else, or cannot be written.
    """
    with folder_written_whole(folder, overwrite=overwrite) as inside:
        each = _segment_pictures(segmenter, inputs.pictures, checked.doubts, window, inside, advance)
        content = to_json(
            summarise_pictures(each), segmenter.weights, segmenter.backend.record, segmenter.threshold,
            list(checked.notes),
        )  # fmt: skip
        content["checks"] = list_checks(checked.checks)
        for row, picture, doubts in zip(content["slices"], inputs.pictures, checked.doubts, strict=True):
            row |= {"name": picture.name, "source": spell(picture.path), "warnings": list(doubts)}
            row["files"] = {key: f"{picture.name}_{ending}.png" for key, ending in _PICTURE_FILES.items()}
        content["ignored"] = [{"file": spell(one.path), "reason": one.reason} for one in inputs.ignored]
        write_json(inside / SUMMARY, content)
    return content


def _segment_pictures(
    segmenter: Segmenter, pictures: tuple[Picture, ...], doubts: tuple[tuple[str, ...], ...], window: Window,
    folder: Path, advance: Callable[[int], None],
) -> Iterator[tuple[FloatArray, BoolArray]]:  # fmt: skip
    """Write each picture's files; yields its probability and mask, (row, column)."""
    threshold = segmenter.threshold
    for picture, not_passed in zip(pictures, doubts, strict=True):
        grey = images.read_grey(picture.path)
        outline = outline_slices(
            picture_to_hu(grey, window)[None],
            segmenter.weights,
            segmenter.backend,
            threshold=threshold,
            advance=advance,
        )
        probability, mask = outline.probability[0], outline.mask[0]
        images.write_png(folder / f"{picture.name}_mask.png", mask)
        stored = np.rint(probability * PROBABILITY_STEPS).astype(np.uint16)
        images.write_png(folder / f"{picture.name}_prob.png", stored)
        said = f"; checks not passed: {', '.join(not_passed)}" if not_passed else ""
        view = SliceView(grey, probability, f"highest probability {probability.max():.2f}{said}")
        marked = f"{int(mask.sum()):,} pixels marked" if mask.any() else "nothing marked"
        sheet = draw_sheet([view], title=f"{picture.name}: {marked}", footer=RESEARCH_ONLY, threshold=threshold)
        images.write_png(folder / f"{picture.name}_overlay.png", sheet)
        yield probability, mask
