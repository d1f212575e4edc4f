"""A CT series that was read: its volume, and the way back to its own slices."""

from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from bleedmap.arrays import AnyArray
from bleedmap.geometry import PlaneTurn
from bleedmap.io.acquisition import Acquisition
from bleedmap.volume import Volume


@dataclass(frozen=True)
class SeriesChoice:
    """One series that was found, and what became of it.

    Attributes:
        number: (0020,0011), None where the files give none.
        description: (0008,103E).
        instances: how many files.
        chosen: whether it is the one that was read.
        reason: why, in a clause: 'thickest axial soft-tissue series', 'bone kernel (H70h)', 'a scout of 1 image'.
    """

    number: int | None
    description: str
    instances: int
    chosen: bool
    reason: str


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """One series, ready to segment and to refer to.

    Attributes:
        volume: in HU, in the standard view: slices feet to head, rows front to back, columns right to left.
        turn: from the stored rows and columns to that view.
        headers: of the instances, without pixels: one a slice in the volume's order, or a single one (multi-frame).
        frames: each slice's frame number from 1 in the single multi-frame instance; None for single-frame instances.
        acquisition: how it was made.
        notes: what reading had to decide, each a sentence with its figures ('2 doubled slices left out …').
        choice: every series found; the chosen one first.
    """

    volume: Volume
    turn: PlaneTurn
    headers: tuple[Dataset, ...]
    frames: tuple[int, ...] | None
    acquisition: Acquisition
    notes: tuple[str, ...]
    choice: tuple[SeriesChoice, ...]

    def header_of(self, index: int) -> Dataset:
        """The instance that holds slice `index` (from 0)."""
        return self.headers[0] if self.frames is not None else self.headers[index]

    def as_stored(self, planes: AnyArray) -> AnyArray:
        """(slice, row, column) in the standard view -> with the rows and columns as stored."""
        return np.ascontiguousarray(self.turn.undo(planes))
