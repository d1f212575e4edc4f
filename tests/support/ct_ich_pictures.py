"""The checks of pictures on CT-ICH: how often they stop or warn of real slices, and of what is none.

`python tests/support/ct_ich_pictures.py FOLDER [EVERY]` prints, for each kind of picture, how many are refused and
warned of alone, and by patient. EVERY: only each so manieth picture of the kinds that are made here; 1 if not given.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from bleedmap.arrays import ByteArray
from bleedmap.datasets.ct_ich import Patient, open_ct_ich
from bleedmap.io.images import read_grey
from bleedmap.study.gate.check import Check
from bleedmap.study.gate.picture_look import PictureLook, measure_picture
from bleedmap.study.gate.pictures import judge_pictures
from bleedmap.window import BRAIN

_SIDE = 650
_SLICE_OVER_PIXEL = 5 / 0.32  # mm; the pixels' is their median
Kind = Callable[[Path, Patient, int], Iterator[ByteArray]]


def read_slices(root: Path, patient: Patient, every: int, window: str = "brain") -> Iterator[ByteArray]:
    """The patient's pictures."""
    for record in patient.slices[::every]:
        path = root / f"Patients_CT/{patient.number:03d}/{window}/{record.number}.jpg"
        if path.is_file():
            yield read_grey(path)


def read_masks(root: Path, patient: Patient, every: int) -> Iterator[ByteArray]:
    """The patient's masks."""
    for record in patient.slices[::every]:
        if record.has_lesion:
            yield read_grey(root / f"Patients_CT/{patient.number:03d}/brain/{record.number}_HGE_Seg.jpg")


def make_planes(root: Path, patient: Patient, axis: int) -> Iterator[ByteArray]:
    """Six pictures through the patient's stack along an axis: 1 coronal, 2 sagittal; head up, on a black square."""
    stack = np.stack(list(read_slices(root, patient, 1)))
    for place in np.linspace(0.35, 0.65, 6):
        plane = np.take(stack, round(place * _SIDE), axis=axis)[::-1]
        height = min(_SIDE, round(len(plane) * _SLICE_OVER_PIXEL))
        sheet = np.zeros((_SIDE, _SIDE), np.uint8)
        top = (_SIDE - height) // 2
        sheet[top : top + height] = np.asarray(Image.fromarray(plane).resize((_SIDE, height)))
        yield sheet


def make_mosaics(root: Path, patient: Patient) -> Iterator[ByteArray]:
    """All of a patient's slices on one sheet of five columns, and its middle two side by side."""
    stack = list(read_slices(root, patient, 1))
    small = [np.asarray(Image.fromarray(one).resize((160, 160))) for one in stack]
    small += [np.zeros_like(small[0])] * (-len(small) % 5)
    yield np.vstack([np.hstack(small[start : start + 5]) for start in range(0, len(small), 5)])
    yield np.hstack(stack[len(stack) // 2 : len(stack) // 2 + 2])


def make_photographs(root: Path, patient: Patient) -> Iterator[ByteArray]:
    """The middle of three slices, enlarged, so that no air is around it."""
    for one in list(read_slices(root, patient, 1))[8:20:5]:
        yield np.asarray(Image.fromarray(one[220:430, 220:430]).resize((_SIDE, _SIDE)))


def turn(by: Callable[[ByteArray], ByteArray]) -> Kind:
    """A kind whose pictures are the patient's, changed."""
    return lambda root, patient, every: (np.ascontiguousarray(by(one)) for one in read_slices(root, patient, every))


KINDS: dict[str, Kind] = {
    "brain window": lambda root, patient, every: read_slices(root, patient, 1),
    "bone window": lambda root, patient, every: read_slices(root, patient, every, "bone"),
    "inverse": turn(lambda grey: np.asarray(255 - grey, np.uint8)),
    "on its right": turn(lambda grey: np.rot90(grey, 1)),
    "on its left": turn(lambda grey: np.rot90(grey, 3)),
    "upside down": turn(np.flipud),
    "mask": lambda root, patient, every: read_masks(root, patient, 1),
    "coronal": lambda root, patient, every: make_planes(root, patient, 1),
    "sagittal": lambda root, patient, every: make_planes(root, patient, 2),
    "mosaic": lambda root, patient, every: make_mosaics(root, patient),
    "cut out": lambda root, patient, every: make_photographs(root, patient),
}


def count(checks: tuple[Check, ...], alarms: Counter[str]) -> None:
    """Add what did not pass: each check, and whether any refused or warned."""
    bad = [one for one in checks if one.verdict in ("warning", "refusal")]
    alarms.update(f"{one.verdict}: {one.name}" for one in bad)
    alarms["refused"] += any(one.verdict == "refusal" for one in bad)
    alarms["told"] += bool(bad)


def main(root: Path, every: int) -> None:
    """Print the counts of each kind, alone and by patient."""
    patients = open_ct_ich(root).patients
    for name, kind in KINDS.items():
        alone: Counter[str] = Counter()
        together: Counter[str] = Counter()
        pictures = runs = 0
        for patient in patients:
            looks: list[PictureLook] = [
                measure_picture(str(number), grey, BRAIN) for number, grey in enumerate(kind(root, patient, every))
            ]
            pictures, runs = pictures + len(looks), runs + bool(looks)
            for look in looks:
                count(judge_pictures([look], BRAIN), alone)
            if looks:
                count(judge_pictures(looks, BRAIN), together)
        for words, total, alarms in (("alone", pictures, alone), ("by patient", runs, together)):
            print(f"{name}, {words}, {total}: refused {alarms.pop('refused')}, told {alarms.pop('told')}", flush=True)
            for alarm, found in alarms.most_common():
                print(f"    {found:4d} ({found / total:.1%}) {alarm}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
