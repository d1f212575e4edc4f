"""Head CTs of a phantom patient to send to a server: one head, made once, with UIDs of its own for each study."""

import copy
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from command_line import run

NAME, NUMBER = "PHANTOM^ANNA", "P-4711-X"


@cache
def _make(slices: int, side: int) -> tuple[Dataset, ...]:
    with TemporaryDirectory() as folder:
        spacing = (144 / slices, 230.4 / side, 230.4 / side)
        geometry = ("--shape", slices, side, side, "--spacing", *(round(one, 4) for one in spacing), "--seed", 1)
        assert run("phantom", "-o", f"{folder}/head", "--dicom", *geometry, "--bleed", "IPH:30:left") == 0
        read = [dcmread(path) for path in sorted(Path(folder, "head").rglob("*.dcm"))]
    return tuple(one for one in read if one.get("Modality") == "CT")


def make_study(number: int, *, slices: int = 24, side: int = 96) -> list[Dataset]:
    """The head as a study of its own; the same number gives the same study."""
    uid = {kind: generate_uid(entropy_srcs=["study", kind, str(number)]) for kind in ("study", "series", "frame")}
    made = []
    for index, one in enumerate(_make(slices, side)):
        new = copy.deepcopy(one)
        new.PatientName, new.PatientID, new.AccessionNumber = NAME, NUMBER, f"ACC-{number}"
        new.StudyInstanceUID, new.SeriesInstanceUID = uid["study"], uid["series"]
        new.FrameOfReferenceUID = uid["frame"]
        new.SOPInstanceUID = generate_uid(entropy_srcs=["instance", str(number), str(index)])
        new.file_meta.MediaStorageSOPInstanceUID = new.SOPInstanceUID
        new.StudyDescription = "CT HEAD"
        made.append(new)
    return made
