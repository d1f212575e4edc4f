"""The scans of the geometry matrix: what differs between them, the pairs that are tried, and what must be refused."""

from dataclasses import dataclass
from functools import lru_cache

from bleedmap.geometry import PlaneTurn
from bleedmap.phantom.dicom import TRANSFER_SYNTAXES
from pairwise import pairwise

# How the patient lies turns the picture in the patient's axes: PS3.3 C.7.3.1.1.2. Seen from the feet if head first.
POSITIONS = {
    "HFS": PlaneTurn(),
    "HFP": PlaneTurn(False, True, True),
    "HFDL": PlaneTurn(True, True, False),
    "HFDR": PlaneTurn(True, False, True),
    "FFS": PlaneTurn(False, False, True),
    "FFP": PlaneTurn(False, True, False),
    "FFDL": PlaneTurn(True, False, False),
    "FFDR": PlaneTurn(True, True, True),
}
PLANES = {
    "axial": (0.0, 0.0, 0.0),
    "oblique 10°": (6.0, -8.0, 5.0),
    "oblique 25°": (4.0, 24.0, -12.0),
    "oblique 50°": (50.0, 0.0, 0.0),
    "coronal": (90.0, 0.0, 0.0),
    "sagittal": (0.0, 90.0, 0.0),
}
LEFT_OUT = ("one without a place", "one turned by 3°")  # such a slice is not read, and a note says so
# table steps in mm, one after the other and again; thickness in mm, or None for the steps' own
SPACINGS: dict[str, tuple[tuple[float, ...], float | None]] = {
    "0.5 mm": ((0.5,), None),
    "1.25 mm": ((1.25,), None),
    "2.5 mm": ((2.5,), None),
    "3.75 mm": ((3.75,), None),
    "5 mm": ((5.0,), None),
    "7.5 mm": ((7.5,), None),
    "10 mm": ((10.0,), None),
    "uneven 3–7 mm": ((3.0, 3.0, 5.0, 7.0), None),
    "overlapping, 4 of 6 mm": ((4.0,), 6.0),
    "apart, 5 of 3 mm": ((5.0,), 3.0),
}
THIN = ("0.5 mm", "1.25 mm")
PIXELS = {
    "1.8 × 1.8 mm, 108 × 108": ((108, 108), (1.8, 1.8)),
    "1.73 × 2.11 mm, 127 × 113": ((127, 113), (1.73, 2.11)),
}


@dataclass(frozen=True)
class Case:
    """One row: a scan, and how it was written."""

    position: str = "HFS"
    plane: str = "axial"
    tilt_deg: float = 0.0
    spacing: str = "5 mm"
    gaps: str = "none"
    pixels: str = "1.8 × 1.8 mm, 108 × 108"
    syntax: str = "explicit"
    form: str = "classic"
    padding: bool = False
    expected: str = ""  # of a refusal: what its message says

    @property
    def is_even(self) -> bool:
        """Whether all slices that are read lie equally far apart."""
        return self.gaps in ("none", "one doubled") and not self.spacing.startswith("uneven")

    @property
    def limited(self) -> str:
        """Why these slices themselves hold the volume less well than within 2 %; '' where they must."""
        coarse = self.spacing in ("7.5 mm", "10 mm") or self.spacing.startswith("uneven")
        two_of_five = self.gaps == "two missing" and self.spacing in ("5 mm", "apart, 5 of 3 mm")
        return "too few slices" if two_of_five or (coarse and self.gaps.endswith("missing")) else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader must be told, parts of sentences."""
        said = {
            "The gantry was tilted by": bool(self.tilt_deg),
            "The slices are uneven": self.spacing.startswith("uneven"),
            "The slices overlap": self.spacing.startswith("overlapping"),
            "There are gaps between all slices": self.spacing.startswith("apart"),
            "to be missing": self.gaps.endswith("missing") and not self.spacing.startswith("uneven"),
            "1 doubled slice was left out": self.gaps == "one doubled",
            "that belong together were read": self.gaps in LEFT_OUT,
            "outside the field of view (padding": self.padding,
        }
        return tuple(words for words, needed in said.items() if needed)


SCAN = ("plane", "tilt_deg", "spacing", "gaps", "pixels")  # what a scan depends on; the rest is how it is written
FACTORS = {
    "position": tuple(POSITIONS),
    "syntax": tuple(TRANSFER_SYNTAXES),
    "spacing": tuple(SPACINGS)[3:],  # thin slices are many: rows of their own below
    "gaps": ("none", "one missing", "two missing", "one doubled"),
    "tilt_deg": (0.0, 15.0, -15.0, 25.0),
    "plane": ("axial", "oblique 10°", "oblique 25°"),
    "pixels": tuple(PIXELS),
    "form": ("classic", "enhanced"),
    "padding": (False, True),
}
FEW = (
    Case(spacing="0.5 mm", position="HFDR", gaps="two missing", syntax="jpeg-2000", form="enhanced"),
    Case(spacing="1.25 mm", position="FFP", plane="oblique 25°", tilt_deg=15.0, syntax="jpeg-ls", padding=True),
    Case(spacing="1.25 mm", position="HFP", plane="oblique 10°", gaps="one doubled", syntax="rle", tilt_deg=-15.0),
    Case(spacing="2.5 mm", position="FFDL", gaps="one missing", tilt_deg=25.0, form="enhanced", syntax="jpeg"),
    Case(gaps="one without a place"),  # left out, which a note says
    Case(gaps="one turned by 3°", syntax="jpeg"),
)
REFUSED = (
    Case(plane="coronal", expected="coronal, 90° from axial"),
    Case(plane="coronal", form="enhanced", position="FFDL", expected="coronal, 90° from axial"),
    Case(plane="sagittal", expected="sagittal, 90° from axial"),
    Case(plane="oblique 50°", expected="coronal, 50° from axial"),
    Case(gaps="one doubled, different", expected="a slice at the place of another"),
    Case(gaps="one doubled, different", tilt_deg=25.0, syntax="jpeg-ls", expected="a slice at the place of another"),
    Case(gaps="six missing", expected="a gap of 35.0 mm between slices"),
    Case(gaps="six missing", form="enhanced", expected="a gap of 35.0 mm between slices"),
)


def allowed(row: dict[str, object]) -> bool:
    """A multi-frame instance with one frame twice is not tried: the phantom's writer has no way to say it."""
    return not (row.get("form") == "enhanced" and row.get("gaps") == "one doubled")


@lru_cache
def rows_of_pairs() -> list[dict[str, object]]:
    """Every pair of two factors' values; of the scans, which take the time, only as many as their own pairs need."""
    scans = pairwise({name: values for name, values in FACTORS.items() if name in SCAN}, allowed)
    return pairwise(
        FACTORS,
        allowed,
        [row for row in scans if row["gaps"] != "one doubled"]
        + [{**row, "form": "classic"} for row in scans if row["gaps"] == "one doubled"],
    )


def cases() -> list[Case]:
    """The whole matrix: the pairs, the thin slices, the refusals; those of one scan follow one another."""
    found = [*(Case(**row) for row in rows_of_pairs()), *FEW, *REFUSED]
    return sorted(found, key=lambda one: tuple(str(getattr(one, name)) for name in SCAN))
