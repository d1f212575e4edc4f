"""What the gate says, word by word: each check in each of its answers, as a reader meets it, in `words.csv`.

`python tests/study/gate/test_words.py` writes that file again; read the difference before it is committed.
"""

import csv
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bleedmap.errors import CheckRefusalError, SettingsError
from bleedmap.geometry import SliceGrid
from bleedmap.inference.slabs import Slabs
from bleedmap.io.dicom.acquisition import Acquisition
from bleedmap.study.gate.anatomy import Anatomy, Values
from bleedmap.study.gate.check import Check, Verdict
from bleedmap.study.gate.gate import CHECKS, check_input, find_refusal, read_accepted
from bleedmap.study.gate.picture_look import HeadLook, PictureLook
from bleedmap.study.gate.pictures import judge_picture, judge_pictures, list_doubts
from bleedmap.study.gate.scan import scan_checks
from bleedmap.study.gate.voxels import voxel_checks
from bleedmap.volume import Volume
from bleedmap.window import BRAIN, Window

WORDS = Path(__file__).with_name("words.csv")
COLUMNS = ("case", "check", "verdict", "found", "limit", "meaning")

SCAN = Acquisition(
    modality="CT", image_type=("ORIGINAL", "PRIMARY"), body_part="HEAD", contrast="", kvp=120.0, kernel="J40s",
    age_years=54.0, thickness_mm=5.0, unread="",
)  # fmt: skip
VALUES = Values(
    lowest=-1024,
    highest=1500,
    air_share=0.5,
    air_hu=-1000,
    bone_share=0.05,
    padding_share=0.0,
    metal_ml=0.0,
    blank=(),
    cut=(),
    unlike=(),
    repeated=(),
    step_hu=1.0,
)
ANATOMY = Anatomy(
    cavity=(4, 25), cavity_ml=1400, largest_cm2=200, lowest_share=0.05, highest_share=0.1, brain_hu=35, spread_hu=8,
    outline_mm=(200, 150), cut_mm=0, cut_slices=0, middle_hu=35, below_mm=20,
)  # fmt: skip
NOTHING = Check("–", "pass", "nothing else", "")
NO_CAVITY = replace(ANATOMY, cavity=None, brain_hu=None, spread_hu=None, cavity_ml=0, largest_cm2=0)
HEAD = HeadLook(side=0.7, upright=0.3, centre=0.52, straight=0.3)
LOOK = PictureLook(
    name="p1", shape=(512, 512), turned="", lit=0.4, highest=255, between=0.6, bone=0.2, border=(1.0, 0.0), parts=1,
    anatomy=ANATOMY, head=HEAD, marks=3,
)  # fmt: skip


def place(*heights_mm: float, turn: np.ndarray | None = None, tilt: float = 0.0) -> SliceGrid:
    """Slices of 512 × 512 pixels of 0.5 mm at these heights; `tilt` mm to the back for each up, then turned."""
    turn = np.eye(3) if turn is None else turn
    heights = np.array(heights_mm, np.float64)
    origins = np.stack([np.full(len(heights), -128.0), -128 + tilt * heights, heights], axis=1) @ turn.T
    return SliceGrid(origins, turn @ [0, 0.5, 0], turn @ [0.5, 0, 0], 3.0)


