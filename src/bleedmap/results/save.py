"""Everything that a result gives, into one folder."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bleedmap.io import images, nifti
from bleedmap.io.files import folder_written_whole, write_json
from bleedmap.results.page import write_report
from bleedmap.results.pictures import overview
from bleedmap.results.tables import summary, write_lesions_csv
from bleedmap.study.result import Result

SUMMARY, REPORT, DICOM = "summary.json", "report.html", "dicom"


def save(
    result: Result, folder: str | Path, *, overwrite: bool = False, dicom: bool = True, fractional: bool = False
) -> dict[str, Any]:
    """Write all results of a study into a new folder, whole or not at all.

    Args:
        result: positive or negative; both give the same files.
        folder: new or empty; of earlier results with `overwrite`.
        overwrite: replace earlier results there.
        dicom: for a study that came as DICOM, write DICOM results too.
        fractional: and among them the probability as a FRACTIONAL segmentation.

    Returns:
        What `summary.json` holds.

    Raises:
        OutputError: the folder holds something else, or cannot be written.
    """
    with folder_written_whole(Path(folder), overwrite=overwrite) as inside:
        return write_results(result, inside, dicom=dicom, fractional=fractional)


def write_results(result: Result, folder: Path, *, dicom: bool = True, fractional: bool = False) -> dict[str, Any]:
    """`save` into a folder that is there and empty, file by file."""
    files = {
        "mask": f"{result.name}_dseg.nii.gz",
        "probability": f"{result.name}_probseg.nii.gz",
        "overlay": f"{result.name}_overlay.png",
        "lesions": f"{result.name}_lesions.csv",
        "report": REPORT,
    }
    with ThreadPoolExecutor(max_workers=1) as beside:  # most of their time is compression, which lets others run
        written = [
            beside.submit(nifti.write, folder / files["mask"], result.mask, result.nifti),
            beside.submit(nifti.write, folder / files["probability"], result.probability, result.nifti),
            beside.submit(_write_overview, folder / files["overlay"], result),
        ]
        write_lesions_csv(folder / files["lesions"], result)
        if dicom and result.dicom is not None:
            from bleedmap.results.dicom import write_dicom_results  # noqa: PLC0415 - highdicom takes 0.2 s to load

            (folder / DICOM).mkdir()
            made = write_dicom_results(folder / DICOM, result, result.dicom, fractional=fractional)
            files |= {what: f"{DICOM}/{name}" for what, name in made.items()}
        write_report(folder / files["report"], result, files)
        for one in written:
            one.result()
    content = summary(result, files)
    write_json(folder / SUMMARY, content)
    return content


def _write_overview(path: Path, result: Result) -> None:
    images.write_png(path, overview(result))
