"""CT windows: Hounsfield units to grey and back."""

from dataclasses import dataclass

import numpy as np

from bleedmap.arrays import AnyArray, FloatArray
from bleedmap.errors import SettingsError


@dataclass(frozen=True)
class Window:
    """A linear window: `level_hu` shows as mid-grey, `width_hu` spans black to white."""

    level_hu: float
    width_hu: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.level_hu) and np.isfinite(self.width_hu) and self.width_hu > 0):
            raise SettingsError(
                "window",
                found=f"level {self.level_hu}, width {self.width_hu}",
                needed="finite numbers and a width above 0",
                remedy="give level and width in HU, for example 40 120",
            )

    @property
    def lowest_hu(self) -> float:
        """The HU value shown as black."""
        return self.level_hu - self.width_hu / 2

    def to_unit(self, hu: AnyArray) -> FloatArray:
        """HU of any shape -> 0 to 1, clipped."""
        scaled = (np.asarray(hu, dtype=np.float32) - np.float32(self.lowest_hu)) / np.float32(self.width_hu)
        return np.clip(scaled, 0, 1, out=scaled)

    def to_hu(self, grey: AnyArray) -> FloatArray:
        """8-bit grey of any shape -> HU; what the window clipped stays clipped."""
        return np.float32(self.lowest_hu) + np.asarray(grey, np.float32) * np.float32(self.width_hu / 255)


BLACK_GREY, WHITE_GREY = 5, 250  # 8-bit greys that JPEG may have moved off the ends of a window

# The brain window of CT-ICH's JPEG release, as its authors' later code has it (Hssayeni et al., Data 2020, 5(1), 14).
BRAIN = Window(level_hu=40, width_hu=120)
# What lies above it, up to dense bone: 100 to 1300 HU.
BONE = Window(level_hu=700, width_hu=1200)


def picture_to_hu(grey: AnyArray, window: Window) -> FloatArray:
    """8-bit grey of any shape -> HU as the brain window shows them, of a picture that was exported in another.

    What the other window shows white may be bone, and black air: where its ends lie within the brain window, they
    become that one's. Left at 80 HU, the skull of a window that ends there would look like blood.
    """
    hu = window.to_hu(grey)
    black, white = BRAIN.lowest_hu, BRAIN.lowest_hu + BRAIN.width_hu
    if window.lowest_hu > black:
        hu[grey <= BLACK_GREY] = black
    if window.lowest_hu + window.width_hu < white:
        hu[grey >= WHITE_GREY] = white
    return hu