def rotate(degrees: float, about: int) -> np.ndarray:
    """A turn about the left-right (0) or the head-foot axis (2)."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = [axis for axis in range(3) if axis != about]
    turn = np.eye(3)
    turn[first, first], turn[first, second], turn[second, first], turn[second, second] = cos, -sin, sin, cos
    return turn


DIAGONAL = Rotation.from_rotvec([np.radians(35) / np.sqrt(2), np.radians(35) / np.sqrt(2), 0]).as_matrix()


def step(count: int, apart_mm: float) -> SliceGrid:
    return place(*np.arange(count) * apart_mm)


def missing(count: int, *gone: int, apart_mm: float = 5.0) -> SliceGrid:
    """Even slices, some of them gone."""
    return place(*np.delete(np.arange(count) * apart_mm, gone))


def slabs_of(count: int, apart_mm: float) -> Slabs:
    return Slabs(Volume(np.zeros((count, 2, 2), np.float32), step(count, apart_mm)), step(2, 1.0), np.eye(2))


def scan(
    check: str,
    grid: SliceGrid | None = None,
    slabs: Slabs | None = None,
    side: int = 512,
    columns: int = 0,
    **said: object,
) -> list[Check]:
    grid = step(30, 5.0) if grid is None else grid
    checks = scan_checks(grid, (len(grid), side, columns or side), replace(SCAN, **said), slabs)
    return [one for one in checks if one.name == check]


def voxels(check: str, anatomy: Anatomy = ANATOMY, **changes: object) -> list[Check]:
    values = {name: value for name, value in changes.items() if hasattr(VALUES, name)}
    shown = {name: value for name, value in changes.items() if hasattr(ANATOMY, name)}
    checks = voxel_checks(replace(VALUES, **values), replace(anatomy, **shown), 30)
    return [one for one in checks if one.name == check]


SCANS: dict[str, list[tuple[str, dict[str, object]]]] = {
    "modality": [("not stated", {"modality": None}), ("CT", {}), ("MR", {"modality": "MR"})],
    "image type": [
        ("not stated", {"image_type": ()}), ("original", {}),
        ("scout", {"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}),
        ("scout in a word of parts", {"image_type": ("ORIGINAL", "PRIMARY", "ct_topogram")}),
        ("projection", {"image_type": ("DERIVED", "SECONDARY", "mip")}),
    ],
    "body part": [("not stated", {"body_part": None}), ("head", {}), ("chest", {"body_part": "CHEST"})],
    "age": [
        ("not stated", {"age_years": None}), ("grown up", {}), ("a year and a half", {"age_years": 1.5}),
        ("two", {"age_years": 2.0}), ("fifteen", {"age_years": 15.0}), ("130", {"age_years": 130.0}),
    ],
    "contrast": [
        ("not stated", {"contrast": None}), ("none", {}), ("given", {"contrast": "OMNIPAQUE"}),
        ("given, described", {"contrast": "OMNIPAQUE", "description": "CT HEAD WITH CONTRAST"}),
        ("denied", {"contrast": "OMNIPAQUE", "description": "CT HEAD W/O CONTRAST"}),
    ],
    "kvp": [("not stated", {"kvp": None}), ("usual", {}), ("low", {"kvp": 60.0}), ("high", {"kvp": 160.0})],
    "kernel": [("not stated", {"kernel": None}), ("soft", {}), ("sharp", {"kernel": "H70h"})],
    "completeness": [("not known", {"unread": None}), ("all", {}), ("not all", {"unread": "2 slices differ"})],
    "slice count": [
        ("usual", {}), ("one", {"grid": step(1, 5)}), ("few", {"grid": step(9, 5)}), ("many", {"grid": step(1001, 1)}),
        ("thin", {"grid": step(300, 0.5), "slabs": slabs_of(30, 5.0)}),
        ("thin and many", {"grid": step(1001, 0.5), "slabs": slabs_of(100, 5.0)}),
        ("thin and very many", {"grid": step(1001, 0.05), "slabs": slabs_of(10, 5.0)}),
        ("thin and few slabs", {"grid": step(60, 0.5), "slabs": slabs_of(6, 5.0)}),
        ("thin and few slices", {"grid": step(4, 0.5), "slabs": slabs_of(10, 5.0)}),
    ],
    "slice spacing": [
        ("usual", {}), ("not stated thickness", {"thickness_mm": None}), ("thinner", {"thickness_mm": 3.5}),
        ("just thinner", {"thickness_mm": 3.75}), ("overlapping", {"thickness_mm": 6.7}),
        ("just thicker", {"thickness_mm": 6.6}), ("near", {"grid": step(30, 0.4), "thickness_mm": None}),
        ("far", {"grid": step(20, 12), "thickness_mm": 12.0}),
        ("far and thinner", {"grid": step(20, 12), "thickness_mm": 6.0}),
        ("too far and thinner", {"grid": step(20, 21), "thickness_mm": 6.0}),
        ("lone", {"grid": step(1, 5), "thickness_mm": 1.0}),
        ("lone and thick", {"grid": step(1, 5), "thickness_mm": 9.0}),
        ("two", {"grid": step(2, 5), "thickness_mm": 1.0}), ("two, thick", {"grid": step(2, 5), "thickness_mm": 9.0}),
        ("thin", {"grid": step(300, 0.4), "slabs": slabs_of(25, 5.2), "thickness_mm": 0.4}),
        ("thin, wide slabs", {"grid": step(300, 0.4), "slabs": slabs_of(10, 12.0), "thickness_mm": 0.4}),
    ],
    "gaps": [
        ("lone", {"grid": step(1, 5)}), ("even", {}),
        ("uneven", {"grid": place(*np.arange(15) * 2.5, *(37.5 + np.arange(15) * 5.0))}),
        ("wide", {"grid": missing(30, 12)}), ("wide twice", {"grid": missing(30, 7, 20, 21)}),
        ("wide first and last", {"grid": missing(30, 1, 28)}), ("too wide", {"grid": missing(30, 12, 13, 14, 15)}),
        ("even and too wide", {"grid": step(10, 21)}), ("many", {"grid": step(40, 21)}),
        ("wide among seven", {"grid": place(0, 5, 10, 18, 23, 31, 39, 44, 49, 54, 59)}),
        ("two", {"grid": step(2, 5)}),
    ],
    "orientation": [
        ("axial", {}), ("off", {"grid": place(*range(0, 150, 5), turn=rotate(35, 0))}),
        ("far off", {"grid": place(*range(0, 150, 5), turn=rotate(50, 0))}),
        ("turned in the plane", {"grid": place(*range(0, 150, 5), turn=rotate(40, 2))}),
        ("off by both", {"grid": place(*range(0, 150, 5), turn=DIAGONAL)}),
        ("rows off", {"grid": replace(step(30, 5.0), row_step_mm=np.array([0.3, 0.4, 0]))}),
        ("columns off", {"grid": replace(step(30, 5.0), column_step_mm=np.array([0.4, 0.3, 0]))}),
        ("tilted", {"grid": place(*range(0, 150, 5), tilt=0.5)}),
        ("tilted far", {"grid": place(*range(0, 150, 5), tilt=0.7)}),
        ("tilted about", {"grid": place(*range(0, 150, 5), tilt=0.7, turn=rotate(10, 0))}),
    ],
    "field of view": [
        ("usual", {}), ("wide", {"side": 800}), ("not square", {"side": 512, "columns": 600}),
        ("narrow", {"side": 299}), ("few pixels", {"side": 127}),
        ("too few pixels", {"side": 60}),
    ],
}  # fmt: skip
VOXELS: dict[str, list[tuple[str, dict[str, object]]]] = {
    "air": [
        ("usual", {}), ("too low", {"air_hu": -1150.0}), ("too high", {"air_hu": -860.0}),
        ("none", {"air_share": 0.0, "air_hu": None, "lowest": -20.0}),
        ("none at all", {"air_share": 0.0, "air_hu": None, "lowest": -700.0}),
        ("hardly any", {"air_share": 0.004, "air_hu": -1000.0, "lowest": -1010.0}),
        ("no median", {"air_hu": None}),
    ],
    "bone": [
        ("usual", {}), ("few", {"bone_share": 0.003}), ("none", {"bone_share": 0.0, "highest": 100.0}),
        ("much", {"bone_share": 0.3}), ("too much", {"bone_share": 0.5, "highest": 2345.0}),
        ("nothing shown", {"bone_share": 0.0, "highest": -701.0}),
        ("little shown", {"bone_share": 0.0, "highest": -700.0}),
    ],
    "brain density": [
        ("usual", {}), ("high", {"brain_hu": 61.0}), ("too high", {"brain_hu": 75.0}), ("too low", {"brain_hu": 4.0}),
        ("no brain", {"anatomy": NO_CAVITY}), ("no brain, odd middle", {"anatomy": NO_CAVITY, "middle_hu": 1040.0}),
        ("nothing shown", {"anatomy": NO_CAVITY, "middle_hu": -1000.0, "highest": -900.0}),
        ("almost nothing shown", {"anatomy": NO_CAVITY, "middle_hu": -1000.0, "highest": -700.0}),
        ("no air", {"air_share": 0.0, "air_hu": None}), ("no air, odd middle", {"air_share": 0.0, "middle_hu": 1040.0}),
        ("no air, high", {"air_share": 0.0, "brain_hu": 61.0}),
    ],
    "noise": [
        ("usual", {}), ("much", {"spread_hu": 31.0}), ("coarse", {"step_hu": 16.0588}),
        ("no brain", {"anatomy": NO_CAVITY}),
    ],
    "anatomy": [
        ("usual", {}), ("large", {"cavity_ml": 3000.0}), ("too large", {"cavity_ml": 3600.0, "largest_cm2": 360.0}),
        ("small slice", {"largest_cm2": 90.0}), ("wide", {"outline_mm": (250.0, 310.0)}),
        ("little of a head", {"cavity_ml": 140.0}), ("little of no head", {"cavity_ml": 140.0, "largest_cm2": 90.0}),
        ("the least", {"cavity_ml": 150.0}), ("the least, wide", {"cavity_ml": 150.0, "outline_mm": (250.0, 310.0)}),
        ("no brain", {"anatomy": NO_CAVITY}),
        ("nothing", {"anatomy": NO_CAVITY, "outline_mm": (0.0, 0.0)}),
    ],
    "coverage": [
        ("usual", {}), ("no brain", {"anatomy": NO_CAVITY}), ("base", {"lowest_share": 0.31}),
        ("vertex", {"highest_share": 0.41}), ("both", {"lowest_share": 0.31, "highest_share": 0.41}),
        ("neck", {"below_mm": 150.0}), ("neck and vertex", {"below_mm": 150.0, "highest_share": 0.41}),
    ],
    "blank slices": [
        ("none", {}), ("outside", {"blank": (0, 3, 26)}), ("inside", {"blank": (3, 4, 9, 10, 11, 25, 26)}),
        ("in part", {"cut": (9, 10, 26)}), ("both", {"blank": (11,), "cut": (9,)}),
        ("no brain", {"anatomy": NO_CAVITY, "blank": (1, 2)}),
    ],
    "continuity": [
        ("usual", {}), ("outside", {"unlike": (3, 26), "repeated": (2,)}), ("unlike", {"unlike": (9, 14, 15)}),
        ("copies", {"repeated": (4, 5, 6, 7, 8)}), ("enlarged", {"repeated": tuple(range(1, 20, 3))}),
        ("both", {"unlike": (9,), "repeated": (12,)}), ("no brain", {"anatomy": NO_CAVITY}),
    ],
    "border": [
        ("free", {"cut_mm": 12.0}), ("cut", {"cut_mm": 45.0, "cut_slices": 7}), ("no brain", {"anatomy": NO_CAVITY}),
    ],
    "padding": [("none", {}), ("much", {"padding_share": 0.61}), ("half", {"padding_share": 0.5})],
    "metal": [("none", {}), ("some", {"metal_ml": 0.26}), ("hardly", {"metal_ml": 0.1})],
}  # fmt: skip


def anatomy(**changes: object) -> dict[str, object]:
    return {"anatomy": replace(ANATOMY, **changes)}


def head(**changes: object) -> dict[str, object]:
    return {"head": replace(HEAD, **changes)}


LOOKS: dict[str, list[tuple[str, dict[str, object]]]] = {
    "picture size": [
        ("usual", {}), ("small", {"shape": (100, 140)}), ("too small", {"shape": (140, 60)}),
        ("long", {"shape": (512, 800)}), ("nearly long", {"shape": (512, 768)}), ("huge", {"shape": (4097, 4100)}),
    ],
    "blank slices": [
        ("shown", {}), ("black", {"highest": 32, "lit": 0.9}), ("nearly black", {"highest": 33, "lit": 0.004}),
        ("least", {"lit": 0.005}), ("white", {"border": (0.0, 1.0), "between": 0.0, "bone": 0.996}),
        ("white page", {"border": (0.0, 1.0), "between": 0.0, "bone": 0.995}),
        ("white border", {"border": (0.0, 1.0), "between": 0.1, "bone": 1.0}),
        ("white inside", {"border": (0.0, 0.9), "between": 0.0, "bone": 1.0}),
        ("white and dark", {"border": (0.0, 1.0), "between": 0.0, "bone": 0.0, "lit": 0.001}),
    ],
    "grey scale": [
        ("usual", {"border": (0.97, 0.49)}), ("inverse", {"border": (0.0, 0.5)}), ("mask", {"between": 0.04}),
        ("least", {"between": 0.05}),
    ],
    "single slice": [
        ("one", {}), ("two side by side", {"parts": 2, "shape": (500, 1000)}), ("two", {"parts": 2}),
        ("two on a sheet", {"parts": 2, "shape": (512, 768)}), ("three", {"parts": 3}),
        ("one, long", {"shape": (500, 1000)}),
    ],
    "air": [("usual", {}), ("little", {"border": (0.89, 0.0)}), ("none", {"border": (0.4, 0.0)})],
    "window": [
        ("usual", {}), ("hardly white", {"bone": 0.03}), ("bone window", {"bone": 0.01}), ("narrow", {"bone": 0.96}),
        ("flat", anatomy(spread_hu=3.0)), ("noisy", anatomy(spread_hu=26.0)),
        ("flat, little brain", anatomy(spread_hu=3.0, largest_cm2=74.0)),
        ("flat, enough brain", anatomy(spread_hu=3.0, largest_cm2=75.0)), ("no brain", anatomy(spread_hu=None)),
        ("flat and hardly white", {"bone": 0.03, **anatomy(spread_hu=3.0)}),
    ],
    "brain density": [
        ("usual", {}), ("off", anatomy(brain_hu=55.0)), ("too far off", anatomy(brain_hu=71.0)),
        ("little brain", anatomy(largest_cm2=74.0)), ("enough brain", anatomy(largest_cm2=75.0)),
    ],
    "orientation": [
        ("upright", {}), ("on its side", head(upright=-0.36)), ("upside down", head(centre=0.454)),
        ("both", head(upright=-0.36, centre=0.454)), ("just upright", head(upright=-0.35, centre=0.455)),
        ("straight", head(straight=0.61)), ("not straight", head(straight=0.6)), ("no head", {"head": None}),
    ],
    "anatomy": [("shown", {}), ("not shown", {"anatomy": NO_CAVITY})],
    "field of view": [
        ("usual", {}), ("small", head(side=0.24)), ("least", head(side=0.25)), ("no head", {"head": None}),
    ],
    "border": [("free", anatomy(cut_mm=29.0)), ("cut", anatomy(cut_mm=30.0))],
    "marks": [("few", {"marks": 25}), ("many", {"marks": 26})],
}  # fmt: skip


def picture(check: str, look: PictureLook) -> list[Check]:
    return [one for one in judge_picture(look) if one.name == check]


def looks(count: int, **changes: object) -> list[PictureLook]:
    return [replace(LOOK, name=f"p{number}", **changes) for number in range(1, count + 1)]


SMALL, CUT = {"shape": (100, 140)}, {"border": (0.8, 0.0)}
RUNS: dict[str, tuple[list[PictureLook], Window]] = {
    "one": (looks(1), BRAIN),
    "one, no anatomy": (looks(1, anatomy=NO_CAVITY), BRAIN),
    "two": (looks(2), BRAIN),
    "four of ten cut": (looks(6) + looks(4, **CUT), BRAIN),
    "three of ten cut": (looks(7) + looks(3, **CUT), BRAIN),
    "one of two sizes": (looks(3) + looks(2, shape=(512, 500)), BRAIN),
    "four sizes": (
        looks(4) + looks(3, shape=(512, 500)) + looks(2, shape=(500, 512)) + looks(1, shape=(600, 600)), BRAIN,
    ),
    "sizes, one too small": (looks(2) + looks(1, shape=(60, 60)), BRAIN),
    "one of two blank": (looks(1) + looks(1, highest=5), BRAIN),
    "both blank": (looks(2, highest=5), BRAIN),
    "one of three a mosaic": (looks(2) + looks(1, parts=4), BRAIN),
    "one of two a mosaic": (looks(1) + looks(1, parts=4), BRAIN),
    "all mosaics": (looks(2, parts=4), BRAIN),
    "wide window": (looks(2), Window(60, 401)),
    "widest window": (looks(2), Window(60, 400)),
    "window above brain": (looks(2), Window(81, 120)),
    "window just on brain": (looks(2), Window(50, 60)),
    "window below blood": (looks(2), Window(40, 79)),
    "another window than stated": (looks(2, bone=0.01), Window(700, 3200)),
    "nine without brain": (looks(9, anatomy=NO_CAVITY), BRAIN),
    "ten without brain": (looks(10, anatomy=NO_CAVITY), BRAIN),
    "two without brain": (looks(2, anatomy=NO_CAVITY), BRAIN),
    "one of ten with brain": (looks(9, anatomy=NO_CAVITY) + looks(1), BRAIN),
    "ten dense": (looks(4) + looks(6, **anatomy(brain_hu=55.0)), BRAIN),
    "nine dense": (looks(3) + looks(6, **anatomy(brain_hu=55.0)), BRAIN),
    "ten, six of little brain": (looks(4) + looks(6, **anatomy(brain_hu=55.0, largest_cm2=74.0)), BRAIN),
    "ten, six of enough brain": (looks(4) + looks(6, **anatomy(brain_hu=55.0, largest_cm2=75.0)), BRAIN),
    "ten upside down": (looks(10, **head(centre=0.493)), BRAIN),
    "ten on their sides": (looks(10, **head(upright=-0.06)), BRAIN),
    "ten turned on the mean": (
        looks(4, **head(centre=0.6, upright=1.0)) + looks(6, **head(centre=0.4, upright=-0.9)), BRAIN,
    ),
    "ten straight": (looks(4) + looks(6, **head(straight=0.61)), BRAIN),
    "four of ten straight": (looks(6) + looks(4, **head(straight=0.9)), BRAIN),
    "ten, one with a head": (looks(9, head=None) + looks(1), BRAIN),
    "ten without a head": (looks(10, head=None), BRAIN),
}  # fmt: skip


def not_as_usual(run: list[PictureLook], window: Window) -> list[Check]:
    """The checks of a run that differ from those of as many usual pictures; of one or two usual ones: all."""
    run = [replace(one, name=f"p{number}") for number, one in enumerate(run, 1)]
    usual = (
        judge_pictures(looks(len(run)), BRAIN) if (run, window) not in ((looks(1), BRAIN), (looks(2), BRAIN)) else ()
    )
    return [one for one in judge_pictures(run, window) if one not in usual] or [NOTHING]


REFUSALS = (Check("air", "refusal", "none", "1 %", "give HU"), Check("slice count", "refusal", "4", "10", "too few"))
UNREAD = Check("completeness", "warning", "2 slices differ", "every slice", "not found")


def refuse(*checks: Check, accept: Iterable[str] = (), **wanted: str) -> list[Check]:
    """A refusal's parts, as one line of the table."""
    error = find_refusal("scan.nii", checks, accept, **wanted)
    if error is None:
        return [NOTHING]
    assert isinstance(error, CheckRefusalError)
    return [Check("; ".join(error.checks), "refusal", f"{error.subject}: {error.found}", error.needed, error.remedy)]


