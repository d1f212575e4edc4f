"""What a baseline is: two sides of a split in, a score (and perhaps a mask) for each test slice out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bleedmap.arrays import BoolArray, FloatArray, Progress
from bleedmap.errors import SplitError
from bleedmap.training.device import Machine
from bleedmap.training.samples import Side


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a baseline says of the n test slices, in their order."""

    score: FloatArray  # (n,) how likely a bleed is in each, higher is likelier; comparable within a method
    mask: BoolArray | None  # (n, size, size) bool, None for a method that only classifies slices
    extra: dict[str, list[Any]]  # columns of (n,) of the method's own
    parameters: int | None  # trained numbers, None where the method has no such count


# (training side, test side, machine, seed, progress(done, of)) -> what it says of the test side.
Baseline = Callable[[Side, Side, Machine, int, Progress], Prediction]


def grey(side: Side) -> FloatArray:
    """A side's inputs (n, size, size) in 0 to 1, on the CPU."""
    return np.asarray(side.inputs[:, 0].cpu().numpy())


def bleeds_to_learn(training: Side) -> BoolArray:
    """(n,) whether each training slice bleeds.

    Raises:
        SplitError: all of them do, or none: nothing can be told apart.
    """
    bleeds = training.has_lesion
    if bleeds.all() or not bleeds.any():
        raise SplitError(
            "training side",
            found=f"{int(bleeds.sum())} of {len(bleeds)} slices bleed",
            needed="slices with and without a bleed",
            remedy="use a split with both, as `bleedmap split` makes them",
        )
    return bleeds