def read_unknown(*names: str) -> list[Check]:
    with pytest.raises(SettingsError) as caught:
        read_accepted(names)
    error = caught.value
    return [Check(error.subject, "refusal", error.found, error.needed, error.remedy)]


def made_head(count: int, apart_mm: float) -> Volume:
    """A box of bone around brain, 108 × 120 mm, of as many slices, the uppermost smaller, with air around."""
    hu = np.full((count, 130, 130), -1000, np.float32)
    hu[:, 30:95, 30:90], hu[:, 33:92, 33:87] = 700, 35
    hu[-1, :70] = -1000
    origins = np.stack([np.full(count, -117.0), np.full(count, -117.0), apart_mm * np.arange(count)], axis=1)
    return Volume(hu, SliceGrid(origins, np.array([0, 1.8, 0]), np.array([1.8, 0, 0]), apart_mm))


def check_thin() -> tuple[Check, ...]:
    """Forty slices of 1 mm, ten slabs of four."""
    thin, thick = made_head(40, 1.0), made_head(10, 4.0)
    slabs = Slabs(thick, thin.grid, np.repeat(np.eye(10), 4, axis=1) / 4)
    return check_input(thin, replace(SCAN, thickness_mm=1.0), slabs)


def check_no_head_thin() -> tuple[Check, ...]:
    thin = Volume(np.full((40, 130, 130), -1000, np.float32), made_head(40, 1.0).grid)
    thick = Volume(thin.hu[::4], made_head(10, 4.0).grid)
    return check_input(thin, SCAN, Slabs(thick, thin.grid, np.repeat(np.eye(10), 4, axis=1) / 4))


def every_case() -> dict[str, Callable[[], Iterable[Check]]]:
    cases: dict[str, Callable[[], Iterable[Check]]] = {}
    for check, rows in SCANS.items():
        cases |= {f"scan: {check}: {name}": partial(scan, check, **said) for name, said in rows}
    for check, rows in VOXELS.items():
        cases |= {f"voxels: {check}: {name}": partial(voxels, check, **said) for name, said in rows}
    for check, rows in LOOKS.items():
        cases |= {f"picture: {check}: {name}": partial(picture, check, replace(LOOK, **said)) for name, said in rows}
    cases |= {f"pictures: {name}": partial(not_as_usual, run, window) for name, (run, window) in RUNS.items()}
    cases |= {
        "input: head": lambda: check_input(made_head(12, 5.0), SCAN),
        "input: nothing known of it": lambda: check_input(made_head(12, 5.0)),
        "input: thin slices": check_thin,
        "input: thin slices of air": check_no_head_thin,
        "refusal: none": lambda: refuse(UNREAD),
        "refusal: two": lambda: refuse(*REFUSALS),
        "refusal: one of two accepted": lambda: refuse(*REFUSALS, accept=("Slice-Count",)),
        "refusal: both accepted": lambda: refuse(*REFUSALS, accept=("slice_count", "air")),
        "refusal: not all read": lambda: refuse(UNREAD, *REFUSALS, wanted="slices"),
        "refusal: all read": lambda: refuse(replace(UNREAD, verdict="pass"), *REFUSALS),
        "accept: unknown": lambda: read_unknown("air", "every thing", "nothing"),
    }
    return cases


def rows_of(checks: Iterable[Check]) -> list[list[str]]:
    return [[one.name, one.verdict, one.found, one.limit, one.meaning] for one in checks]


def read_words() -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = {}
    with WORDS.open(encoding="utf-8", newline="") as file:
        for case, *row in list(csv.reader(file))[1:]:
            found.setdefault(case, []).append(row)
    return found


CASES = every_case()


def test_the_table_holds_every_case_and_no_other() -> None:
    assert list(read_words()) == list(CASES)


@pytest.mark.parametrize("kind", sorted({name.split(": ")[0] for name in CASES}))
def test_the_gate_says_what_the_table_says(kind: str) -> None:
    words = read_words()
    for name, make in CASES.items():
        if name.startswith(f"{kind}: "):
            assert rows_of(make()) == words[name], name


def test_the_order_of_checks_is_the_documented_one() -> None:
    assert tuple(one.name for one in check_input(made_head(12, 5.0))) == CHECKS


def test_a_check_may_be_named_alone() -> None:
    assert read_accepted("air") == {"air"}


@pytest.mark.parametrize(("verdict", "named"), [("warning", ("air",)), ("refusal", ("air",)), ("pass", ())])
def test_doubts_are_the_checks_that_did_not_pass(verdict: Verdict, named: tuple[str, ...]) -> None:
    black = {"warning": 0.8, "refusal": 0.4, "pass": 1.0}[verdict]
    assert list_doubts(replace(LOOK, border=(black, 0.0))) == named
    assert list_doubts(replace(LOOK, head=None, border=(black, 0.0))) == (*named, "field of view")


if __name__ == "__main__":
    with WORDS.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, make in CASES.items():
            writer.writerows([name, *row] for row in rows_of(make()))
    sys.exit()
